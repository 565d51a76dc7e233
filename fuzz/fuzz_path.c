/* fuzz_path.c: the canonical path (http/path.c), and what becomes of it (model/route_table.c).
 * Byte 0 picks the policy; the rest is the path. Checked: the result is its own canonical form and
 * not longer than what came; what the policy refuses is not in it; a backend that decodes it once
 * more finds no dot segment in it; the forwarded bytes find the same route again; a plain path is
 * not copied. */
#include "h1_invariants.h"
#include "weir/base/mem.h"
#include "weir/http/path.h"
#include "weir/model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = ascii_lower(c);
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static struct path_policy policy_of(uint8_t byte) {
  return (struct path_policy){.slashes = (uint8_t)((byte & 3) % 3),
                              .encoded_slash = (byte >> 2) & 1,
                              .dot_segments = (byte >> 3) & 1,
                              .utf8 = (byte >> 4) & 1};
}

/* check_escape looks at the escape at `at` of a result. */
static unsigned char check_escape(struct span out, size_t at, const struct path_policy *policy) {
  check(out.len - at >= 3);
  int high = hex(out.ptr[at + 1]), low = hex(out.ptr[at + 2]);
  check(high >= 0 && low >= 0);
  check(out.ptr[at + 1] < 'a' && out.ptr[at + 2] < 'a'); /* upper case */
  unsigned char byte = (unsigned char)(high * 16 + low);
  check(byte >= 0x20 && byte != 0x7f);
  bool letter = ascii_lower((char)byte) >= 'a' && ascii_lower((char)byte) <= 'z';
  check(!letter && !(byte >= '0' && byte <= '9') && !memchr("-._~", byte, 4));
  check(policy->encoded_slash == PATH_ENCODED_KEEP || (byte != '/' && byte != '\\'));
  return byte;
}

/* check_result looks at every byte of a result, and at what it decodes to. */
static void check_result(struct span out, const struct path_policy *policy) {
  char *plain = mem_alloc(out.len + 1);
  size_t count = 0;
  for (size_t i = 0; i < out.len; i++) {
    unsigned char c = (unsigned char)out.ptr[i];
    check(c > 0x20 && c < 0x7f && c != '#' && c != '?' && c != '\\');
    bool doubled = c == '/' && i + 1 < out.len && out.ptr[i + 1] == '/';
    check(!doubled || policy->slashes == PATH_SLASHES_KEEP);
    if (c == '%') {
      c = check_escape(out, i, policy);
      i += 2;
    }
    plain[count++] = (char)(c == '\\' ? '/' : c);
  }
  for (size_t at = 0; at < count; at++) {
    if (plain[at] != '/') continue;
    size_t dots = 0;
    while (plain[at + 1 + dots] == '.') dots++;
    char after = plain[at + 1 + dots];
    check(dots == 0 || dots > 2 || (after != 0 && after != '/' && after != ';'));
  }
  mem_free(plain);
}

/* check_route: what is forwarded finds the same route when it is matched again. */
static void check_route(struct span out, struct span again) {
  static struct route routes[] = {
      {.order = 0, .path_kind = ROUTE_PATH_PREFIX, .path = {"/", 1}},
      {.order = 1, .path_kind = ROUTE_PATH_PREFIX, .path = {"/admin", 6}},
      {.order = 2, .path_kind = ROUTE_PATH_EXACT, .path = {"/a/b", 4}},
      {.order = 3, .path_kind = ROUTE_PATH_PREFIX, .path = {"/a", 2}},
  };
  struct route *list[] = {&routes[0], &routes[1], &routes[2], &routes[3]};
  struct arena arena;
  struct route_hit one, two;
  arena_init(&arena, NULL, 0);
  struct route_table *table = route_table_new(&arena, list, array_count(list));
  struct route_query q = {.path = out}, p = {.path = again};
  check(route_find(table, &q, &one) == ROUTE_FOUND && route_find(table, &p, &two) == ROUTE_FOUND);
  check(one.route == two.route);
  arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  struct path_policy policy = policy_of(data[0]);
  struct span path = span_of((const char *)data + 1, len - 1), out = SPAN_EMPTY, again;
  struct arena arena;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  if (path_canonical(path, &policy, &arena, &out, &why)) {
    check(out.len > 0 && out.len <= path.len && out.ptr[0] == '/');
    check(!span_eq(out, path) || out.ptr == path.ptr || span_find_char(path, '%', 0) != SIZE_MAX ||
          policy.slashes == PATH_SLASHES_KEEP);
    check_result(out, &policy);
    check(path_canonical(out, &policy, &arena, &again, &why) && span_eq(again, out));
    check_route(out, again);
  } else {
    check(out.ptr == NULL && end_get(why)->status == 400);
    check(span_starts(end_get(why)->word, SPAN_LIT("client.bad_request.path")));
  }
  arena_reset(&arena);
  return 0;
}
