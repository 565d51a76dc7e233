/* test_options.c: the option table itself and every row of it: consistent, parsed at both ends of
 * its range and refused one beyond, printed to what reads back. A new row is tested by standing
 * there. */
#include "config_kit.h"

static void test_table(void **state) {
  (void)state;
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    const struct scope *s = scope_get(o->scope);
    assert_int_equal(o->id, id);
    assert_true((uint32_t)id >= s->first && (uint32_t)id < s->first + s->count);
    assert_true(span_starts(span_str(o->path), span_str(s->path)));
    assert_true(option_local(o).len > 0);
    assert_true(o->doc[strlen(o->doc) - 1] == '.');
    bool group = false;
    assert_ptr_equal(option_find(o->scope, option_local(o), &group), o);
    assert_false(group);
    assert_false(option_later(o->scope, option_local(o)));
    if (o->type == TYPE_MAP || o->type == TYPE_ROWS)
      assert_true(option_child(o) < SCOPE_COUNT);
    else
      assert_true(o->def || o->example); /* full.conf needs one */
  }
}

/* parse_one gives the value of a node of the option, or false and the code. */
static bool parse_one(const struct option *o, struct node *node, struct arena *arena,
                      struct value *out, enum fault_id *id) {
  struct conf_faults *faults = conf_faults_new();
  struct conf_reader reader = kit_reader(&kit_usual);
  struct source src = {.path = SPAN_LIT("/etc/weir/weir.conf"), .text = SPAN_LIT("x")};
  node->at = node->key_at = (struct place){&src, 0, 1, 1};
  struct value_job job = {arena, faults, &reader, o, node, SPAN_EMPTY, SPAN_EMPTY};
  struct fault_view view;
  bool good = value_parse(&job, out);
  assert_int_equal(good, conf_faults_errors(faults) == 0);
  if (!good && faults_view(faults, 0, &view)) *id = view.id;
  conf_faults_free(faults);
  return good;
}

/* number_node writes n as the file would have it for the option's type. */
static struct node number_node(const struct option *o, uint64_t n, struct arena *arena) {
  struct node node = {.kind = NODE_STRING};
  switch ((int)o->type) {
    case TYPE_DURATION: node.string = arena_printf(arena, "%llums", (unsigned long long)n); break;
    case TYPE_SIZE_OFF:
    case TYPE_SIZE: node.string = arena_printf(arena, "%lluB", (unsigned long long)n); break;
    case TYPE_PERCENT: node.string = arena_printf(arena, "%llu%%", (unsigned long long)n); break;
    case TYPE_PPM:
      node.string = arena_printf(arena, "%llu.%04llu%%", (unsigned long long)n / 10000,
                                 (unsigned long long)n % 10000);
      break;
    case TYPE_FACTOR:
      node.string = arena_printf(arena, "%llu.%03llu", (unsigned long long)n / 1000,
                                 (unsigned long long)n % 1000);
      break;
    default: node.kind = NODE_INT; node.integer = (int64_t)n;
  }
  return node;
}

static void check_number(const struct option *o, uint64_t n, bool good) {
  struct arena arena;
  arena_init(&arena, NULL, 0);
  struct node node = number_node(o, n, &arena);
  struct value value = {0};
  enum fault_id id = FAULT_COUNT;
  bool parsed = parse_one(o, &node, &arena, &value, &id);
  if (parsed != good) print_error("%s: %llu\n", o->path, (unsigned long long)n);
  assert_int_equal(parsed, good);
  if (good) {
    uint64_t member = 0;
    assert_int_equal(value.number, n);
    value_store(o, &member, &value); /* the member is wide enough */
    assert_int_equal(value_load(o, &member).number, n);
    struct text printed = {0};
    value_write(o, &value, &printed);
    struct node again = {.kind = NODE_INT, .integer = (int64_t)n};
    struct value back = {0};
    if (printed.ptr[0] == '"') {
      again.kind = NODE_STRING;
      again.string = span_sub(text_span(&printed), 1, printed.len - 2);
    }
    assert_true(parse_one(o, &again, &arena, &back, &id));
    assert_int_equal(back.number, n);
    text_fini(&printed);
  } else {
    assert_int_equal(id, FAULT_OUT_OF_RANGE);
  }
  arena_reset(&arena);
}

/* Every row with a range: both ends, and one beyond each. */
static void test_ranges(void **state) {
  (void)state;
  uint32_t ranged = 0;
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    if (!o->min && !o->max) continue;
    ranged++;
    check_number(o, (uint64_t)o->min, true);
    check_number(o, (uint64_t)o->max, true);
    check_number(o, (uint64_t)o->max + 1, false);
    if (o->min > 0) check_number(o, (uint64_t)o->min - 1, false);
  }
  assert_true(ranged > 30);
}

/* Every row with words: each is known, another is not. */
static void test_words(void **state) {
  (void)state;
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    if (!o->words) continue;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct span rest = span_str(o->words), word;
    while (span_next_token(&rest, ' ', &word)) {
      if (!word.len) continue;
      struct node node = {.kind = NODE_STRING, .string = word};
      struct value value;
      enum fault_id fault;
      assert_true(parse_one(o, &node, &arena, &value, &fault));
    }
    struct node node = {.kind = NODE_STRING, .string = SPAN_LIT("nonsense\x01")};
    struct value value;
    enum fault_id fault;
    assert_false(parse_one(o, &node, &arena, &value, &fault));
    arena_reset(&arena);
  }
}

/* Every row refuses every kind of node that it cannot be. */
static void test_kinds(void **state) {
  (void)state;
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    if (o->type == TYPE_MAP || o->type == TYPE_ROWS) continue;
    struct arena arena;
    arena_init(&arena, NULL, 0);
    static const enum node_kind never[] = {NODE_GROUP, NODE_ARRAY, NODE_LIST};
    for (size_t i = 0; i < array_count(never); i++) {
      struct node node = {.kind = never[i]};
      struct value value;
      enum fault_id fault = FAULT_COUNT;
      assert_false(parse_one(o, &node, &arena, &value, &fault));
      assert_int_equal(fault, FAULT_WRONG_TYPE);
    }
    arena_reset(&arena);
  }
}

/* Defaults and examples are good values; the former come back from value_write. */
static void test_defaults(void **state) {
  (void)state;
  for (enum option_id id = 0; id < OPTION_COUNT; id++) {
    const struct option *o = option_get(id);
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct value value;
    if (o->type != TYPE_MAP && o->type != TYPE_ROWS && value_default(o, &arena, &value)) {
      struct text printed = {0}, want = {0};
      value_write(o, &value, &printed);
      bool quoted = printed.ptr[0] == '"';
      text_printf(&want, quoted ? "\"%s\"" : "%s", o->def);
      text_put(&want, span_of("", 1));
      kit_assert_text(text_span(&printed), want.ptr);
      text_fini(&printed);
      text_fini(&want);
    }
    for (uint32_t i = 0; value_default_item(o, i, &arena, &value); i++) {
      assert_true(o->flags & OPTION_LIST);
      assert_int_equal(word_find(o->def, value.text), i);
    }
    if (o->example) {
      struct node node = {.kind = NODE_STRING, .string = span_str(o->example)};
      if (o->type == TYPE_BOOL) node.kind = NODE_BOOL; /* written without quotes */
      enum fault_id fault;
      assert_true(parse_one(o, &node, &arena, &value, &fault));
    }
    arena_reset(&arena);
  }
}

static void test_units(void **state) {
  (void)state;
  static const struct {
    const char *text;
    uint64_t ms;
    const char *written;
  } times[] = {{"0", 0, "0s"},
               {"0s", 0, "0s"},
               {"250ms", 250, "250ms"},
               {"1s", 1000, "1s"},
               {"60s", 60000, "60s"},
               {"1m", 60000, "60s"},
               {"1m30s", 90000, "90s"},
               {"2m", 120000, "2m"},
               {"1h", 3600000, "1h"},
               {"1d", 86400000, "1d"},
               {"1d2h3m4s5ms", 93784005, "93784005ms"},
               {"1500ms", 1500, "1500ms"}};
  for (size_t i = 0; i < array_count(times); i++) {
    uint64_t ms = 1;
    struct text out = {0};
    assert_true(duration_parse(span_str(times[i].text), &ms));
    assert_int_equal(ms, times[i].ms);
    duration_write(ms, &out);
    kit_assert_text(text_span(&out), times[i].written);
    text_fini(&out);
  }
  static const struct {
    const char *text;
    uint64_t bytes;
    const char *written;
  } sizes[] = {{"0", 0, "0"},
               {"0B", 0, "0"},
               {"1B", 1, "1B"},
               {"1024B", 1024, "1KiB"},
               {"64KiB", 65536, "64KiB"},
               {"16MiB", 16777216, "16MiB"},
               {"1GiB", 1073741824, "1GiB"},
               {"1500B", 1500, "1500B"},
               {"2TiB", UINT64_C(2) << 40, "2TiB"}};
  for (size_t i = 0; i < array_count(sizes); i++) {
    uint64_t bytes = 1;
    struct text out = {0};
    assert_true(size_parse(span_str(sizes[i].text), &bytes));
    assert_int_equal(bytes, sizes[i].bytes);
    size_write(bytes, &out);
    kit_assert_text(text_span(&out), sizes[i].written);
    text_fini(&out);
  }
  static const struct {
    const char *text;
    uint64_t ppm;
  } shares[] = {
      {"0%", 0}, {"100%", 1000000}, {"12.5%", 125000}, {"0.0001%", 1}, {"50.25%", 502500}};
  for (size_t i = 0; i < array_count(shares); i++) {
    uint64_t ppm = 7;
    struct text out = {0};
    assert_true(percent_parse(span_str(shares[i].text), &ppm));
    assert_int_equal(ppm, shares[i].ppm);
    percent_write(ppm, &out);
    kit_assert_text(text_span(&out), shares[i].text);
    text_fini(&out);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_table), cmocka_unit_test(test_ranges),   cmocka_unit_test(test_words),
      cmocka_unit_test(test_kinds), cmocka_unit_test(test_defaults), cmocka_unit_test(test_units),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
