/* test_request.c: a request head is understood however it is cut, and its limits are exact. */
#include "proxy_kit.h"

static void kit_ready(struct kit *k) {
  kit_init(k);
  kit_route(k, "ok", "/ok")->respond.body = SPAN_LIT("fine");
  kit_start(k);
}

/* read_so_far is how many bytes of its only client the worker has. */
static size_t read_so_far(const struct kit *k) {
  const struct serving *sv = container_of(k->w->servings.next, struct serving, link);
  if (list_empty(&sv->downs)) return 0;
  const struct conn *c = container_of(sv->downs.next, struct down, link)->conn;
  return (size_t)c->bytes_in + conn_held(c);
}

/* ask_cut sends raw in two pieces, the second when the first was read. */
static struct span ask_cut(struct kit *k, struct span raw, size_t cut) {
  k->got.len = 0;
  k->closed = k->reset = false;
  struct sim_peer *p = sim_peer_connect(k->sim, &k->at);
  sim_peer_on_data(p, kit_on_data, kit_on_close, k);
  sim_peer_write(p, span_sub(raw, 0, cut));
  for (int i = 0; i < 200 && read_so_far(k) < cut; i++) (void)sim_step(k->sim);
  sim_peer_write(p, span_from(raw, cut));
  sim_peer_shutdown(p);
  for (int i = 0; i < 5000 && !k->closed; i++) (void)sim_step(k->sim);
  assert_true(k->closed);
  sim_peer_free(p);
  return text_span(&k->got);
}

static void split_at_every_byte(void **state) {
  (void)state;
  static const char raw[] =
      "\r\nGET /ok?q=1 HTTP/1.1\r\nHost: example.com\r\nUser-Agent: unit\r\nX-Long: "
      "0123456789\r\n\r\n"
      "HEAD /ok HTTP/1.1\r\nHost: example.com\r\n\r\n";
  struct span all = SPAN_LIT(raw);
  struct kit k = {0};
  kit_ready(&k);
  struct text whole = {0};
  text_put(&whole, ask_cut(&k, all, 0));
  assert_true(span_starts(text_span(&whole), SPAN_LIT("HTTP/1.1 200 ")));
  for (size_t cut = 1; cut < all.len; cut++) {
    struct span got = ask_cut(&k, all, cut);
    assert_int_equal(got.len, whole.len); /* the dates may differ */
    assert_true(span_starts(got, SPAN_LIT("HTTP/1.1 200 ")));
  }
  text_fini(&whole);
  kit_fini(&k);
}

/* head_of makes a head of exactly len bytes. */
static void head_of(struct text *out, size_t len) {
  text_lit(out, "GET /ok HTTP/1.1\r\nHost: h\r\n");
  while (out->len + 1010 < len) {
    text_lit(out, "X-Fill: ");
    for (int i = 0; i < 990; i++) text_lit(out, "f");
    text_lit(out, "\r\n");
  }
  text_lit(out, "X-Last: ");
  while (out->len + 4 < len) text_lit(out, "l");
  text_lit(out, "\r\n\r\n");
  assert_int_equal(out->len, len);
}

static void header_bytes_is_exact(void **state) {
  (void)state;
  struct kit k = {0};
  kit_ready(&k);
  for (size_t over = 0; over < 2; over++) {
    struct text ask = {0};
    head_of(&ask, 8192 + over);
    for (size_t cut = 0; cut < ask.len; cut += 700) {
      struct span got = ask_cut(&k, text_span(&ask), cut);
      assert_true(span_starts(got, over ? SPAN_LIT("HTTP/1.1 431 ") : SPAN_LIT("HTTP/1.1 200 ")));
    }
    text_fini(&ask);
  }
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(split_at_every_byte),
      cmocka_unit_test(header_bytes_is_exact),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
