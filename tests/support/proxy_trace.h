/* proxy_trace.h: what proxy_header_parse made of bytes as text, the same however they are cut.
 * Checks what holds of every result on its way. Used by test_proxy_header.c and
 * fuzz_proxy_header.c. */
#ifndef WEIR_TESTS_PROXY_TRACE_H
#define WEIR_TESTS_PROXY_TRACE_H

#include "weir/http/proxy_header.h"

static inline void proxy_trace_span(struct text *t, const char *name, struct span s,
                                    struct span in) {
  if (s.len == 0) return;
  check(s.ptr >= in.ptr && s.ptr + s.len <= in.ptr + in.len);
  text_printf(t, " %s=", name);
  for (size_t i = 0; i < s.len; i++)
    text_printf(t, s.ptr[i] > ' ' && s.ptr[i] <= '~' ? "%c" : "\\%02x", (unsigned char)s.ptr[i]);
}

static inline void proxy_trace_addr(struct text *t, const struct addr *a) {
  char room[160];
  struct buf b = buf_of(room, sizeof(room));
  addr_write(a, &b);
  check(!b.full);
  text_lit(t, " ");
  text_put(t, buf_span(&b));
}

/* proxy_trace_header is a header as text; spans lie in `in`. */
static inline void proxy_trace_header(struct text *t, const struct proxy_header *h,
                                      struct span in) {
  text_printf(t, "v%u", h->version);
  if (h->local) {
    check(h->src.len == 0 || h->src.sa.sa_family == AF_UNSPEC || h->version == 2);
    text_lit(t, " local");
    return;
  }
  if (h->datagram) text_lit(t, " datagram");
  proxy_trace_addr(t, &h->src);
  proxy_trace_addr(t, &h->dst);
  proxy_trace_span(t, "alpn", h->alpn, in);
  proxy_trace_span(t, "authority", h->authority, in);
  proxy_trace_span(t, "id", h->unique_id, in);
  proxy_trace_span(t, "netns", h->netns, in);
  if (h->has_ssl) text_printf(t, " ssl=%u,%u", h->ssl.client, h->ssl.verify);
  proxy_trace_span(t, "version", h->ssl.version, in);
  proxy_trace_span(t, "cn", h->ssl.cn, in);
  proxy_trace_span(t, "cipher", h->ssl.cipher, in);
  proxy_trace_span(t, "sig", h->ssl.sig_alg, in);
  proxy_trace_span(t, "key", h->ssl.key_alg, in);
  if (h->checksum) text_lit(t, " checksum");
}

/* proxy_trace_read gives the first `had` bytes of in, then one more at a time. The header is
 * *out; the text is the caller's to free: the header and how long it is, "!" and a reason, or
 * "more". */
static inline enum http_result proxy_trace_read(struct span in, size_t had,
                                                struct proxy_header *out, struct text *t) {
  enum http_result result = HTTP_MORE;
  enum proxy_fault why = PROXY_FAULT_NONE;
  size_t len = 0;
  for (; had <= in.len && result == HTTP_MORE; had++) {
    struct span view = span_sub(in, 0, had);
    result = proxy_header_parse(view, out, &len, &why);
    check((result == HTTP_BAD) == (why != PROXY_FAULT_NONE));
    check((result == HTTP_DONE) == (len > 0) && len <= had);
  }
  if (result == HTTP_MORE) text_lit(t, "more");
  if (result == HTTP_BAD) {
    check(proxy_fault_end(why) != END_OK && proxy_fault_text(why).len > 0);
    text_lit(t, "!");
    text_put(t, proxy_fault_text(why));
  }
  if (result == HTTP_DONE) {
    proxy_trace_header(t, out, span_sub(in, 0, len));
    text_printf(t, " (%zu)", len);
  }
  return result;
}

#endif
