/* fuzz_hpack.c: HPACK (http/hpack_*.c) on a connection of many blocks. Input: byte 0 the limits,
 * then per block a byte of control (bits 0-3: length of the pieces, 4: the table's size changes,
 * 5: nothing is to be stored), two bytes of size if so, a byte of length, the block. Checked: rows
 * keep the grammar, the limits hold, cutting changes nothing, the table is in step whatever is
 * stored, and what was read is read again from what our encoder makes of it. */
#include <stdint.h>
#include <stdlib.h>

#include "../tests/support/hpack_help.h"
#include "program.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* side is one decoder with the arena of its block. */
struct side {
  struct hpack_decoder dec;
  struct hpack_block block;
  struct arena arena;
  struct text text;
};

struct conn {
  struct side once, cut, blind; /* blind stores nothing */
  struct hpack_encoder enc;
  struct side again;
  struct hpack_limits limits;
};

static enum hpack_result run(struct side *s, const struct hpack_limits *limits, struct span in,
                             size_t piece, bool store) {
  arena_reset(&s->arena);
  s->text.len = 0;
  hpack_block_init(&s->block, limits, store ? &s->arena : NULL);
  enum hpack_result result = hpack_decode_cut(&s->dec, &s->block, in, piece);
  hpack_check_rows(&s->block);
  hpack_list_text(&s->block, &s->text);
  check(s->dec.table.used <= s->dec.table.limit && s->dec.table.limit <= s->dec.setting);
  check(s->dec.table.count * HPACK_FIELD_OVERHEAD <= s->dec.table.used);
  check(s->block.list_bytes <= limits->hard_list_bytes || result == HPACK_FLOOD);
  check(result != HPACK_DONE || s->block.list_bytes <= limits->list_bytes);
  check(s->dec.carry == NULL && s->dec.scratch == NULL);
  return result;
}

static bool write_all(struct conn *c, struct buf *out) {
  hpack_encode_begin(&c->enc, out);
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++)
    if (hpack_block_has(&c->once.block, (enum hpack_pseudo)i))
      hpack_encode_pseudo(&c->enc, (enum hpack_pseudo)i, c->once.block.pseudo[i],
                          (c->once.block.secret >> i) & 1, out);
  for (uint32_t i = 0; i < c->once.block.fields.count; i++)
    hpack_encode_field(&c->enc, &c->once.block.fields.rows[i], out);
  return hpack_encode_end(&c->enc, out);
}

/* written_again: our encoder's block of these rows, after one that did not fit. */
static void written_again(struct conn *c, size_t little) {
  static char room[1 << 18];
  uint32_t used = c->enc.table.used, next = c->enc.table.next;
  struct buf out = buf_of(room, little);
  if (!write_all(c, &out)) {
    check(out.len == 0 && c->enc.table.used == used && c->enc.table.next == next);
    out = buf_of(room, sizeof(room));
    check(write_all(c, &out));
  }
  check(run(&c->again, &hpack_wide, buf_span(&out), SIZE_MAX, true) == HPACK_DONE);
  check(c->enc.table.used <= c->again.dec.table.used);
  const struct hpack_block *a = &c->once.block, *b = &c->again.block;
  check(a->present == b->present && a->secret == b->secret && a->fields.count == b->fields.count);
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++) check(span_eq(a->pseudo[i], b->pseudo[i]));
  for (uint32_t i = 0; i < a->fields.count; i++) {
    const struct http_field *x = &a->fields.rows[i], *y = &b->fields.rows[i];
    check(span_eq(x->name, y->name) && span_eq(x->value, y->value));
    check(y->secret || !x->secret);
  }
}

/* one_block runs a block on all sides; false: the connection is over. */
static bool one_block(struct conn *c, struct program *p) {
  unsigned control = byte(p);
  if (control & 16) {
    uint32_t size = two_bytes(p);
    hpack_decoder_set(&c->once.dec, size);
    hpack_decoder_set(&c->cut.dec, size);
    hpack_decoder_set(&c->blind.dec, size);
    hpack_decoder_set(&c->again.dec, size);
    hpack_encoder_set(&c->enc, size);
  }
  struct span block = bytes(p, byte(p));
  enum hpack_result once = run(&c->once, &c->limits, block, SIZE_MAX, !(control & 32));
  enum hpack_result cut = run(&c->cut, &c->limits, block, (control & 15) + 1, !(control & 32));
  enum hpack_result blind = run(&c->blind, &c->limits, block, SIZE_MAX, false);
  if (block.len > c->limits.block_bytes)
    check(once >= HPACK_BAD && cut >= HPACK_BAD);
  else
    check(once == cut && (once < HPACK_BAD || once == blind));
  if (once >= HPACK_BAD) return false;
  check(span_eq(text_span(&c->once.text), text_span(&c->cut.text)));
  check(blind == HPACK_TOO_LARGE);
  check(c->once.dec.table.used == c->cut.dec.table.used);
  check(c->once.dec.table.used == c->blind.dec.table.used);
  check(c->once.dec.table.count == c->blind.dec.table.count);
  if (once == HPACK_DONE) written_again(c, control * 2);
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct program p = {data, len};
  struct conn *c = mem_alloc(sizeof(*c));
  unsigned tight = byte(&p);
  c->limits = hpack_wide;
  if (tight & 1) c->limits.fields = tight >> 2;
  if (tight & 2) c->limits.list_bytes = tight * 8;
  if (tight & 4) c->limits.hard_list_bytes = tight * 64;
  if (tight & 8) c->limits.block_bytes = tight;
  struct side *sides[] = {&c->once, &c->cut, &c->blind, &c->again};
  for (size_t i = 0; i < array_count(sides); i++) {
    hpack_decoder_init(&sides[i]->dec, HPACK_TABLE_DEFAULT);
    arena_init(&sides[i]->arena, NULL, 0);
  }
  hpack_encoder_init(&c->enc, tight & 16 ? HPACK_TABLE_DEFAULT : HPACK_TABLE_MAX);
  while (p.left > 0 && one_block(c, &p)) continue;
  for (size_t i = 0; i < array_count(sides); i++) {
    hpack_decoder_fini(&sides[i]->dec);
    arena_reset(&sides[i]->arena);
    text_fini(&sides[i]->text);
  }
  hpack_encoder_fini(&c->enc);
  mem_free(c);
  return 0;
}
