/* test_websocket.c: keys and their answers, by the example of RFC 6455 section 1.3 and others that
 * were made with another implementation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/websocket.h"

static const struct {
  struct span nonce, key, accept;
} cases[] = {
    {{"the sample nonce", 16}, {"dGhlIHNhbXBsZSBub25jZQ==", 24},
     {"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28}}, /* RFC 6455 section 1.3 */
    {{"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16}, {"AAAAAAAAAAAAAAAAAAAAAA==", 24},
     {"ICX+Yqv66kxgM0FcWaLWlFLwTAI=", 28}},
    {{"\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377\377", 16},
     {"/////////////////////w==", 24}, {"XXpj4jYzLM2yUE0C7TIgMwTQh2g=", 28}},
};

static void keys_and_answers(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    char key[WEBSOCKET_KEY_LEN], accept[WEBSOCKET_ACCEPT_LEN];
    websocket_key((const uint8_t *)cases[i].nonce.ptr, key);
    assert_memory_equal(key, cases[i].key.ptr, WEBSOCKET_KEY_LEN);
    assert_true(websocket_accept(cases[i].key, accept));
    assert_memory_equal(accept, cases[i].accept.ptr, WEBSOCKET_ACCEPT_LEN);
  }
}

static void what_is_no_key(void **state) {
  (void)state;
  char accept[WEBSOCKET_ACCEPT_LEN];
  assert_false(websocket_accept(SPAN_EMPTY, accept));
  assert_false(websocket_accept(SPAN_LIT("dGhlIHNhbXBsZSBub25jZQ="), accept));
  assert_false(websocket_accept(SPAN_LIT("dGhlIHNhbXBsZSBub25jZQ==="), accept));
}

static void protocols(void **state) {
  (void)state;
  assert_true(websocket_is(SPAN_LIT("websocket")) && websocket_is(SPAN_LIT("WebSocket")));
  assert_false(websocket_is(SPAN_EMPTY) || websocket_is(SPAN_LIT("websocket/13")));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_and_answers),
      cmocka_unit_test(what_is_no_key),
      cmocka_unit_test(protocols),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
