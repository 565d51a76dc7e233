/* hpack_rows_priv.h: one decoded field on its way into the block (hpack_rows.c). */
#ifndef WEIR_HTTP_HPACK_ROWS_PRIV_H
#define WEIR_HTTP_HPACK_ROWS_PRIV_H

#include "hpack_priv.h"

/* hpack_row is a field with what is known of its name. */
struct hpack_row {
  struct span name, value;
  uint8_t known;  /* number of the name in hpack_names, or 0 */
  uint8_t faults; /* of name and value */
  bool secret;
};

/* hpack_row_name sets the name to text that came as such: looks whether it is known, and checks it
 * if not. text: what the row keeps, unless known. */
void hpack_row_name(struct hpack_row *row, struct span text);
/* hpack_row_value sets and checks the value. plain: it has no byte that may not stand there. */
void hpack_row_value(struct hpack_row *row, struct span value, bool plain);
/* hpack_block_charge counts a field of so many bytes; false: beyond a hard limit. */
MUST_USE bool hpack_block_charge(struct hpack_block *block, size_t bytes);
/* hpack_block_store puts a row that was charged where it belongs, unless the block is too large.
 */
void hpack_block_store(struct hpack_block *block, const struct hpack_row *row);
/* hpack_block_room gives room for need bytes of strings, of which hpack_block_take takes what was
 * used. NULL: the arena is used up; the block is too large then. */
char *hpack_block_room(struct hpack_block *block, size_t need);
static inline void hpack_block_take(struct hpack_block *block, size_t used) {
  block->room += used;
  block->room_len -= used;
}
/* hpack_block_close gives unused room back. */
void hpack_block_close(struct hpack_block *block);

#endif
