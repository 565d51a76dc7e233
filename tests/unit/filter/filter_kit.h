/* filter_kit.h: a filter context around a parsed request, for the tests of filter/. */
#ifndef TESTS_UNIT_FILTER_KIT_H
#define TESTS_UNIT_FILTER_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "filter/filter_priv.h"
#include "weir/http/h1.h"

struct kit {
  struct arena arena;
  struct listener listener;
  struct http_request request;
  struct http_response response;
  struct addr_net trusted[4];
  struct filter_ctx ctx;
};

/* kit_init parses head as a request; limit bounds the arena (0: none). */
static inline void kit_init(struct kit *k, const char *head, size_t limit) {
  memset(k, 0, sizeof *k);
  arena_init(&k->arena, NULL, limit);
  struct h1_limits limits = {65536, 100, 8192};
  struct h1_scan scan = {0};
  enum end why = END_OK;
  enum http_result r =
      h1_parse_request(&scan, span_str(head), &limits, &k->arena, &k->request, &why);
  if (r != HTTP_DONE) fail_msg("the head of the test is refused: %s", end_get(why)->word.ptr);
  k->ctx = (struct filter_ctx){
      .arena = &k->arena, .listener = &k->listener, .request = &k->request};
}

static inline void kit_fini(struct kit *k) { arena_reset(&k->arena); }

/* kit_peer sets the peer: an IP address, or "unix" or "none" for the two forms of a unix socket.
 */
static inline void kit_peer(struct kit *k, const char *peer) {
  if (strcmp(peer, "none") == 0) return;
  if (strcmp(peer, "unix") == 0) {
    k->ctx.peer.len = sizeof(sa_family_t);
    k->ctx.peer.sa.sa_family = AF_UNIX;
    return;
  }
  assert_true(addr_from_ip(span_str(peer), 41000, &k->ctx.peer));
}

/* kit_trust sets trusted_proxies from words between spaces; "unix" trusts unix peers too. */
static inline void kit_trust(struct kit *k, const char *nets) {
  struct span rest = span_str(nets), word;
  while (span_next_token(&rest, ' ', &word)) {
    if (!word.len) continue;
    if (span_eq(word, SPAN_LIT("unix"))) {
      k->listener.trust_unix = true;
      continue;
    }
    assert_true(k->listener.trusted_count < array_count(k->trusted));
    assert_true(addr_net_parse(word, &k->trusted[k->listener.trusted_count++]));
  }
  k->listener.trusted = k->trusted;
}

/* kit_sent joins the values of the rows of a name that would be written, by "|". */
static inline struct span kit_sent(struct kit *k, const struct http_fields *f, const char *name) {
  static char text[4096];
  struct buf b = buf_of(text, sizeof text);
  (void)k;
  for (uint32_t i = 0; i < f->count; i++) {
    const struct http_field *row = &f->rows[i];
    if (row->flags || !span_eq_nocase(row->name, span_str(name))) continue;
    if (b.len) buf_char(&b, '|');
    buf_put(&b, row->value);
  }
  assert_false(b.full);
  return buf_span(&b);
}

#define assert_span(got, want)                                                            \
  do {                                                                                    \
    struct span got_ = (got), want_ = span_str(want);                                     \
    if (!span_eq(got_, want_))                                                            \
      fail_msg("\"" SPAN_FMT "\" is not \"" SPAN_FMT "\"", SPAN_ARG(got_), SPAN_ARG(want_)); \
  } while (0)

#endif
