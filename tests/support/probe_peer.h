/* probe_peer.h: frames of an endpoint that answers a check over HTTP/2, for tests and fuzz seeds:
 * written by weir's own writers, so they are good unless a caller says otherwise. */
#ifndef WEIR_TESTS_PROBE_PEER_H
#define WEIR_TESTS_PROBE_PEER_H

#include "weir/http/h2_settings.h"
#include "weir/http/hpack.h"

/* peer_section writes HEADERS of stream 1: "200;name=value;name=value", without a status where the
 * first word is empty. */
static inline void peer_section(struct buf *b, struct span fields, bool end) {
  char bytes[65536];
  struct buf block = buf_of(bytes, sizeof bytes);
  struct hpack_encoder enc;
  struct span word;
  bool first = true;
  hpack_encoder_init(&enc, 0);
  hpack_encode_begin(&enc, &block);
  for (; first || fields.len; first = false) {
    if (!span_next_token(&fields, ';', &word)) break;
    size_t at = span_find_char(word, '=', 0);
    if (first && word.len)
      hpack_encode_pseudo(&enc, HPACK_PSEUDO_STATUS, word, false, &block);
    if (first) continue;
    check(at != SIZE_MAX);
    struct http_field row = {.name = span_sub(word, 0, at), .value = span_from(word, at + 1)};
    row.id = (uint16_t)http_name_find(row.name);
    hpack_encode_field(&enc, &row, &block);
  }
  check(hpack_encode_end(&enc, &block));
  hpack_encoder_fini(&enc);
  h2_write_block(b, 1, end, buf_span(&block), H2_FRAME_SIZE_MIN);
}

static inline void peer_data(struct buf *b, struct span bytes, bool end) {
  h2_write_data_head(b, 1, end, (uint32_t)bytes.len);
  buf_put(b, bytes);
}

#endif
