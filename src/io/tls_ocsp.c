/* tls_ocsp.c: OCSP responses that are stapled to certificates (RFC 6066 section 8, RFC 8446
 * section 4.4.2.1): read from DER (RFC 6960), and held against the certificate: successful, basic,
 * with a "good" for its serial number and issuer, and an end. The signature is not verified:
 * clients do, and who can write the file can write the certificate. When it is stapled:
 * tls_select.c. Called by tls_server.c, off the data path. */
#include <openssl/bytestring.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include <time.h>

#include "io/tls_priv.h"

#define OCSP_DER_MAX 65535u
#define CONTEXT(n) (CBS_ASN1_CONTEXT_SPECIFIC | (n))
#define EXPLICIT(n) (CBS_ASN1_CONSTRUCTED | CONTEXT(n))

/* single is one SingleResponse, taken apart. */
struct single {
  CBS algorithm, name_hash, key_hash, serial;
  unsigned status; /* tag: CONTEXT(0) good, EXPLICIT(1) revoked, CONTEXT(2) unknown */
  int64_t this_update, next_update;
  bool has_end;
};

/* subject is what the response must be about. */
struct subject {
  X509 *leaf, *issuer; /* issuer NULL: not in the chain */
  CBS serial;
};

/* ---- DER ---- */

/* digits reads so many decimal digits; -1: they are none. */
static int digits(CBS *in, int count) {
  int value = 0;
  uint8_t c = 0;
  for (int i = 0; i < count; i++) {
    if (!CBS_get_u8(in, &c) || c < '0' || c > '9') return -1;
    value = value * 10 + (c - '0');
  }
  return value;
}

/* time_get reads a GeneralizedTime of the one form that DER has: YYYYMMDDHHMMSSZ. */
static bool time_get(CBS *in, int64_t *seconds) {
  CBS text;
  uint8_t zone = 0;
  if (!CBS_get_asn1(in, &text, CBS_ASN1_GENERALIZEDTIME)) return false;
  struct tm tm = {.tm_isdst = 0};
  tm.tm_year = digits(&text, 4) - 1900;
  tm.tm_mon = digits(&text, 2) - 1;
  tm.tm_mday = digits(&text, 2);
  tm.tm_hour = digits(&text, 2);
  tm.tm_min = digits(&text, 2);
  tm.tm_sec = digits(&text, 2);
  bool good = tm.tm_year >= 70 && tm.tm_mon >= 0 && tm.tm_mon < 12 && tm.tm_mday >= 1 &&
              tm.tm_mday <= 31 && tm.tm_hour >= 0 && tm.tm_min >= 0 && tm.tm_sec >= 0;
  if (!good || !CBS_get_u8(&text, &zone) || zone != 'Z' || CBS_len(&text) != 0) return false;
  *seconds = (int64_t)timegm(&tm);
  return true;
}

static bool next_update_get(CBS *in, struct single *out) {
  CBS explicit_time;
  int present = 0;
  if (!CBS_get_optional_asn1(in, &explicit_time, &present, EXPLICIT(0))) return false;
  out->has_end = present != 0;
  return !present || (time_get(&explicit_time, &out->next_update) && CBS_len(&explicit_time) == 0);
}

static bool single_get(CBS *in, struct single *out) {
  CBS single, id, algorithm, status;
  *out = (struct single){.has_end = false};
  return CBS_get_asn1(in, &single, CBS_ASN1_SEQUENCE) &&
         CBS_get_asn1(&single, &id, CBS_ASN1_SEQUENCE) &&
         CBS_get_asn1(&id, &algorithm, CBS_ASN1_SEQUENCE) &&
         CBS_get_asn1(&algorithm, &out->algorithm, CBS_ASN1_OBJECT) &&
         CBS_get_asn1(&id, &out->name_hash, CBS_ASN1_OCTETSTRING) &&
         CBS_get_asn1(&id, &out->key_hash, CBS_ASN1_OCTETSTRING) &&
         CBS_get_asn1(&id, &out->serial, CBS_ASN1_INTEGER) && CBS_len(&id) == 0 &&
         CBS_get_any_asn1(&single, &status, &out->status) &&
         time_get(&single, &out->this_update) && next_update_get(&single, out);
}

/* basic_get goes down to the list of responses. */
static bool basic_get(CBS bytes, CBS *responses) {
  static const uint8_t basic_oid[] = {0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1}; /* id-pkix-ocsp-basic */
  CBS type, octets, basic, data, responder, when;
  unsigned tag;
  int present;
  return CBS_get_asn1(&bytes, &type, CBS_ASN1_OBJECT) &&
         CBS_mem_equal(&type, basic_oid, sizeof(basic_oid)) &&
         CBS_get_asn1(&bytes, &octets, CBS_ASN1_OCTETSTRING) &&
         CBS_get_asn1(&octets, &basic, CBS_ASN1_SEQUENCE) && CBS_len(&octets) == 0 &&
         CBS_get_asn1(&basic, &data, CBS_ASN1_SEQUENCE) &&
         CBS_get_optional_asn1(&data, NULL, &present, EXPLICIT(0)) &&
         CBS_get_any_asn1(&data, &responder, &tag) &&
         CBS_get_asn1(&data, &when, CBS_ASN1_GENERALIZEDTIME) &&
         CBS_get_asn1(&data, responses, CBS_ASN1_SEQUENCE);
}

/* outer_get: the list of responses, or NULL for a status: *status is 0 when it was successful. */
static bool outer_get(struct span der, uint8_t *status, CBS *responses) {
  CBS in, outer, word, wrapped, bytes;
  CBS_init(&in, (const uint8_t *)der.ptr, der.len);
  if (!CBS_get_asn1(&in, &outer, CBS_ASN1_SEQUENCE) || CBS_len(&in) != 0) return false;
  if (!CBS_get_asn1(&outer, &word, CBS_ASN1_ENUMERATED) || !CBS_get_u8(&word, status) ||
      CBS_len(&word) != 0)
    return false;
  if (*status != 0) return true;
  return CBS_get_asn1(&outer, &wrapped, EXPLICIT(0)) && CBS_len(&outer) == 0 &&
         CBS_get_asn1(&wrapped, &bytes, CBS_ASN1_SEQUENCE) && CBS_len(&wrapped) == 0 &&
         basic_get(bytes, responses);
}

/* ---- whom it is about ---- */

static const EVP_MD *hash_of(const CBS *oid) {
  static const uint8_t sha1[] = {0x2b, 0x0e, 3, 2, 0x1a};
  static const uint8_t sha256[] = {0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1};
  if (CBS_mem_equal(oid, sha1, sizeof(sha1))) return EVP_sha1();
  return CBS_mem_equal(oid, sha256, sizeof(sha256)) ? EVP_sha256() : NULL;
}

/* issuer_fits: the name always, the key where the chain has the issuer. */
static bool issuer_fits(const struct single *single, const struct subject *subject) {
  uint8_t digest[EVP_MAX_MD_SIZE];
  unsigned len = 0;
  const EVP_MD *md = hash_of(&single->algorithm);
  if (!md || !X509_NAME_digest(X509_get_issuer_name(subject->leaf), md, digest, &len) ||
      !CBS_mem_equal(&single->name_hash, digest, len))
    return false;
  return !subject->issuer || (X509_pubkey_digest(subject->issuer, md, digest, &len) &&
                              CBS_mem_equal(&single->key_hash, digest, len));
}

static bool fits(const struct single *single, const struct subject *subject) {
  return CBS_mem_equal(&single->serial, CBS_data(&subject->serial), CBS_len(&subject->serial)) &&
         issuer_fits(single, subject);
}

/* find gives the single response about subject; false: the DER is broken; *found: there is one. */
static bool find(CBS responses, const struct subject *subject, struct single *out, bool *found) {
  *found = false;
  while (CBS_len(&responses) && !*found) {
    if (!single_get(&responses, out)) return false;
    *found = fits(out, subject);
  }
  return true;
}

/* subject_of: the serial number as DER has it, sign and all. */
static bool subject_of(const struct tls_cert *cert, struct subject *out, uint8_t **serial_der) {
  *out = (struct subject){.leaf = X509_parse_from_buffer(cert->chain[0])};
  if (cert->chain_count > 1) out->issuer = X509_parse_from_buffer(cert->chain[1]);
  int len = i2d_ASN1_INTEGER(X509_get_serialNumber(out->leaf), serial_der);
  CBS der;
  CBS_init(&der, *serial_der, len > 0 ? (size_t)len : 0);
  return CBS_get_asn1(&der, &out->serial, CBS_ASN1_INTEGER) == 1;
}

/* ---- the response ---- */

static const char *status_text(uint8_t status) {
  static const char *const texts[] = {NULL,
                                      "the request was malformed",
                                      "the responder had an internal error",
                                      "try later",
                                      NULL,
                                      "the request must be signed",
                                      "unauthorized"};
  return status < array_count(texts) && texts[status] ? texts[status] : "another status";
}

/* wrong says what is wrong with the response about subject; NULL: nothing, and *single is it. */
static const char *wrong(struct span der, const struct subject *subject, struct single *single) {
  CBS responses;
  uint8_t status = 0;
  bool found = false;
  if (der.len > OCSP_DER_MAX || !outer_get(der, &status, &responses))
    return "it is no OCSP response in DER";
  if (status != 0) return status_text(status);
  if (!find(responses, subject, single, &found)) return "it is no OCSP response in DER";
  if (!found) return "it is about another certificate";
  if (single->status == EXPLICIT(1)) return "it says that the certificate was revoked";
  if (single->status != CONTEXT(0)) return "it says that the responder does not know it";
  return single->has_end ? NULL : "it does not say how long it holds (nextUpdate)";
}

bool tls_ocsp_load(struct tls_cert *cert, struct span der, struct span label, struct arena *arena,
                   struct buf *why) {
  if (!der.len) return true;
  struct subject subject;
  struct single single;
  uint8_t *serial_der = NULL;
  const char *fault =
      subject_of(cert, &subject, &serial_der) ? wrong(der, &subject, &single) : "no serial number";
  X509_free(subject.leaf);
  X509_free(subject.issuer);
  OPENSSL_free(serial_der);
  ERR_clear_error();
  if (fault) {
    buf_printf(why, "certificate " SPAN_FMT ": OCSP response " SPAN_FMT ": %s",
               SPAN_ARG(cert->label), SPAN_ARG(label), fault);
    return false;
  }
  cert->ocsp = (struct tls_ocsp){.der = arena_copy(arena, der, NULL),
                                 .label = arena_copy(arena, label, NULL),
                                 .this_update = single.this_update,
                                 .next_update = single.next_update};
  return true;
}

bool tls_ocsp_valid(const struct tls_ocsp *ocsp, int64_t now_s) {
  return now_s >= ocsp->this_update && now_s < ocsp->next_update;
}

bool tls_server_ocsp(const struct tls_server *server, uint32_t i, struct span *label,
                     int64_t *next_update) {
  if (i >= server->cert_count || !server->certs[i].ocsp.der.len) return false;
  *label = server->certs[i].ocsp.label;
  *next_update = server->certs[i].ocsp.next_update;
  return true;
}

bool tls_server_stapled(const struct tls_server *server, uint32_t i, int64_t now_s) {
  if (i >= server->cert_count || !server->certs[i].ocsp.der.len) return false;
  return now_s < server->certs[i].ocsp.next_update;
}

bool tls_server_stale(const struct tls_server *server, int64_t now_s, uint32_t *bad,
                      struct buf *why) {
  for (uint32_t i = 0; i < server->cert_count; i++) {
    const struct tls_ocsp *ocsp = &server->certs[i].ocsp;
    if (!ocsp->der.len || tls_ocsp_valid(ocsp, now_s)) continue;
    *bad = i | TLS_BAD_OCSP;
    buf_printf(why, "OCSP response " SPAN_FMT " %s: it is not stapled", SPAN_ARG(ocsp->label),
               now_s < ocsp->this_update ? "is not valid yet" : "has ended");
    return true;
  }
  return false;
}
