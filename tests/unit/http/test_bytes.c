/* test_bytes.c: byte classes against the RFC grammars, and the SSE2 scans against their scalar
 * twins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "http/bytes_priv.h"
#include "weir/base/hash.h"

static void classes(void **state) {
  (void)state;
  for (int b = 0; b < 256; b++) {
    bool digit = b >= '0' && b <= '9';
    bool alpha = (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z');
    bool hex = digit || (b >= 'a' && b <= 'f') || (b >= 'A' && b <= 'F');
    bool token = digit || alpha || (b != 0 && strchr("!#$%&'*+-.^_`|~", b) != NULL);
    bool visible = b >= 0x21 && b <= 0x7e;
    bool value = b == '\t' || b == ' ' || visible || b >= 0x80;
    unsigned got = byte_class((char)b);
    assert_int_equal((got & BYTE_TOKEN) != 0, token);
    assert_int_equal((got & BYTE_HEX) != 0, hex);
    assert_int_equal((got & BYTE_TARGET) != 0, visible);
    assert_int_equal((got & BYTE_VALUE) != 0, value);
    assert_int_equal((got & BYTE_UNDERSCORE) != 0, b == '_');
    assert_int_equal((got & BYTE_PATH) != 0, visible && strchr("%/?#\\", b) == NULL);
  }
}

/* Every byte value at every place of blocks of every length up to three vectors. */
static void scans_agree_on_single_bytes(void **state) {
  (void)state;
  for (size_t len = 1; len < 50; len++) {
    char *block = malloc(len);
    assert_non_null(block);
    memset(block, 'a', len);
    assert_int_equal(bytes_value_end(block, 0, len), len);
    for (size_t at = 0; at < len; at++) {
      for (int b = 0; b < 256; b++) {
        block[at] = (char)b;
        assert_int_equal(bytes_value_end(block, 0, len), bytes_end_of(BYTE_VALUE, block, 0, len));
        assert_int_equal(bytes_target_end(block, 0, len),
                         bytes_end_of(BYTE_TARGET, block, 0, len));
      }
      block[at] = 'a';
    }
    free(block);
  }
}

static void scans_agree_on_random_bytes(void **state) {
  (void)state;
  uint64_t rng = 7;
  for (int turn = 0; turn < 20000; turn++) {
    size_t len = rng_next(&rng) % 200;
    char block[200];
    for (size_t i = 0; i < len; i++)
      block[i] = (char)(rng_next(&rng) % 40 ? 0x21 + rng_next(&rng) % 0x5e : rng_next(&rng));
    size_t from = len ? rng_next(&rng) % (len + 1) : 0;
    assert_int_equal(bytes_value_end(block, from, len),
                     bytes_end_of(BYTE_VALUE, block, from, len));
    assert_int_equal(bytes_target_end(block, from, len),
                     bytes_end_of(BYTE_TARGET, block, from, len));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(classes),
      cmocka_unit_test(scans_agree_on_single_bytes),
      cmocka_unit_test(scans_agree_on_random_bytes),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
