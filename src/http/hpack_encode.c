/* hpack_encode.c: fields into header blocks (RFC 7541 section 6). What is worth an entry says
 * hpack_policy.def. While a block is open nothing is evicted, an entry that finds no room is not
 * made: so to take a block back is to pop its entries. The room is made at the end of the block:
 * an encoder may forget its oldest entries sooner than the decoder. Called by the HTTP/2
 * connection, which owns the buffer and cuts it into frames. */
#include "hpack_priv.h"

#include "weir/base/hash.h"

/* An entry takes at most a fourth of the table: so much is free after a block that wanted it. */
enum { ENTRY_SHARE = 4 };
enum { NAME_LOWER_MAX = 256, INT_MAX_LEN = 6, UPDATES_LEN = 2 * INT_MAX_LEN };
enum { LITERAL_EXTRA = 3 * INT_MAX_LEN + HPACK_HUFFMAN_SLACK };

/* The first byte of each representation, and how many bits of it are its integer's. */
enum { FIRST_INDEXED = 0x80, FIRST_ADD = 0x40, FIRST_RESIZE = 0x20, FIRST_NEVER = 0x10 };
enum { BITS_INDEXED = 7, BITS_ADD = 6, BITS_RESIZE = 5, BITS_LITERAL = 4, BITS_STRING = 7 };

/* field is one field on its way out. */
struct field {
  struct span name, value;
  uint8_t known; /* of hpack_names; 0: name is looked up by its text, which is in lower case */
  struct hpack_way way;
};

static const struct pseudo_row {
  uint8_t first, count, policy;
} pseudo_rows[HPACK_PSEUDO_COUNT] = {
#define HPACK_PSEUDO(id, name, first, count, policy) {first, count, HPACK_POLICY_##policy},
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
};

void hpack_encoder_init(struct hpack_encoder *enc, uint32_t cap) {
  check(cap <= HPACK_TABLE_MAX);
  uint32_t limit = cap < HPACK_TABLE_DEFAULT ? cap : HPACK_TABLE_DEFAULT;
  *enc = (struct hpack_encoder){.cap = cap, .told = HPACK_TABLE_DEFAULT, .lowest = limit};
  enc->table = (struct hpack_table){.limit = limit, .next = 1, .linked = true};
  uintptr_t where = (uintptr_t)enc;
  enc->seed = hash_keyed(span_of((const char *)&where, sizeof(where)));
}

void hpack_encoder_fini(struct hpack_encoder *enc) { hpack_table_fini(&enc->table); }

void hpack_encoder_set(struct hpack_encoder *enc, uint32_t setting) {
  check(!enc->open);
  uint32_t limit = setting < enc->cap ? setting : enc->cap;
  if (limit < enc->lowest) enc->lowest = limit;
  hpack_table_resize(&enc->table, limit);
}

/* put_int writes an integer behind the bits of `first`; p has room for INT_MAX_LEN. */
static char *put_int(char *p, unsigned first, unsigned bits, uint32_t value) {
  uint32_t mask = (1u << bits) - 1;
  if (value < mask) {
    *p++ = (char)(first | value);
    return p;
  }
  *p++ = (char)(first | mask);
  for (value -= mask; value >= 0x80; value >>= 7) *p++ = (char)(0x80 | (value & 0x7f));
  *p++ = (char)value;
  return p;
}

/* put_string writes a string, in Huffman code if that is shorter; p has room for INT_MAX_LEN,
 * s.len and HPACK_HUFFMAN_SLACK more. The code is written as if its length took one byte, and
 * moved if it takes more. */
static char *put_string(char *p, struct span s) {
  size_t len = s.len > 0 ? hpack_huffman_encode(s, p + 1, s.len) : SIZE_MAX;
  if (len == SIZE_MAX) {
    p = put_int(p, 0, BITS_STRING, (uint32_t)s.len);
    if (s.len > 0) memcpy(p, s.ptr, s.len);
    return p + s.len;
  }
  char head[INT_MAX_LEN];
  size_t head_len = (size_t)(put_int(head, 0x80, BITS_STRING, (uint32_t)len) - head);
  if (head_len > 1) memmove(p + head_len, p + 1, len);
  memcpy(p, head, head_len);
  return p + head_len + len;
}

/* room tells whether so many bytes fit, or fills the buffer. */
static bool room(struct buf *out, size_t bytes) {
  if (out->full || bytes > buf_room(out)) out->full = true;
  return !out->full;
}

static void put_update(struct buf *out, uint32_t size) {
  char *end = put_int(out->ptr + out->len, FIRST_RESIZE, BITS_RESIZE, size);
  out->len = (size_t)(end - out->ptr);
}

void hpack_encode_begin(struct hpack_encoder *enc, struct buf *out) {
  check(!enc->open);
  enc->open = true;
  enc->wanted = false;
  enc->added = 0;
  enc->start = out->len;
  uint32_t limit = enc->table.limit;
  if (enc->lowest >= enc->told && limit == enc->told) return;
  if (!room(out, UPDATES_LEN)) return;
  if (enc->lowest < limit && enc->lowest < enc->told) put_update(out, enc->lowest);
  put_update(out, limit);
}

bool hpack_encode_end(struct hpack_encoder *enc, struct buf *out) {
  check(enc->open);
  enc->open = false;
  if (out->full) {
    for (; enc->added > 0; enc->added--) hpack_table_pop(&enc->table);
    out->len = enc->start;
    return false;
  }
  enc->told = enc->lowest = enc->table.limit;
  if (enc->wanted)
    hpack_table_keep(&enc->table, enc->table.limit - enc->table.limit / ENTRY_SHARE);
  return true;
}

static uint64_t fold(uint64_t a, uint64_t b) {
  unsigned __int128 product = (unsigned __int128)a * b;
  return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load_word(const char *p) {
  uint64_t word;
  memcpy(&word, p, sizeof(word));
  return word;
}

/* hash_text mixes a text into h, 16 bytes at a time, the last of them twice if need be. Strangers
 * do not know the seed, and the search looks at a bounded number of entries whatever they send. */
static uint64_t hash_text(uint64_t seed, uint64_t h, struct span s) {
  uint64_t low = s.len, high = 0;
  h ^= s.len;
  if (s.len >= 16) {
    for (size_t at = 0; at + 16 < s.len; at += 16)
      h = fold(load_word(s.ptr + at) ^ h, load_word(s.ptr + at + 8) ^ seed);
    low = load_word(s.ptr + s.len - 16);
    high = load_word(s.ptr + s.len - 8);
  } else if (s.len >= 8) {
    low = load_word(s.ptr);
    high = load_word(s.ptr + s.len - 8);
  } else {
    for (size_t i = 0; i < s.len; i++) high = high << 8 | (unsigned char)s.ptr[i];
  }
  return fold(low ^ h, high ^ seed);
}

static struct hpack_link hash_field(const struct hpack_encoder *enc, const struct field *f) {
  uint64_t name = fold(enc->seed ^ f->known, 0x94d049bb133111ebu);
  if (!f->known) name = hash_text(enc->seed, name, f->name);
  uint64_t pair = hash_text(enc->seed, name, f->value);
  return (struct hpack_link){.pair = (uint32_t)(pair ^ pair >> 32),
                             .name = (uint32_t)(name ^ name >> 32)};
}

static void put_indexed(struct buf *out, uint32_t index) {
  if (!room(out, INT_MAX_LEN)) return;
  char *end = put_int(out->ptr + out->len, FIRST_INDEXED, BITS_INDEXED, index);
  out->len = (size_t)(end - out->ptr);
}

/* put_literal writes a literal with the name by index, or as text when index is 0. */
static void put_literal(struct buf *out, unsigned first, unsigned bits, uint32_t index,
                        const struct field *f) {
  if (!room(out, f->name.len + f->value.len + LITERAL_EXTRA)) return;
  char *p = put_int(out->ptr + out->len, first, bits, index);
  if (index == 0) p = put_string(p, f->name);
  out->len = (size_t)(put_string(p, f->value) - out->ptr);
}

/* index_of is the wire's number of a dynamic entry; 0 of none. */
static uint32_t index_of(uint32_t age) {
  return age == UINT32_MAX ? 0 : age + HPACK_STATIC_COUNT + 1;
}

/* put_dynamic writes a field that may have, or get, an entry. */
static void put_dynamic(struct hpack_encoder *enc, const struct field *f, struct buf *out) {
  struct hpack_table *t = &enc->table;
  struct hpack_link link = hash_field(enc, f);
  struct hpack_entry entry = {.known = f->known};
  uint32_t index = 0;
  bool by_pair = f->way.policy == HPACK_POLICY_INDEX;
  if (by_pair) index = index_of(hpack_table_find_pair(t, &link, entry, f->name, f->value));
  if (index > 0) {
    put_indexed(out, index);
    return;
  }
  index = f->way.index;
  if (index == 0) index = index_of(hpack_table_find_name(t, &link, entry, f->name));
  size_t size = f->name.len + f->value.len + HPACK_FIELD_OVERHEAD;
  bool add = (by_pair || index == 0) && size <= t->limit / ENTRY_SHARE;
  if (add && size > t->limit - t->used) {
    enc->wanted = true;
    add = false;
  }
  if (add && !out->full) add = hpack_table_add(t, entry, f->name, f->value, &link);
  enc->added += add;
  put_literal(out, add ? FIRST_ADD : 0, add ? BITS_ADD : BITS_LITERAL, index, f);
}

static void put_field(struct hpack_encoder *enc, const struct field *f, struct buf *out) {
  check(enc->open);
  if (out->full) return;
  if (f->way.policy == HPACK_POLICY_PLAIN)
    put_literal(out, 0, BITS_LITERAL, f->way.index, f);
  else if (f->way.policy == HPACK_POLICY_NEVER)
    put_literal(out, FIRST_NEVER, BITS_LITERAL, f->way.index, f);
  else
    put_dynamic(enc, f, out);
}

void hpack_encode_pseudo(struct hpack_encoder *enc, enum hpack_pseudo which, struct span value,
                         bool secret, struct buf *out) {
  check((unsigned)which < HPACK_PSEUDO_COUNT && enc->open);
  struct pseudo_row row = pseudo_rows[which];
  for (unsigned i = row.first; i < row.first + row.count && !secret; i++) {
    if (!span_eq(hpack_values[i], value)) continue;
    put_indexed(out, i);
    return;
  }
  struct field f = {.value = value, .way = {row.first, row.policy}};
  if (secret) f.way.policy = HPACK_POLICY_NEVER;
  f.known = row.first ? row.first : HPACK_KNOWN_PROTOCOL;
  f.name = hpack_names[f.known].text;
  put_field(enc, &f, out);
}

/* put_long writes a field whose name is too long to be looked up: as it is, but in lower case. */
static void put_long(const struct http_field *row, struct buf *out) {
  if (!room(out, row->name.len + row->value.len + LITERAL_EXTRA)) return;
  char *p = put_int(out->ptr + out->len, row->secret ? FIRST_NEVER : 0, BITS_LITERAL, 0);
  p = put_int(p, 0, BITS_STRING, (uint32_t)row->name.len);
  for (size_t i = 0; i < row->name.len; i++) *p++ = ascii_lower(row->name.ptr[i]);
  out->len = (size_t)(put_string(p, row->value) - out->ptr);
}

/* put_row writes a row whose name, unless known, is in lower case. */
static void put_row(struct hpack_encoder *enc, struct field *f, const struct http_field *row,
                    struct buf *out) {
  if (row->id == HTTP_NAME_OTHER) {
    f->way = hpack_way_other(f->name);
    f->known = f->way.index;
  }
  if (row->secret) f->way.policy = HPACK_POLICY_NEVER;
  bool listed = f->way.index > 0 && f->way.policy != HPACK_POLICY_NEVER &&
                span_eq(f->value, hpack_values[f->way.index]);
  if (listed)
    put_indexed(out, f->way.index);
  else
    put_field(enc, f, out);
}

/* put_lowered makes a name lower case first. Not inline: the array is zeroed at each entry. */
static void __attribute__((noinline))
put_lowered(struct hpack_encoder *enc, const struct http_field *row, struct buf *out) {
  char name[NAME_LOWER_MAX];
  struct field f = {.name = span_of(name, row->name.len), .value = row->value};
  for (size_t i = 0; i < row->name.len; i++) name[i] = ascii_lower(row->name.ptr[i]);
  put_row(enc, &f, row, out);
}

/* upper8 marks the bytes of a word that are A-Z. */
static uint64_t upper8(uint64_t word) {
  const uint64_t ones = 0x0101010101010101u;
  uint64_t low7 = word & (ones * 0x7f);
  return ((low7 + ones * (0x80 - 'A')) ^ (low7 + ones * (0x7f - 'Z'))) & ~word & (ones * 0x80);
}

static bool has_upper(struct span s) {
  uint64_t upper = 0;
  if (s.len < 8) {
    for (size_t i = 0; i < s.len; i++) upper |= (unsigned)(unsigned char)s.ptr[i] - 'A' < 26;
    return upper != 0;
  }
  for (size_t at = 0; at + 8 < s.len; at += 8) upper |= upper8(load_word(s.ptr + at));
  return (upper | upper8(load_word(s.ptr + s.len - 8))) != 0;
}

void hpack_encode_field(struct hpack_encoder *enc, const struct http_field *row, struct buf *out) {
  check(enc->open && row->value.len <= UINT32_MAX && row->name.len <= UINT32_MAX);
  struct field f = {.name = row->name, .value = row->value};
  if (row->id != HTTP_NAME_OTHER) {
    f.known = (uint8_t)HPACK_KNOWN_NAME(row->id);
    f.name = hpack_names[f.known].text;
    f.way = hpack_ways[row->id];
  } else if (row->name.len > NAME_LOWER_MAX) {
    put_long(row, out);
    return;
  } else if (has_upper(row->name)) {
    put_lowered(enc, row, out);
    return;
  }
  put_row(enc, &f, row, out);
}
