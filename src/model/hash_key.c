/* hash_key.c: what of a request is hashed for consistent hashing and sticky splits. The hash has
 * no key and no seed of the machine: the same request goes the same way through every weir. Who
 * chooses keys can choose an endpoint; that is what the load bound is for. Called by config/
 * (parse) and proxy/ (find). */
#include "weir/base/hash.h"
#include "weir/http/pairs.h"
#include "weir/model/balance.h"

static const struct {
  struct span text;
  enum hash_source source;
  bool named;
} forms[] = {
    {SPAN_LIT("client_ip"), HASH_CLIENT, false}, {SPAN_LIT("path"), HASH_PATH, false},
    {SPAN_LIT("header:"), HASH_HEADER, true},         {SPAN_LIT("cookie:"), HASH_COOKIE, true},
    {SPAN_LIT("query:"), HASH_QUERY, true},
};

/* name_fits: header and cookie names are tokens; a parameter's is what may stand before "=". */
static bool name_fits(enum hash_source source, struct span name) {
  if (source == HASH_HEADER) return http_name_keyed(name);
  if (source != HASH_QUERY) return http_is_token(name);
  for (size_t i = 0; i < name.len; i++) {
    unsigned char c = (unsigned char)name.ptr[i];
    if (c <= 0x20 || c >= 0x7f || strchr("=&#?", c)) return false;
  }
  return name.len > 0;
}

bool hash_key_parse(struct span text, struct hash_key *out) {
  for (size_t i = 0; i < array_count(forms); i++) {
    struct span name = span_from(text, forms[i].text.len);
    if (!span_starts(text, forms[i].text)) continue;
    if (forms[i].named ? !name_fits(forms[i].source, name) : name.len > 0) continue;
    *out = (struct hash_key){.source = (uint8_t)forms[i].source, .name = name};
    return true;
  }
  return false;
}

struct span hash_key_text(const struct hash_key *key) {
  for (size_t i = 0; i < array_count(forms); i++)
    if (forms[i].source == key->source) return forms[i].text;
  return SPAN_EMPTY;
}

/* header_find gives the first field of that name. */
static struct span header_find(const struct http_fields *fields, struct span name) {
  for (uint32_t i = 0; i < fields->count; i++) {
    const struct http_field *row = &fields->rows[i];
    if (http_field_passed_on(row) && span_eq_nocase(row->name, name)) return row->value;
  }
  return SPAN_EMPTY;
}

static struct span cookie_find(const struct http_fields *fields, struct span name) {
  struct http_cookies at = {0};
  struct span value;
  return http_cookie_next(&at, fields, name, &value) ? value : SPAN_EMPTY;
}

static struct span value_find(const struct hash_key *key, const struct http_request *request,
                              struct span client) {
  struct span value = SPAN_EMPTY, rest = request->query;
  switch ((enum hash_source)key->source) {
    case HASH_NONE: break;
    case HASH_CLIENT: return client;
    case HASH_HEADER: return header_find(&request->fields, key->name);
    case HASH_COOKIE: return cookie_find(&request->fields, key->name);
    case HASH_PATH: return request->path;
    case HASH_QUERY:
      (void)http_query_next(&rest, key->name, &value);
      return value;
  }
  return value;
}

bool hash_key_find(const struct hash_key *key, const struct http_request *request,
                   struct span client, uint64_t *out) {
  struct span value = value_find(key, request, client);
  if (!value.len) return false;
  *out = hash_bytes(value);
  return true;
}
