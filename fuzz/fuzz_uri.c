/* fuzz_uri.c: request targets and hosts (http/uri.c). Byte 0 picks the method; the rest is taken
 * for a target and for a host. Checked: spans lie inside, and a canonical host is canonical. Paths
 * are fuzz_path.c's. */
#include "h1_invariants.h"
#include "weir/http/uri.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void try_target(struct span text, enum http_method method) {
  struct http_target t;
  enum end why = END_OK;
  if (!http_target_parse(text, method, &t, &why)) {
    check(why != END_OK);
    return;
  }
  struct span star = SPAN_LIT("*"), root = SPAN_LIT("/");
  check(inside(t.path, text) || span_eq(t.path, star) || span_eq(t.path, root));
  check(inside(t.query, text) && inside(t.authority, text));
  check(t.has_query || t.query.len == 0);
  if (t.form == HTTP_FORM_AUTHORITY || span_eq(t.path, star)) return;
  check(t.path.ptr[0] == '/' && span_find_char(t.path, '?', 0) == SIZE_MAX);
  check(http_query_check(t.query));
}

static void try_host(struct span text) {
  struct arena arena;
  struct http_host host, again;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  if (http_host_canonical(text, &arena, &host, &why)) {
    check(host.name.len > 0 && clean(host.name));
    check(http_host_canonical(host.name, &arena, &again, &why)); /* it is its own canonical form */
    check(span_eq(again.name, host.name) && again.port == 0);
    for (size_t i = 0; i < host.name.len; i++)
      check(ascii_lower(host.name.ptr[i]) == host.name.ptr[i]);
    check(span_find_char(host.name, '@', 0) == SIZE_MAX);
    check(host.name.ptr[host.name.len - 1] != '.');
  } else {
    check(why == END_BAD_REQUEST_HOST);
  }
  arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  static const enum http_method methods[] = {HTTP_METHOD_GET, HTTP_METHOD_OPTIONS,
                                             HTTP_METHOD_CONNECT, HTTP_METHOD_POST};
  struct span text = span_of((const char *)data + 1, len - 1);
  try_target(text, methods[data[0] & 3]);
  try_host(text);
  return 0;
}
