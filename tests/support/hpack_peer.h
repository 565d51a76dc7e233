/* hpack_peer.h: nghttp2's HPACK beside ours (tests and fuzz targets only): blocks through its
 * inflater and deflater, as the same kind of text that hpack_help.h makes. */
#ifndef WEIR_TEST_HPACK_PEER_H
#define WEIR_TEST_HPACK_PEER_H

#include <nghttp2/nghttp2.h>

#include "hpack_help.h"

/* peer_list is what nghttp2 read: pseudo-fields and fields in their order, a line each. */
struct peer_list {
  struct text text;
  size_t count;
};

/* peer_line writes a field as hpack_list_text does; secrets are told apart by the caller. */
static inline void peer_line(struct text *out, struct span name, struct span value, bool secret) {
  text_put(out, name);
  text_lit(out, ": ");
  text_put(out, value);
  if (secret) text_lit(out, " (secret)");
  text_lit(out, "\n");
}

/* peer_inflate reads a block in pieces; false: refused. */
static inline bool peer_inflate(nghttp2_hd_inflater *inflater, struct span in, size_t piece,
                                struct peer_list *list) {
  for (;;) {
    struct span now = span_sub(in, 0, piece);
    in = span_from(in, now.len);
    bool last = in.len == 0;
    for (;;) {
      nghttp2_nv nv;
      int flags = 0;
      ssize_t used =
          nghttp2_hd_inflate_hd2(inflater, &nv, &flags, (const uint8_t *)now.ptr, now.len, last);
      if (used < 0) return false;
      now = span_from(now, (size_t)used);
      if (flags & NGHTTP2_HD_INFLATE_EMIT) {
        list->count++;
        peer_line(&list->text, span_of((const char *)nv.name, nv.namelen),
                  span_of((const char *)nv.value, nv.valuelen),
                  (nv.flags & NGHTTP2_NV_FLAG_NO_INDEX) != 0);
      }
      if (flags & NGHTTP2_HD_INFLATE_FINAL) {
        nghttp2_hd_inflate_end_headers(inflater);
        return true;
      }
      if (!(flags & NGHTTP2_HD_INFLATE_EMIT) && now.len == 0) break;
    }
    if (last) return true;
  }
}

#endif
