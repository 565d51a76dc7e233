/* fuzz_hpack_peer.c: our HPACK decoder beside nghttp2's inflater, which is linked here and in the
 * unit test only, on a connection of many blocks. Input: as in fuzz_hpack.c without byte 0.
 * Checked: both refuse the same blocks, read the same fields, and have tables of the same size.
 * Ours is stricter in one thing, which costs a stream only: names and values that HTTP does not
 * allow are left out (HPACK_MALFORMED); there only tables are compared. */
#include <stdint.h>
#include <stdlib.h>

#include "hpack_peer.h"
#include "program.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct span cut_line(struct span *rest) {
  size_t end = span_find_char(*rest, '\n', 0);
  check(end != SIZE_MAX);
  struct span line = span_sub(*rest, 0, end + 1);
  *rest = span_from(*rest, end + 1);
  return line;
}

/* same_fields: each line of theirs is a pseudo-field of ours, or the next row. */
static void same_fields(const struct hpack_block *b, const struct peer_list *theirs) {
  struct text ours = {0};
  hpack_list_text(b, &ours);
  struct span rows = text_span(&ours), all = rows, rest = text_span(&theirs->text);
  while (span_starts(rows, SPAN_LIT(":"))) (void)cut_line(&rows);
  while (rest.len > 0) {
    struct span line = cut_line(&rest);
    if (!span_starts(line, SPAN_LIT(":"))) {
      check(span_eq(cut_line(&rows), line));
      continue;
    }
    bool found = false;
    for (struct span at = all; at.len > 0 && !found;) found = span_eq(cut_line(&at), line);
    check(found);
  }
  check(rows.len == 0 && theirs->count == b->count);
  text_fini(&ours);
}

/* one_block runs a block on both; false: the connection is over. */
static bool one_block(struct hpack_decoder *dec, nghttp2_hd_inflater *inflater,
                      struct program *p) {
  unsigned control = byte(p);
  if (control & 16) {
    uint32_t size = two_bytes(p);
    hpack_decoder_set(dec, size);
    check(nghttp2_hd_inflate_change_table_size(inflater, size) == 0);
  }
  struct span block = bytes(p, byte(p));
  struct arena arena;
  struct hpack_block b;
  arena_init(&arena, NULL, 0);
  hpack_block_init(&b, &hpack_wide, &arena);
  enum hpack_result ours = hpack_decode_cut(dec, &b, block, (control & 15) + 1);
  struct peer_list theirs = {.count = 0};
  bool accepted = peer_inflate(inflater, block, control & 64 ? SIZE_MAX : 3, &theirs);
  check(accepted == (ours < HPACK_BAD));
  if (ours == HPACK_DONE) same_fields(&b, &theirs);
  if (accepted) check(nghttp2_hd_inflate_get_dynamic_table_size(inflater) == dec->table.used);
  text_fini(&theirs.text);
  arena_reset(&arena);
  return accepted;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct program p = {data, len};
  struct hpack_decoder dec;
  nghttp2_hd_inflater *inflater;
  hpack_decoder_init(&dec, HPACK_TABLE_DEFAULT);
  check(nghttp2_hd_inflate_new(&inflater) == 0);
  while (p.left > 0 && one_block(&dec, inflater, &p)) continue;
  nghttp2_hd_inflate_del(inflater);
  hpack_decoder_fini(&dec);
  return 0;
}
