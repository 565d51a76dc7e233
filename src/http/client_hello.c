/* client_hello.c: what a ClientHello says (RFC 8446 section 4.1.2; server_name RFC 6066 section 3,
 * ALPN RFC 7301, GREASE RFC 8701, Encrypted Client Hello RFC 9849). Every length is checked
 * against what is there, every vector has to be used up, no extension may stand twice: two readers
 * of one hello must not see two names in it. Where it lies is client_hello_scan.c's. */
#include "weir/base/addr.h"
#include "weir/http/uri.h"

#include "client_hello_priv.h"

enum { RANDOM_LEN = 32, VERSION_TLS_1_2 = 0x0303, HOST_NAME = 0, ECH_OUTER = 0, ECH_INNER = 1 };

/* extension types that are read */
enum { EXT_SERVER_NAME = 0, EXT_ALPN = 16, EXT_PSK = 41, EXT_EARLY_DATA = 42 };
enum { EXT_VERSIONS = 43, EXT_ECH = 0xfe0d };

/* fault_row is a row of client_hello_fault.def. */
struct fault_row {
  struct span word, text;
};

static const struct fault_row faults[HELLO_FAULT_COUNT] = {
#define FAULT(id, name, words) \
  [HELLO_FAULT_##id] = {.word = {name, sizeof(name) - 1}, .text = {words, sizeof(words) - 1}},
#include "weir/http/client_hello_fault.def"
#undef FAULT
};

struct span hello_fault_word(enum hello_fault fault) {
  check(fault > HELLO_FAULT_NONE && fault < HELLO_FAULT_COUNT);
  return faults[fault].word;
}

struct span hello_fault_text(enum hello_fault fault) {
  check(fault > HELLO_FAULT_NONE && fault < HELLO_FAULT_COUNT);
  return faults[fault].text;
}

/* ---- pieces ---- */

/* cut takes len bytes off *rest; false: they are not all there. */
static bool cut(struct span *rest, size_t len, struct span *out) {
  if (rest->len < len) return false;
  *out = span_sub(*rest, 0, len);
  *rest = span_from(*rest, len);
  return true;
}

static bool cut_u16(struct span *rest, uint16_t *out) {
  struct span two;
  if (!cut(rest, 2, &two)) return false;
  *out = hello_be16(two.ptr);
  return true;
}

/* cut_vector8 and cut_vector16 take a length of one or two bytes, and so many bytes. */
static bool cut_vector8(struct span *rest, struct span *out) {
  struct span one;
  return cut(rest, 1, &one) && cut(rest, (uint8_t)one.ptr[0], out);
}

static bool cut_vector16(struct span *rest, struct span *out) {
  uint16_t len;
  return cut_u16(rest, &len) && cut(rest, len, out);
}

/* is_grease: 0x0a0a, 0x1a1a to 0xfafa. */
static bool is_grease(uint16_t value) {
  return (value & 0x0f0f) == 0x0a0a && value >> 8 == (value & 0xff);
}

static bool has_grease(struct span values) {
  uint16_t value;
  while (cut_u16(&values, &value))
    if (is_grease(value)) return true;
  return false;
}

/* ---- extensions ---- */

/* hello_read is one message on its way. */
struct hello_read {
  struct client_hello h;
  struct arena *arena;
  uint16_t seen[CLIENT_HELLO_EXTENSIONS_MAX];
};

static bool looks_like_port(struct span name) {
  return span_find_char(name, ':', 0) != SIZE_MAX || span_starts(name, SPAN_LIT("["));
}

/* read_host makes the name canonical. An address is no host name (RFC 6066 section 3), and a port
 * has no place here: who sends such a thing names nobody. */
static enum hello_fault read_host(struct hello_read *r, struct span name) {
  struct http_host host;
  struct addr ip;
  enum end why = END_BAD_REQUEST_HOST;
  bool good = !looks_like_port(name) && http_host_canonical(name, r->arena, &host, &why);
  if (!good && why != END_BAD_REQUEST_HOST) return HELLO_FAULT_MEMORY;
  r->h.host_bad = !good || addr_from_ip(host.name, 0, &ip);
  if (!r->h.host_bad) r->h.host = host.name;
  return HELLO_FAULT_NONE;
}

static enum hello_fault read_server_name(struct hello_read *r, struct span data) {
  struct span list, type, name;
  if (!cut_vector16(&data, &list) || data.len > 0) return HELLO_FAULT_NAME;
  if (!cut(&list, 1, &type) || type.ptr[0] != HOST_NAME) return HELLO_FAULT_NAME;
  if (!cut_vector16(&list, &name) || list.len > 0 || name.len == 0) return HELLO_FAULT_NAME;
  return read_host(r, name);
}

static enum hello_fault read_alpn(struct hello_read *r, struct span data) {
  struct span list, rest, name;
  if (!cut_vector16(&data, &list) || data.len > 0 || list.len == 0) return HELLO_FAULT_ALPN;
  for (rest = list; rest.len > 0;)
    if (!cut_vector8(&rest, &name) || name.len == 0) return HELLO_FAULT_ALPN;
  r->h.alpn = list;
  return HELLO_FAULT_NONE;
}

static enum hello_fault read_versions(struct hello_read *r, struct span data) {
  struct span list;
  uint16_t version, most = 0, least = UINT16_MAX;
  if (!cut_vector8(&data, &list) || data.len > 0 || list.len % 2) return HELLO_FAULT_VERSIONS;
  r->h.grease |= has_grease(list);
  while (cut_u16(&list, &version)) {
    if (version >> 8 != HELLO_MAJOR) continue; /* GREASE, drafts */
    if (version > most) most = version;
    if (version < least) least = version;
  }
  if (most == 0) return HELLO_FAULT_VERSIONS;
  r->h.version_max = most;
  r->h.version_min = least;
  return HELLO_FAULT_NONE;
}

/* read_ech: an inner hello comes from a server in front that has decrypted it: its name is true.
 */
static enum hello_fault read_ech(struct hello_read *r, struct span data) {
  struct span type, suite_and_id, enc, payload;
  if (!cut(&data, 1, &type)) return HELLO_FAULT_ECH;
  if (type.ptr[0] == ECH_INNER) return data.len == 0 ? HELLO_FAULT_NONE : HELLO_FAULT_ECH;
  if (type.ptr[0] != ECH_OUTER || !cut(&data, 5, &suite_and_id)) return HELLO_FAULT_ECH;
  if (!cut_vector16(&data, &enc) || !cut_vector16(&data, &payload)) return HELLO_FAULT_ECH;
  if (payload.len == 0 || data.len > 0) return HELLO_FAULT_ECH;
  r->h.ech = true;
  return HELLO_FAULT_NONE;
}

static enum hello_fault read_extension(struct hello_read *r, uint16_t type, struct span data) {
  r->h.grease |= is_grease(type);
  switch (type) {
    case EXT_SERVER_NAME: return read_server_name(r, data);
    case EXT_ALPN: return read_alpn(r, data);
    case EXT_VERSIONS: return read_versions(r, data);
    case EXT_ECH: return read_ech(r, data);
    case EXT_PSK: r->h.psk = true; return HELLO_FAULT_NONE;
    case EXT_EARLY_DATA: r->h.early_data = true; return HELLO_FAULT_NONE;
    default: return HELLO_FAULT_NONE; /* a number of the wire, not an enum */
  }
}

/* note_seen: no type may come twice (RFC 8446 section 4.2). */
static enum hello_fault note_seen(struct hello_read *r, uint16_t type) {
  uint16_t count = r->h.extension_count;
  for (uint16_t i = 0; i < count; i++)
    if (r->seen[i] == type) return HELLO_FAULT_EXTENSION_REPEATED;
  if (count == CLIENT_HELLO_EXTENSIONS_MAX) return HELLO_FAULT_EXTENSION_COUNT;
  r->seen[r->h.extension_count++] = type;
  return HELLO_FAULT_NONE;
}

static enum hello_fault read_extensions(struct hello_read *r, struct span list) {
  enum hello_fault fault = HELLO_FAULT_NONE;
  while (list.len > 0 && fault == HELLO_FAULT_NONE) {
    uint16_t type;
    struct span data;
    if (!cut_u16(&list, &type) || !cut_vector16(&list, &data)) return HELLO_FAULT_EXTENSION_CUT;
    if (r->h.psk) return HELLO_FAULT_PSK; /* it covers all that stands before it (4.2.11) */
    fault = note_seen(r, type);
    if (fault == HELLO_FAULT_NONE) fault = read_extension(r, type, data);
  }
  return fault;
}

/* ---- the message ---- */

static enum hello_fault read_message(struct hello_read *r, struct span rest) {
  struct client_hello *h = &r->h;
  struct span head, compressions, extensions;
  uint16_t version;
  if (!cut(&rest, CLIENT_HELLO_HEAD, &head)) return HELLO_FAULT_SHORT;
  uint32_t len = (uint32_t)(uint8_t)head.ptr[1] << 16 | hello_be16(head.ptr + 2);
  if (head.ptr[0] != HELLO_TYPE || len != rest.len) return HELLO_FAULT_MESSAGE;
  if (!cut_u16(&rest, &version) || !cut(&rest, RANDOM_LEN, &h->random)) return HELLO_FAULT_SHORT;
  if (version >> 8 != HELLO_MAJOR) return HELLO_FAULT_VERSION;
  h->version_max = version < VERSION_TLS_1_2 ? version : VERSION_TLS_1_2; /* RFC 8446 D.2 */
  if (!cut_vector8(&rest, &h->session_id) || h->session_id.len > CLIENT_HELLO_SESSION_ID_MAX)
    return HELLO_FAULT_SESSION_ID;
  if (!cut_vector16(&rest, &h->ciphers) || h->ciphers.len == 0 || h->ciphers.len % 2)
    return HELLO_FAULT_CIPHERS;
  if (!cut_vector8(&rest, &compressions) || span_find_char(compressions, 0, 0) == SIZE_MAX)
    return HELLO_FAULT_COMPRESSION;
  h->grease = has_grease(h->ciphers);
  if (rest.len == 0) return HELLO_FAULT_NONE; /* before TLS 1.2 there may be no extensions */
  if (!cut_vector16(&rest, &extensions) || rest.len > 0) return HELLO_FAULT_EXTENSIONS;
  return read_extensions(r, extensions);
}

bool client_hello_parse(struct span message, struct arena *arena, struct client_hello *out,
                        enum hello_fault *why) {
  struct hello_read r;
  r.h = (struct client_hello){.host = SPAN_EMPTY};
  r.arena = arena;
  enum hello_fault fault = read_message(&r, message);
  if (fault != HELLO_FAULT_NONE) {
    *why = fault;
    return false;
  }
  *out = r.h;
  return true;
}

bool client_hello_alpn(struct span *rest, struct span *protocol) {
  return cut_vector8(rest, protocol);
}

bool client_hello_offers(const struct client_hello *hello, struct span protocol) {
  struct span rest = hello->alpn, name;
  while (client_hello_alpn(&rest, &name))
    if (span_eq(name, protocol)) return true;
  return false;
}
