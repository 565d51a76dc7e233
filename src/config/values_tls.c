/* values_tls.c: the texts of tls groups and of routes.*.client_cert: names of certificates, pins,
 * groups and suites. Called by values_text.c and, for pins, by compile_upstream_tls.c and
 * compile_client_auth.c. */
#include "values_priv.h"

#define PIN_MARK SPAN_LIT("sha256:")

static bool is_name(struct span text) {
  char whole[512];
  struct buf b = buf_of(whole, sizeof whole);
  struct span host;
  uint16_t port;
  buf_put(&b, text);
  buf_lit(&b, ":1"); /* addr_split knows what a name is */
  return !b.full && span_find_char(text, ':', 0) == SIZE_MAX &&
         addr_split(buf_span(&b), &host, &port) == ADDR_NAME;
}

/* name makes the one form of a name or, in a list, of an address. */
static bool name(struct value_job *job) {
  struct addr addr;
  char written[320];
  struct buf b = buf_of(written, sizeof written);
  bool ip = addr_from_ip(job->text, 1, &addr);
  if (ip && job->option->id == OPTION_POOL_TLS_SNI)
    return value_refuse(job, FAULT_BAD_TLS_NAME,
                        "SNI has names only (RFC 6066); addresses stand in tls.names");
  if (!ip && !is_name(job->text))
    return value_refuse(job, FAULT_BAD_TLS_NAME, "like \"app.internal\", no wildcard, no port");
  if (ip) addr_write_ip(&addr, &b);
  for (size_t i = 0; !ip && i < job->text.len; i++) buf_char(&b, ascii_lower(job->text.ptr[i]));
  job->text = arena_copy(job->arena, buf_span(&b), NULL);
  return true;
}

static int hex(char c) {
  char low = ascii_lower(c);
  if (c >= '0' && c <= '9') return c - '0';
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

static bool pin(struct value_job *job) {
  struct span digits = span_starts(job->text, PIN_MARK) ? span_from(job->text, PIN_MARK.len)
                                                        : SPAN_EMPTY;
  bool good = digits.len == 2 * CONF_PIN_BYTES;
  for (size_t i = 0; good && i < digits.len; i++) good = hex(digits.ptr[i]) >= 0;
  if (!good && job->option->id == OPTION_ROUTE_CERT_FINGERPRINT)
    return value_refuse(job, FAULT_BAD_PIN, "openssl x509 -in CERT -outform der | sha256sum");
  return good || value_refuse(job, FAULT_BAD_PIN,
                              "openssl x509 -in CERT -noout -pubkey | openssl pkey -pubin "
                              "-outform der | sha256sum");
}

void pin_parse(struct span text, uint8_t out[CONF_PIN_BYTES]) {
  struct span digits = span_from(text, PIN_MARK.len);
  check(digits.len == 2 * CONF_PIN_BYTES);
  for (size_t i = 0; i < CONF_PIN_BYTES; i++)
    out[i] = (uint8_t)(hex(digits.ptr[2 * i]) << 4 | hex(digits.ptr[2 * i + 1]));
}

/* aliases: names that others have for a group or a suite, and ours. */
static const struct {
  const char *other, *note;
} aliases[] = {
    {"prime256v1", "it is \"P-256\" here"},
    {"secp256r1", "it is \"P-256\" here"},
    {"secp384r1", "it is \"P-384\" here"},
    {"secp521r1", "it is \"P-521\" here"},
    {"x25519", "it is \"X25519\" here"},
    {"TLS_AES_128_GCM_SHA256", "suites of TLS 1.3 are the library's"},
    {"TLS_AES_256_GCM_SHA384", "suites of TLS 1.3 are the library's"},
    {"TLS_CHACHA20_POLY1305_SHA256", "suites of TLS 1.3 are the library's"},
};

static bool word(struct value_job *job) {
  if (word_find(job->option->words, job->text) >= 0) return true;
  for (size_t i = 0; i < array_count(aliases); i++)
    if (span_eq(job->text, span_str(aliases[i].other)))
      return value_refuse(job, FAULT_BAD_WORD, aliases[i].note);
  return value_bad_word(job);
}

/* ---- subject alternative names ---- */

static bool bad_san(struct value_job *job) {
  return value_refuse(job, FAULT_BAD_SAN,
                      "known: \"dns:app.internal\" \"dns:*.internal\" \"uri:spiffe://prod/*\" "
                      "\"email:a@b.example\" \"ip:10.0.0.1\"");
}

static bool visible(struct span text) {
  for (size_t i = 0; i < text.len; i++)
    if (text.ptr[i] <= ' ' || text.ptr[i] > '~') return false;
  return text.len > 0;
}

/* stars_stand: none but the one that means something. */
static bool stars_stand(struct span text, bool uri) {
  size_t star = span_find_char(text, '*', 0);
  if (star == SIZE_MAX) return true;
  return uri && star == text.len - 1 && star > 0 && text.ptr[star - 1] == '/';
}

static bool san_dns(struct value_job *job, struct span value) {
  struct span name = span_starts(value, SPAN_LIT("*.")) ? span_from(value, 2) : value;
  if (!is_name(name)) return bad_san(job);
  char *lower = arena_bytes(job->arena, job->text.len);
  check(lower != NULL);
  for (size_t i = 0; i < job->text.len; i++) lower[i] = ascii_lower(job->text.ptr[i]);
  job->text = span_of(lower, job->text.len);
  return true;
}

static bool san_ip(struct value_job *job, struct span value) {
  struct addr addr;
  char written[80];
  struct buf b = buf_of(written, sizeof written);
  if (!addr_from_ip(value, 1, &addr)) return bad_san(job);
  buf_lit(&b, "ip:");
  addr_write_ip(&addr, &b);
  job->text = arena_copy(job->arena, buf_span(&b), NULL);
  return true;
}

static bool san(struct value_job *job) {
  size_t colon = span_find_char(job->text, ':', 0);
  if (colon == SIZE_MAX) return bad_san(job);
  struct span kind = span_sub(job->text, 0, colon), value = span_from(job->text, colon + 1);
  if (span_eq(kind, SPAN_LIT("dns"))) return san_dns(job, value);
  if (span_eq(kind, SPAN_LIT("ip"))) return san_ip(job, value);
  bool uri = span_eq(kind, SPAN_LIT("uri")), email = span_eq(kind, SPAN_LIT("email"));
  return ((uri || email) && visible(value) && stars_stand(value, uri)) || bad_san(job);
}

bool tls_text(struct value_job *job) {
  enum option_type type = job->option->type;
  if (type == TYPE_TLS_GROUP || type == TYPE_TLS_CIPHER) return word(job);
  if (type == TYPE_CERT_SAN) return san(job);
  return type == TYPE_TLS_PIN ? pin(job) : name(job);
}
