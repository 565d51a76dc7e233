/* hpack_help.h: what tests and fuzz targets of HPACK need: hexadecimal text, a block decoded
 * fragment by fragment, and the rules that hold of whatever is decoded. */
#ifndef WEIR_TEST_HPACK_HELP_H
#define WEIR_TEST_HPACK_HELP_H

#include "weir/base/hash.h"
#include "weir/http/hpack.h"

static const struct hpack_limits hpack_wide = {
    .fields = 1000, .list_bytes = 1 << 20, .hard_list_bytes = 1 << 24, .block_bytes = 1 << 20};

/* hpack_decode_cut decodes a block in fragments of `piece` bytes. */
static inline enum hpack_result hpack_decode_cut(struct hpack_decoder *dec, struct hpack_block *b,
                                                 struct span in, size_t piece) {
  for (;;) {
    struct span fragment = span_sub(in, 0, piece);
    in = span_from(in, piece);
    enum hpack_result result = hpack_decode(dec, b, fragment, in.len == 0);
    if (result != HPACK_MORE || in.len == 0) return result;
  }
}

/* hpack_list_text writes what a block said, a line per field, pseudo-fields first. */
static inline void hpack_list_text(const struct hpack_block *b, struct text *out) {
  static const char *const names[] = {
#define HPACK_PSEUDO(id, name, first, count, policy) name,
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  };
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++)
    if (hpack_block_has(b, (enum hpack_pseudo)i))
      text_printf(out, "%s: " SPAN_FMT "%s\n", names[i], SPAN_ARG(b->pseudo[i]),
                  b->secret >> i & 1 ? " (secret)" : "");
  for (uint32_t i = 0; i < b->fields.count; i++) {
    const struct http_field *row = &b->fields.rows[i];
    text_printf(out, SPAN_FMT ": " SPAN_FMT "%s\n", SPAN_ARG(row->name), SPAN_ARG(row->value),
                row->secret ? " (secret)" : "");
  }
}

/* hpack_check_rows: no row that HTTP/1.1 could not say, ids and sets as they should be. */
static inline void hpack_check_rows(const struct hpack_block *b) {
  uint64_t present = 0, repeated = 0;
  for (uint32_t i = 0; i < b->fields.count; i++) {
    const struct http_field *row = &b->fields.rows[i];
    check(http_is_token(row->name) && http_is_value(row->value));
    check(span_eq(span_trim(row->value), row->value));
    for (size_t c = 0; c < row->name.len; c++)
      check(ascii_lower(row->name.ptr[c]) == row->name.ptr[c]);
    check(http_name_find(row->name) == row->id && row->flags == 0);
    if (row->id == HTTP_NAME_OTHER) continue;
    repeated |= present & (uint64_t)1 << row->id;
    present |= (uint64_t)1 << row->id;
  }
  check(b->fields.present == present && b->fields.repeated == repeated);
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++) {
    check(http_is_value(b->pseudo[i]));
    check(hpack_block_has(b, (enum hpack_pseudo)i) || b->pseudo[i].len == 0);
  }
  check(b->fields.count <= b->limits->fields);
}

#endif
