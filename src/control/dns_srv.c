/* dns_srv.c: SRV replies of a DNS server that nobody trusts (RFC 1035 section 4, RFC 2782): which
 * hosts and ports, by priority and weight, for how long. Our own reader because that of the c-ares
 * we run with drops the TTL. Does not: ask, or look into the additional section. Called by
 * resolver_round.c and fuzz_dns_srv. */
#include <stdlib.h>

#include "control/dns_priv.h"
#include "weir/base/mem.h"

#define HEADER_BYTES 12u
#define RR_FIXED_BYTES 10u /* type, class, ttl, length */
#define SRV_FIXED_BYTES 6u
#define SRV_RECORD_MIN 19u /* name as a pointer, fixed parts, the root as target */
#define LABEL_MAX 63u
#define NAME_LEN_MAX 253u /* as text; 255 bytes in a message (RFC 1035 section 2.3.4) */
#define JUMPS_MAX 32u     /* pointers of one name: more is an attack on our time */
#define ALIASES_MAX 8u

enum { TYPE_CNAME = 5, TYPE_SRV = 33, CLASS_IN = 1 };

/* ---- bytes; every read is checked by `has` before ---- */

static bool has(struct span p, size_t at, size_t n) { return at <= p.len && n <= p.len - at; }

static uint8_t byte_at(struct span p, size_t at) {
  check(at < p.len);
  return (uint8_t)p.ptr[at];
}

static uint16_t u16_at(struct span p, size_t at) {
  return (uint16_t)(byte_at(p, at) << 8 | byte_at(p, at + 1));
}

static uint32_t u32_at(struct span p, size_t at) {
  return (uint32_t)u16_at(p, at) << 16 | u16_at(p, at + 2);
}

/* ---- names ---- */

/* dns_name is a name as text. plain: it has the form of a host name. */
struct dns_name {
  char text[DNS_NAME_SIZE];
  size_t len;
  bool plain;
};

static bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool name_label(struct dns_name *n, struct span label) {
  if (n->len + (n->len > 0) + label.len > NAME_LEN_MAX) {
    return false;
  }
  if (n->len) {
    n->text[n->len++] = '.';
  }
  for (size_t i = 0; i < label.len; i++) {
    char c = ascii_lower(label.ptr[i]);
    n->plain = n->plain && is_plain(c);
    n->text[n->len++] = is_plain(c) ? c : '?';
  }
  return true;
}

/* name_read takes the name at *at, which moves behind it; pointers only lead backwards, so it
 * ends. */
static bool name_read(struct span p, size_t *at, struct dns_name *n) {
  size_t from = *at, low = *at;
  uint32_t jumps = 0;
  *n = (struct dns_name){.plain = true};
  while (has(p, from, 1)) {
    uint8_t len = byte_at(p, from);
    if (len >= 0xc0) {
      if (!has(p, from, 2) || ++jumps > JUMPS_MAX) return false;
      size_t to = u16_at(p, from) & 0x3fffu;
      if (jumps == 1) *at = from + 2;
      if (to >= low) return false;
      from = low = to;
      continue;
    }
    if (len > LABEL_MAX || !has(p, from + 1, len)) return false;
    from += 1u + len;
    if (len == 0) {
      if (jumps == 0) *at = from;
      return true;
    }
    if (!name_label(n, span_sub(p, from - len, len))) return false;
  }
  return false;
}

static bool name_same(const struct dns_name *a, const struct dns_name *b) {
  return a->plain && b->plain && a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

/* ---- records ---- */

struct record {
  struct dns_name owner;
  uint16_t type, class;
  uint32_t ttl_s;
  size_t data, data_len; /* within the packet */
};

static bool record_read(struct span p, size_t *at, struct record *r) {
  if (!name_read(p, at, &r->owner) || !has(p, *at, RR_FIXED_BYTES)) return false;
  r->type = u16_at(p, *at);
  r->class = u16_at(p, *at + 2);
  r->ttl_s = u32_at(p, *at + 4);
  if (r->ttl_s > INT32_MAX) r->ttl_s = 0; /* RFC 2181 section 8 */
  r->data_len = u16_at(p, *at + 8);
  r->data = *at + RR_FIXED_BYTES;
  if (!has(p, r->data, r->data_len)) return false;
  *at = r->data + r->data_len;
  return true;
}

/* message is the frame of a reply. */
struct message {
  struct span packet;
  size_t answers; /* where they begin */
  uint32_t answer_count;
  struct dns_name name; /* that was asked for; then what it is an alias of */
};

static bool message_read(struct span packet, struct message *m) {
  m->packet = packet;
  if (!has(packet, 0, HEADER_BYTES) || !(byte_at(packet, 2) & 0x80)) return false;
  if (u16_at(packet, 4) != 1) return false; /* one question, as we ask */
  m->answer_count = u16_at(packet, 6);
  m->answers = HEADER_BYTES;
  if (!name_read(packet, &m->answers, &m->name) || !has(packet, m->answers, 4)) return false;
  m->answers += 4;
  return true;
}

/* follow_aliases goes from name to name as long as the reply has a CNAME for it; false: broken, or
 * too long. Each turn looks at all records, for they may stand in any order. */
static bool follow_aliases(struct message *m, uint32_t *ttl_s) {
  for (uint32_t hops = 0; hops <= ALIASES_MAX; hops++) {
    bool found = false;
    size_t at = m->answers;
    for (uint32_t i = 0; i < m->answer_count && !found; i++) {
      struct record r;
      if (!record_read(m->packet, &at, &r)) return false;
      if (r.type != TYPE_CNAME || r.class != CLASS_IN || !name_same(&r.owner, &m->name)) continue;
      size_t data = r.data;
      if (!name_read(m->packet, &data, &m->name) || data != r.data + r.data_len) return false;
      *ttl_s = r.ttl_s < *ttl_s ? r.ttl_s : *ttl_s;
      found = true;
    }
    if (!found) return true;
  }
  return false;
}

/* ---- the whole ---- */

struct reading {
  struct srv_record *rows;
  uint32_t count, cap, skipped, ttl_s;
};

static bool take_srv(struct reading *out, const struct message *m, const struct record *r) {
  struct dns_name target;
  size_t at = r->data + SRV_FIXED_BYTES;
  if (r->data_len <= SRV_FIXED_BYTES || !name_read(m->packet, &at, &target)) return false;
  if (at != r->data + r->data_len) return false;
  uint16_t port = u16_at(m->packet, r->data + 4);
  out->ttl_s = r->ttl_s < out->ttl_s ? r->ttl_s : out->ttl_s;
  if (!target.len) return true; /* ".": the service is not to be had here */
  if (!target.plain || port == 0) {
    out->skipped++;
    return true;
  }
  check(out->count < out->cap);
  struct srv_record *row = &out->rows[out->count++];
  *row = (struct srv_record){.priority = u16_at(m->packet, r->data),
                             .weight = u16_at(m->packet, r->data + 2),
                             .port = port};
  memcpy(row->target, target.text, target.len + 1);
  return true;
}

static bool read_all(struct message *m, struct reading *out) {
  if (!follow_aliases(m, &out->ttl_s)) return false;
  size_t at = m->answers;
  for (uint32_t i = 0; i < m->answer_count; i++) {
    struct record r;
    if (!record_read(m->packet, &at, &r)) return false;
    bool ours = r.type == TYPE_SRV && r.class == CLASS_IN && name_same(&r.owner, &m->name);
    if (ours && !take_srv(out, m, &r)) return false;
  }
  return true;
}

static int compare(const void *a, const void *b) {
  const struct srv_record *x = (const struct srv_record *)a, *y = (const struct srv_record *)b;
  if (x->priority != y->priority) return x->priority < y->priority ? -1 : 1;
  int by_target = strcmp(x->target, y->target);
  if (by_target) return by_target;
  if (x->port != y->port) return x->port < y->port ? -1 : 1;
  return x->weight < y->weight ? 1 : x->weight > y->weight ? -1 : 0;
}

/* drop_doubles keeps the first of those with one target and port in a priority. */
static uint32_t drop_doubles(struct srv_record *rows, uint32_t count) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < count; i++) {
    const struct srv_record *last = kept ? &rows[kept - 1] : NULL;
    if (last && last->priority == rows[i].priority && last->port == rows[i].port &&
        strcmp(last->target, rows[i].target) == 0) {
      continue;
    }
    rows[kept++] = rows[i];
  }
  return kept;
}

/* give_shares makes weights of one priority shares of 1 to SRV_SHARE_MAX: as they are when they
 * fit. A weight of 0 beside others is "a very small chance" (RFC 2782). */
static void give_shares(struct srv_record *rows, uint32_t count) {
  uint32_t most = 0, least = UINT16_MAX;
  for (uint32_t i = 0; i < count; i++) {
    most = rows[i].weight > most ? rows[i].weight : most;
    least = rows[i].weight < least ? rows[i].weight : least;
  }
  bool fits = most == 0 || (least > 0 && most <= SRV_SHARE_MAX);
  for (uint32_t i = 0; i < count; i++) {
    uint32_t share = fits ? rows[i].weight : rows[i].weight * SRV_SHARE_MAX / most;
    rows[i].share = (uint16_t)(share ? share : 1);
  }
}

static void rank(struct srv_record *rows, uint32_t count) {
  uint8_t rank = 0;
  for (uint32_t from = 0, to; from < count; from = to) {
    for (to = from; to < count && rows[to].priority == rows[from].priority; to++) {
      rows[to].rank = rank;
    }
    give_shares(rows + from, to - from);
    rank = rank + 1u < SRV_RANKS ? (uint8_t)(rank + 1) : rank;
  }
}

enum resolve_result srv_parse(struct span packet, struct srv_reply *out) {
  struct message m;
  struct reading r = {.ttl_s = INT32_MAX};
  if (!message_read(packet, &m)) return RESOLVE_BAD;
  size_t most = packet.len / SRV_RECORD_MIN + 1;
  r.cap = (uint32_t)(m.answer_count < most ? m.answer_count : most);
  r.rows = (struct srv_record *)mem_array(r.cap + 1, sizeof *r.rows);
  bool good = read_all(&m, &r);
  if (!good || !r.count) {
    mem_free(r.rows);
    return good ? RESOLVE_EMPTY : RESOLVE_BAD;
  }
  qsort(r.rows, r.count, sizeof *r.rows, compare);
  uint32_t count = drop_doubles(r.rows, r.count);
  uint32_t kept = count < NAME_ANSWERS_MAX ? count : NAME_ANSWERS_MAX;
  rank(r.rows, kept);
  *out = (struct srv_reply){.rows = (struct srv_record *)mem_grow(r.rows, kept, sizeof *r.rows),
                            .count = kept,
                            .left_out = count - kept,
                            .skipped = r.skipped,
                            .ttl_s = r.ttl_s};
  return RESOLVE_OK;
}

void srv_reply_fini(struct srv_reply *r) {
  mem_free(r->rows);
  *r = (struct srv_reply){.rows = NULL};
}
