/* test_sticky.c: the cookie: what it says and what not, who it names, and that nobody can make one
 * up; Set-Cookie with every attribute. */
#include "upstream_kit.h"

static const struct kit_member three[] = {{1, false, 0}, {1, false, 0}, {1, true, 0}};

#define KEY SPAN_LIT("0123456789abcdef")

static struct sticky_settings plain(void) {
  return (struct sticky_settings){
      .cookie = SPAN_LIT("weir"), .path = SPAN_LIT("/"), .httponly = true};
}

static void kit_sticky(struct kit *k, const struct sticky_settings *settings, struct span key) {
  kit_init(k, three, array_count(three), 1);
  sticky_prepare(k->pool, settings, key);
}

/* value_of cuts "name=VALUE; ..." */
static struct span value_of(const struct kit *k, uint32_t place) {
  struct span field = k->pool->sticky->plain[place];
  size_t from = span_find_char(field, '=', 0) + 1, to = span_find_char(field, ';', 0);
  return span_sub(field, from, to - from);
}

static uint32_t find(const struct kit *k, const char *format, struct span value) {
  struct arena arena;
  struct http_fields fields = {0};
  arena_init(&arena, NULL, 0);
  char text[256];
  struct buf b = buf_of(text, sizeof text);
  for (const char *c = format; *c; c++)
    if (*c == '%') buf_put(&b, value);
    else buf_char(&b, *c);
  assert_true(http_fields_add(&fields, &arena, SPAN_LIT("Cookie"), buf_span(&b)));
  uint32_t place = sticky_find(k->pool->sticky, &fields);
  arena_reset(&arena);
  return place;
}

static void names_its_endpoint(void **state) {
  (void)state;
  struct sticky_settings settings = plain();
  struct kit k;
  kit_sticky(&k, &settings, KEY);
  for (uint32_t i = 0; i < 3; i++) {
    struct span value = value_of(&k, i);
    assert_int_equal(value.len, 32);
    assert_int_equal(find(&k, "weir=%", value), i);
    assert_int_equal(find(&k, "a=1; weir=%; b=2", value), i);
    assert_int_equal(find(&k, "weir=forged; weir=%", value), i);
    assert_int_equal(find(&k, "other=%", value), PLACE_NONE);
    assert_int_equal(find(&k, "WEIR=%", value), PLACE_NONE);
    for (uint32_t j = 0; j < i; j++) assert_false(span_eq(value, value_of(&k, j)));
  }
  struct http_fields none = {0};
  assert_int_equal(sticky_find(k.pool->sticky, &none), PLACE_NONE);
  kit_fini(&k);
}

/* Every byte that is changed, added or missing, and every other spelling, names nobody. */
static void a_forged_one_names_nobody(void **state) {
  (void)state;
  struct sticky_settings settings = plain();
  struct kit k;
  kit_sticky(&k, &settings, KEY);
  char text[40];
  struct span value = value_of(&k, 1);
  for (size_t i = 0; i < 32; i++)
    for (const char *c = "0123456789abcdefABCDEFgG-%"; *c; c++) {
      memcpy(text, value.ptr, 32);
      if (text[i] == *c) continue;
      text[i] = *c;
      assert_int_equal(find(&k, "weir=%", span_of(text, 32)), PLACE_NONE);
    }
  assert_int_equal(find(&k, "weir=%", span_sub(value, 0, 31)), PLACE_NONE);
  assert_int_equal(find(&k, "weir=%0", value), PLACE_NONE);
  assert_int_equal(find(&k, "weir=\"%\"", value), PLACE_NONE);
  assert_int_equal(find(&k, "weir=", value), PLACE_NONE);
  assert_int_equal(find(&k, "weir", value), PLACE_NONE);
  kit_fini(&k);
}

/* The same key and names give the same cookies, in another process or on another machine; another
 * key or pool gives others. The value is known: it may not change from version to version. */
static void stable_and_keyed(void **state) {
  (void)state;
  struct sticky_settings settings = plain();
  struct kit a, b, c;
  kit_sticky(&a, &settings, KEY);
  kit_sticky(&b, &settings, KEY);
  kit_sticky(&c, &settings, SPAN_LIT("0123456789abcdeg"));
  for (uint32_t i = 0; i < 3; i++) {
    assert_true(span_eq(value_of(&a, i), value_of(&b, i)));
    assert_int_equal(find(&b, "weir=%", value_of(&a, i)), i);
    assert_int_equal(find(&c, "weir=%", value_of(&a, i)), PLACE_NONE);
  }
  /* HMAC-SHA256(KEY, "weir sticky\0app\010.0.0.1:80\010.0.0.1:80"), by another implementation. */
  assert_true(span_eq(value_of(&a, 0), SPAN_LIT("52ee6cf33b281967c4a5dad42a920b85")));
  kit_fini(&a);
  kit_fini(&b);
  kit_fini(&c);
}

static void attributes(void **state) {
  (void)state;
  static const struct {
    struct sticky_settings settings;
    const char *plain, *secured; /* behind the value */
  } rows[] = {
      {{.path = SPAN_LIT("/"), .httponly = true},
       "; Path=/; HttpOnly; SameSite=Lax", "; Path=/; HttpOnly; SameSite=Lax; Secure"},
      {{.path = SPAN_LIT("/shop"), .max_age_ms = 90000, .samesite = SAMESITE_STRICT,
        .secure = SECURE_ON},
       "; Path=/shop; Max-Age=90; SameSite=Strict; Secure",
       "; Path=/shop; Max-Age=90; SameSite=Strict; Secure"},
      {{.path = SPAN_LIT("/"), .samesite = SAMESITE_OFF, .secure = SECURE_OFF}, "; Path=/",
       "; Path=/"},
      {{.path = SPAN_LIT("/"), .samesite = SAMESITE_NONE, .max_age_ms = UINT64_C(34560000000)},
       "; Path=/; Max-Age=34560000; SameSite=None",
       "; Path=/; Max-Age=34560000; SameSite=None; Secure"},
  };
  for (size_t i = 0; i < array_count(rows); i++) {
    struct sticky_settings settings = rows[i].settings;
    struct kit k;
    settings.cookie = SPAN_LIT("__Host-w");
    kit_sticky(&k, &settings, KEY);
    const struct pool_sticky *s = k.pool->sticky;
    assert_true(span_starts(s->plain[2], SPAN_LIT("__Host-w=")));
    assert_true(span_eq(span_from(s->plain[2], 9 + 32), span_str(rows[i].plain)));
    assert_true(span_eq(span_from(s->secured[2], 9 + 32), span_str(rows[i].secured)));
    assert_true(span_eq(span_sub(s->secured[2], 0, 41), span_sub(s->plain[2], 0, 41)));
    kit_fini(&k);
  }
}

/* A session follows its cookie to an endpoint that was not checked yet only while no other is in
 * service: after a start, not when a new endpoint joins. */
static void unchecked_endpoints(void **state) {
  (void)state;
  struct sticky_settings settings = plain();
  struct kit k;
  kit_sticky(&k, &settings, KEY);
  struct pool_want want = {.sticky = 1, .now_ms = 1};
  for (uint32_t i = 0; i < 3; i++) kit_state(&k, i, ENDPOINT_UNKNOWN);
  for (uint32_t i = 0; i < 30; i++)
    assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, &want)), 1);
  kit_state(&k, 0, ENDPOINT_UP);
  for (uint32_t i = 0; i < 30; i++)
    assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, &want)), 0);
  kit_state(&k, 1, ENDPOINT_DOWN);
  kit_state(&k, 0, ENDPOINT_UNKNOWN);
  assert_int_equal(kit_place(&k, pool_pick(&k.up[0], k.pool, &want)), 0);
  kit_fini(&k);
}

static void a_pool_without_members(void **state) {
  (void)state;
  struct sticky_settings settings = plain();
  struct kit k;
  kit_init(&k, NULL, 0, 1);
  sticky_prepare(k.pool, &settings, KEY);
  assert_int_equal(find(&k, "weir=%", SPAN_LIT("00000000000000000000000000000000")), PLACE_NONE);
  kit_fini(&k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names_its_endpoint),
      cmocka_unit_test(a_forged_one_names_nobody),
      cmocka_unit_test(stable_and_keyed),
      cmocka_unit_test(attributes),
      cmocka_unit_test(unchecked_endpoints),
      cmocka_unit_test(a_pool_without_members),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
