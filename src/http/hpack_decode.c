/* hpack_decode.c: header blocks from the wire into fields (RFC 7541 sections 3, 5, 6). A
 * representation is first measured, then acted on: what is not whole yet changes nothing and is
 * gathered until it is. Knows nothing of frames. Called by the HTTP/2 connection. */
#include "hpack_rows_priv.h"

#include "weir/base/mem.h"

enum { CARRY_FIRST = 64, INT_BYTES_MAX = 5 };
#define NOT_DUE UINT32_MAX

enum op { OP_INDEXED, OP_ADD, OP_RESIZE, OP_NEVER, OP_PLAIN };

/* string is a string as it stands on the wire. */
struct string {
  struct span raw;
  bool huffman;
};

/* layout is one representation, measured. */
struct layout {
  enum op op;
  uint32_t index; /* or the new size */
  struct string name, value;
};

/* reader goes through a representation. lack: how many bytes more it takes at least. */
struct reader {
  const char *p, *end;
  size_t lack;
};

void hpack_decoder_init(struct hpack_decoder *dec, uint32_t setting) {
  check(setting <= HPACK_TABLE_MAX);
  *dec = (struct hpack_decoder){.setting = setting, .due = NOT_DUE};
  dec->table = (struct hpack_table){.limit = setting, .next = 1};
}

static void drop_memory(struct hpack_decoder *dec) {
  mem_free(dec->carry);
  mem_free(dec->scratch);
  dec->carry = dec->scratch = NULL;
  dec->carry_len = dec->carry_cap = dec->carry_lack = 0;
  dec->scratch_cap = 0;
}

void hpack_decoder_fini(struct hpack_decoder *dec) {
  drop_memory(dec);
  hpack_table_fini(&dec->table);
}

/* What is lowered must be answered by a size update (4.2); what is raised may be. */
void hpack_decoder_set(struct hpack_decoder *dec, uint32_t setting) {
  check(setting <= HPACK_TABLE_MAX && dec->carry_lack == 0);
  dec->setting = setting;
  if (setting < dec->table.limit) {
    dec->due = setting < dec->due ? setting : dec->due;
    hpack_table_resize(&dec->table, setting);
  }
}

/* read_int reads an integer behind a prefix of so many bits (5.1): up to 32 bits, in no more bytes
 * than those can need. */
static enum hpack_result read_int(struct reader *r, unsigned prefix, uint32_t *out) {
  uint32_t mask = (1u << prefix) - 1;
  uint64_t value = (unsigned char)*r->p++ & mask;
  for (unsigned i = 0; value >= mask; i++) { /* at most INT_BYTES_MAX turns */
    if (i == INT_BYTES_MAX) return HPACK_BAD;
    if (r->p == r->end) {
      r->lack = 1;
      return HPACK_MORE;
    }
    unsigned byte = (unsigned char)*r->p++;
    value += (uint64_t)(byte & 0x7f) << (7 * i);
    if (value > UINT32_MAX) return HPACK_BAD;
    if (!(byte & 0x80)) break;
  }
  *out = (uint32_t)value;
  return HPACK_DONE;
}

static enum hpack_result read_string(struct reader *r, struct string *out) {
  if (r->p == r->end) {
    r->lack = 1;
    return HPACK_MORE;
  }
  out->huffman = ((unsigned char)*r->p & 0x80) != 0;
  uint32_t len;
  enum hpack_result result = read_int(r, 7, &len);
  if (result != HPACK_DONE) return result;
  size_t have = (size_t)(r->end - r->p);
  if (len > have) {
    r->lack = len - have;
    return HPACK_MORE;
  }
  out->raw = span_of(r->p, len);
  r->p += len;
  return HPACK_DONE;
}

/* read_head reads the first integer and says what the representation is. */
static enum hpack_result read_head(struct reader *r, struct layout *l) {
  unsigned first = (unsigned char)*r->p;
  unsigned prefix = 4;
  l->op = first & 0x10 ? OP_NEVER : OP_PLAIN;
  if (first & 0x80) {
    l->op = OP_INDEXED;
    prefix = 7;
  } else if (first & 0x40) {
    l->op = OP_ADD;
    prefix = 6;
  } else if (first & 0x20) {
    l->op = OP_RESIZE;
    prefix = 5;
  }
  return read_int(r, prefix, &l->index);
}

/* measure finds the parts of the representation at r, which is not at the end. */
static enum hpack_result measure(struct reader *r, struct layout *l) {
  enum hpack_result result = read_head(r, l);
  if (result != HPACK_DONE || l->op == OP_INDEXED || l->op == OP_RESIZE) return result;
  if (l->index == 0) {
    result = read_string(r, &l->name);
    if (result != HPACK_DONE) return result;
  }
  return read_string(r, &l->value);
}

static enum hpack_result resize(struct hpack_decoder *dec, struct hpack_block *b, uint32_t size) {
  if (b->begun || size > dec->setting) return HPACK_BAD;
  if (dec->due != NOT_DUE && size > dec->due) return HPACK_BAD;
  dec->due = NOT_DUE;
  hpack_table_resize(&dec->table, size);
  return HPACK_DONE;
}

/* room_for gives room for the strings of a field: the arena's, or scratch if it is not stored. */
static char *room_for(struct hpack_decoder *dec, struct hpack_block *b, size_t need) {
  if (!b->too_large) {
    char *room = hpack_block_room(b, need);
    if (room != NULL) return room;
  }
  if (need > dec->scratch_cap || dec->scratch == NULL) {
    mem_free(dec->scratch);
    dec->scratch = mem_try(need);
    dec->scratch_cap = dec->scratch ? need : 0;
  }
  return dec->scratch;
}

static enum hpack_result read_static(struct hpack_block *b, uint32_t index) {
  struct hpack_row row = {.known = (uint8_t)index};
  row.name = hpack_names[index].text;
  row.value = hpack_values[index];
  if (!hpack_block_charge(b, row.name.len + row.value.len)) return HPACK_FLOOD;
  hpack_block_store(b, &row);
  return HPACK_DONE;
}

/* entry_name takes an entry's name: known, or copied to *to, which moves on. */
static void entry_name(const struct hpack_table *t, const struct hpack_entry *e,
                       struct hpack_row *row, char **to) {
  row->known = e->known;
  if (e->known) {
    row->name = hpack_names[e->known].text;
    return;
  }
  hpack_table_name(t, e, *to);
  row->name = span_of(*to, e->name_len);
  *to += e->name_len;
}

static enum hpack_result read_indexed(struct hpack_decoder *dec, struct hpack_block *b,
                                      uint32_t index) {
  if (index == 0) return HPACK_BAD;
  if (index <= HPACK_STATIC_COUNT) return read_static(b, index);
  const struct hpack_entry *e = hpack_table_get(&dec->table, index - HPACK_STATIC_COUNT - 1);
  if (e == NULL) return HPACK_BAD;
  size_t bytes = (size_t)e->name_len + e->value_len;
  if (!hpack_block_charge(b, bytes)) return HPACK_FLOOD;
  if (b->too_large) return HPACK_DONE;
  char *room = hpack_block_room(b, bytes);
  if (room == NULL) return HPACK_DONE; /* too large from here on */
  char *to = room;
  struct hpack_row row = {.faults = e->faults};
  entry_name(&dec->table, e, &row, &to);
  hpack_table_value(&dec->table, e, to);
  row.value = span_of(to, e->value_len);
  hpack_block_store(b, &row);
  hpack_block_take(b, (size_t)(to - room) + e->value_len);
  return HPACK_DONE;
}

static size_t string_room(const struct string *s) {
  return s->huffman ? hpack_huffman_room(s->raw.len) : s->raw.len;
}

/* decode_string puts the text of a string at `to`; false: it is not in the code. */
static bool decode_string(const struct string *s, char *to, struct span *out, bool *plain) {
  *plain = s->huffman;
  if (!s->huffman) {
    if (s->raw.len > 0) memcpy(to, s->raw.ptr, s->raw.len);
    *out = span_of(to, s->raw.len);
    return true;
  }
  bool odd = false;
  size_t len = hpack_huffman_decode(s->raw, to, &odd);
  if (len == SIZE_MAX) return false;
  *plain = !odd;
  *out = span_of(to, len);
  return true;
}

/* literal_name finds the name by index, or reads it; what is kept of it lies before *to. */
static bool literal_name(struct hpack_decoder *dec, const struct layout *l,
                         const struct hpack_entry *e, struct hpack_row *row, char **to) {
  if (e != NULL) {
    entry_name(&dec->table, e, row, to);
    row->faults = e->faults & (uint8_t)~HPACK_FAULT_VALUE;
    return true;
  }
  if (l->index > 0) {
    row->known = (uint8_t)l->index;
    row->name = hpack_names[l->index].text;
    return true;
  }
  bool plain;
  struct span text;
  if (!decode_string(&l->name, *to, &text, &plain)) return false;
  hpack_row_name(row, text);
  if (!row->known) *to += text.len;
  return true;
}

static enum hpack_result read_literal(struct hpack_decoder *dec, struct hpack_block *b,
                                      const struct layout *l) {
  const struct hpack_entry *e = NULL;
  if (l->index > HPACK_STATIC_COUNT) {
    e = hpack_table_get(&dec->table, l->index - HPACK_STATIC_COUNT - 1);
    if (e == NULL) return HPACK_BAD;
  }
  size_t need = string_room(&l->value) + (e ? e->name_len : string_room(&l->name));
  char *room = room_for(dec, b, need);
  if (room == NULL) return HPACK_NO_MEMORY;
  char *to = room;
  struct hpack_row row = {.secret = l->op == OP_NEVER};
  struct span value;
  bool plain;
  if (!literal_name(dec, l, e, &row, &to)) return HPACK_BAD;
  if (!decode_string(&l->value, to, &value, &plain)) return HPACK_BAD;
  hpack_row_value(&row, value, plain);
  bool stored = !b->too_large;
  if (!hpack_block_charge(b, row.name.len + value.len)) return HPACK_FLOOD;
  hpack_block_store(b, &row);
  if (stored) hpack_block_take(b, (size_t)(to - room) + value.len);
  struct hpack_entry entry = {.known = row.known, .faults = row.faults};
  if (l->op == OP_ADD && !hpack_table_add(&dec->table, entry, row.name, value, NULL))
    return HPACK_NO_MEMORY;
  return HPACK_DONE;
}

/* read_one reads the representation at r, whole or not at all. */
static enum hpack_result read_one(struct hpack_decoder *dec, struct hpack_block *b,
                                  struct reader *r) {
  unsigned first = (unsigned char)*r->p;
  if (first >= 0x80 && first < 0xff) { /* most are like this */
    r->p++;
    b->begun = true;
    return read_indexed(dec, b, first & 0x7f);
  }
  struct layout l = {0};
  struct reader ahead = *r;
  enum hpack_result result = measure(&ahead, &l);
  r->lack = ahead.lack;
  if (result != HPACK_DONE) return result;
  r->p = ahead.p;
  if (l.op == OP_RESIZE) return resize(dec, b, l.index);
  b->begun = true;
  return l.op == OP_INDEXED ? read_indexed(dec, b, l.index) : read_literal(dec, b, &l);
}

/* carry_put takes count more bytes of a cut representation; false: no memory. */
static bool carry_put(struct hpack_decoder *dec, struct span *in, size_t count) {
  size_t need = dec->carry_len + count; /* both are within block_bytes */
  if (need > dec->carry_cap) {
    size_t cap = dec->carry_cap ? dec->carry_cap : CARRY_FIRST;
    while (cap < need) cap *= 2;
    char *grown = mem_try(cap);
    if (grown == NULL) return false;
    if (dec->carry_len > 0) memcpy(grown, dec->carry, dec->carry_len);
    mem_free(dec->carry);
    dec->carry = grown;
    dec->carry_cap = (uint32_t)cap;
  }
  if (count > 0) memcpy(dec->carry + dec->carry_len, in->ptr, count);
  dec->carry_len += (uint32_t)count;
  *in = span_from(*in, count);
  return true;
}

/* lacking notes what a cut representation still needs, unless that cannot come. left: bytes of
 * the fragment that are not used yet. */
static enum hpack_result lacking(struct hpack_decoder *dec, const struct hpack_block *b,
                                 size_t lack, size_t left) {
  if (lack > b->limits->block_bytes - b->wire_bytes + left) return HPACK_FLOOD;
  dec->carry_lack = (uint32_t)lack;
  return HPACK_MORE;
}

/* resume completes the representation that earlier fragments cut, from the front of *in. It is
 * measured anew each time that as many bytes are there as it was known to need: a number of times
 * that does not grow with its length. */
static enum hpack_result resume(struct hpack_decoder *dec, struct hpack_block *b,
                                struct span *in) {
  while (dec->carry_lack > 0) { /* each turn takes bytes, or leaves for want of them */
    size_t take = in->len < dec->carry_lack ? in->len : dec->carry_lack;
    if (!carry_put(dec, in, take)) return HPACK_NO_MEMORY;
    dec->carry_lack -= (uint32_t)take;
    if (dec->carry_lack > 0) return HPACK_MORE;
    struct reader r = {.p = dec->carry, .end = dec->carry + dec->carry_len};
    enum hpack_result result = read_one(dec, b, &r);
    if (result == HPACK_MORE) result = lacking(dec, b, r.lack, in->len);
    if (result != HPACK_DONE && result != HPACK_MORE) return result;
  }
  dec->carry_len = 0;
  return HPACK_DONE;
}

/* read_fragment reads all representations that end in the fragment and keeps what is left. */
static enum hpack_result read_fragment(struct hpack_decoder *dec, struct hpack_block *b,
                                       struct span in) {
  if (dec->carry_lack > 0) {
    enum hpack_result result = resume(dec, b, &in);
    if (result != HPACK_DONE) return result;
  }
  if (in.len == 0) return HPACK_DONE;
  struct reader r = {.p = in.ptr, .end = in.ptr + in.len};
  while (r.p < r.end) { /* each turn reads a representation */
    enum hpack_result result = read_one(dec, b, &r);
    if (result == HPACK_DONE) continue;
    if (result != HPACK_MORE) return result;
    in = span_of(r.p, (size_t)(r.end - r.p));
    return carry_put(dec, &in, in.len) ? lacking(dec, b, r.lack, 0) : HPACK_NO_MEMORY;
  }
  return HPACK_DONE;
}

/* block_end is the result of a block of which every byte was read. */
static enum hpack_result block_end(struct hpack_decoder *dec, struct hpack_block *b) {
  if (dec->due != NOT_DUE) return HPACK_BAD; /* the size update did not come */
  drop_memory(dec);
  hpack_block_close(b);
  if (b->faults) return HPACK_MALFORMED;
  return b->too_large ? HPACK_TOO_LARGE : HPACK_DONE;
}

enum hpack_result hpack_decode(struct hpack_decoder *dec, struct hpack_block *b,
                               struct span fragment, bool last) {
  if (dec->failed) return (enum hpack_result)dec->failed;
  enum hpack_result result = HPACK_FLOOD;
  if (fragment.len <= b->limits->block_bytes - b->wire_bytes) {
    b->wire_bytes += (uint32_t)fragment.len;
    result = read_fragment(dec, b, fragment);
    if (result == HPACK_MORE && last) result = HPACK_BAD; /* cut for good */
    if (result == HPACK_DONE) result = last ? block_end(dec, b) : HPACK_MORE;
  }
  if (result >= HPACK_BAD) {
    dec->failed = (uint8_t)result;
    drop_memory(dec);
    hpack_block_close(b);
  }
  return result;
}
