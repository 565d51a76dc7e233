/* proxy_header_tlv.c: the elements (type, length, value) of a version 2 PROXY header, by the table
 * proxy_tlv.def; the TLS element has elements of its own, one level deep. Values are not looked
 * into. "The PROXY protocol", section 2.2. */
#include "proxy_header_priv.h"

enum { TLV_HEAD = 3, SSL_HEAD = 5, TLV_TYPES = 64 };

enum tlv_type {
#define TLV(id, type, least, most, repeats) TLV_##id = (type),
#include "weir/http/proxy_tlv.def"
#undef TLV
};

/* tlv_rule is a row of proxy_tlv.def. */
struct tlv_rule {
  uint16_t least, most;
  bool known, repeats;
};

static const struct tlv_rule rules[TLV_TYPES] = {
#define TLV(id, type, low, high, twice) \
  [type] = {.least = (low), .most = (high), .known = true, .repeats = (twice)},
#include "weir/http/proxy_tlv.def"
#undef TLV
};

/* tlv is one element. */
struct tlv {
  uint8_t type;
  struct span value;
};

/* walk is how far the elements of one level were read. */
struct walk {
  struct span rest;
  uint64_t seen; /* bit per type */
};

/* next cuts an element off and checks it by its row. */
static enum proxy_fault next(struct walk *w, struct tlv *out) {
  if (w->rest.len < TLV_HEAD) return PROXY_FAULT_TLV_CUT;
  size_t len = proxy_be16(w->rest.ptr + 1);
  if (len > w->rest.len - TLV_HEAD) return PROXY_FAULT_TLV_CUT;
  out->type = (uint8_t)w->rest.ptr[0];
  out->value = span_sub(w->rest, TLV_HEAD, len);
  w->rest = span_from(w->rest, TLV_HEAD + len);
  if (out->type >= TLV_TYPES || !rules[out->type].known) return PROXY_FAULT_NONE;
  const struct tlv_rule *rule = &rules[out->type];
  if (len < rule->least || len > rule->most) return PROXY_FAULT_TLV_LENGTH;
  if (!rule->repeats && w->seen >> out->type & 1) return PROXY_FAULT_TLV_REPEATED;
  w->seen |= (uint64_t)1 << out->type;
  return PROXY_FAULT_NONE;
}

static struct span *ssl_slot(struct proxy_ssl *ssl, uint8_t type) {
  switch (type) {
    case TLV_SSL_VERSION: return &ssl->version;
    case TLV_SSL_CN: return &ssl->cn;
    case TLV_SSL_CIPHER: return &ssl->cipher;
    case TLV_SSL_SIG_ALG: return &ssl->sig_alg;
    case TLV_SSL_KEY_ALG: return &ssl->key_alg;
    default: return NULL; /* a number of the wire, not an enum */
  }
}

static struct span *slot(struct proxy_header *h, uint8_t type) {
  switch (type) {
    case TLV_ALPN: return &h->alpn;
    case TLV_AUTHORITY: return &h->authority;
    case TLV_UNIQUE_ID: return &h->unique_id;
    case TLV_NETNS: return &h->netns;
    default: return NULL; /* a number of the wire, not an enum */
  }
}

static enum proxy_fault read_ssl(struct proxy_header *h, struct span value) {
  struct walk w = {.rest = span_from(value, SSL_HEAD)};
  struct tlv t;
  h->has_ssl = true;
  h->ssl.client = (uint8_t)value.ptr[0];
  h->ssl.verify = proxy_be32(value.ptr + 1);
  while (w.rest.len > 0) {
    enum proxy_fault fault = next(&w, &t);
    if (fault != PROXY_FAULT_NONE) return fault;
    struct span *to = ssl_slot(&h->ssl, t.type);
    if (to) *to = t.value;
  }
  return PROXY_FAULT_NONE;
}

static enum proxy_fault read_tlv(struct proxy_parse *p, const struct tlv *t, size_t *checksum) {
  if (t->type == TLV_SSL) return read_ssl(&p->h, t->value);
  if (t->type == TLV_CRC32C) *checksum = (size_t)(t->value.ptr - p->in.ptr);
  struct span *to = slot(&p->h, t->type);
  if (to) *to = t->value;
  return PROXY_FAULT_NONE;
}

bool proxy_tlvs_parse(struct proxy_parse *p, size_t from, size_t *checksum) {
  struct walk w = {.rest = span_from(p->in, from)};
  struct tlv t;
  *checksum = 0;
  while (w.rest.len > 0 && p->why == PROXY_FAULT_NONE) {
    p->why = next(&w, &t);
    if (p->why == PROXY_FAULT_NONE) p->why = read_tlv(p, &t, checksum);
  }
  return p->why == PROXY_FAULT_NONE;
}

static void put(struct buf *out, enum tlv_type type, struct span value) {
  if (value.len == 0) return;
  out->full |= value.len > rules[type].most;
  buf_char(out, (char)type);
  proxy_put16(out, (uint16_t)value.len);
  buf_put(out, value);
}

/* put_ssl: its length is known at the end. */
static void put_ssl(struct buf *out, const struct proxy_ssl *ssl) {
  buf_char(out, TLV_SSL);
  size_t at = out->len;
  proxy_put16(out, 0);
  buf_char(out, (char)ssl->client);
  proxy_put32(out, ssl->verify);
  put(out, TLV_SSL_VERSION, ssl->version);
  put(out, TLV_SSL_CN, ssl->cn);
  put(out, TLV_SSL_CIPHER, ssl->cipher);
  put(out, TLV_SSL_SIG_ALG, ssl->sig_alg);
  put(out, TLV_SSL_KEY_ALG, ssl->key_alg);
  if (out->full) return;
  size_t len = out->len - at - 2;
  out->ptr[at] = (char)(len >> 8);
  out->ptr[at + 1] = (char)len;
}

void proxy_header_keep(struct proxy_header *h, unsigned tlvs) {
  if (!(tlvs & PROXY_TLV_ALPN)) h->alpn = SPAN_EMPTY;
  if (!(tlvs & PROXY_TLV_AUTHORITY)) h->authority = SPAN_EMPTY;
  if (!(tlvs & PROXY_TLV_UNIQUE_ID)) h->unique_id = SPAN_EMPTY;
  h->has_ssl = h->has_ssl && tlvs & PROXY_TLV_SSL;
  h->checksum = h->checksum && tlvs & PROXY_TLV_CRC32C;
}

void proxy_tlvs_write(struct buf *out, const struct proxy_header *h, size_t *checksum) {
  put(out, TLV_ALPN, h->alpn);
  put(out, TLV_AUTHORITY, h->authority);
  put(out, TLV_UNIQUE_ID, h->unique_id);
  put(out, TLV_NETNS, h->netns);
  if (h->has_ssl) put_ssl(out, &h->ssl);
  if (!h->checksum) return;
  put(out, TLV_CRC32C, SPAN_LIT("\0\0\0\0"));
  if (!out->full) *checksum = out->len - 4;
}
