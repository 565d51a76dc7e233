/* options.c: the option table as data: scopes, lookup by path. What values mean is values.c. Every
 * other file of config/ reads it; it reads nothing. */
#include "options_priv.h"

#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define PIB (1024 * 1024 * 1024 * MIB)

/* " a b c": the words are the rows of the balancers' table, in its order. */
#define BALANCE(id, name, pick, prepare, observe, worth, hashed, doc) " " name
#define BALANCE_WORDS balance_words
static const char balance_words[] =
#include "weir/upstream/balance.def"
    ;
#undef BALANCE

/* The same of retry.def. */
#define RETRY(id, word, doc) " " word
#define RETRY_WORDS retry_words
static const char retry_words[] =
#include "weir/model/retry.def"
    ;
#undef RETRY

#define SCOPE(id, path, type, first, last) typedef type scope_type_##id;
#include "weir/config/options.def"

static const struct option options[OPTION_COUNT] = {
#define OPTION(id, scope, path, type, min, max, words, def, example, member, flags, doc) \
  [OPTION_##id] = {OPTION_##id, \
                   SCOPE_##scope, \
                   path, \
                   TYPE_##type, \
                   min, \
                   max, \
                   words, \
                   def, \
                   example, \
                   offsetof(scope_type_##scope, member), \
                   sizeof(((scope_type_##scope *)NULL)->member), \
                   flags, \
                   doc},
#include "weir/config/options.def"
};

static const struct scope scopes[SCOPE_COUNT] = {
#define SCOPE(id, path, type, first, last) \
  [SCOPE_##id] = {path, sizeof(type), OPTION_##first, OPTION_##last - OPTION_##first + 1},
#include "weir/config/options.def"
};

static const char *const later_paths[] = {
#define LATER(path) path,
#include "weir/config/options.def"
    NULL /* there may be none */
};

const struct option *option_get(enum option_id id) {
  check(id < OPTION_COUNT);
  return &options[id];
}

const struct scope *scope_get(enum scope_id id) {
  check(id < SCOPE_COUNT);
  return &scopes[id];
}

const char *later_get(uint32_t i) { return i < array_count(later_paths) ? later_paths[i] : NULL; }

/* local_in cuts a scope's path and the dot off; empty when path is not in the scope. */
static struct span local_in(enum scope_id id, const char *path) {
  struct span whole = span_str(path), head = span_str(scopes[id].path);
  if (!head.len) return whole;
  if (!span_starts(whole, head) || whole.len <= head.len + 1) return SPAN_EMPTY;
  return span_from(whole, head.len + 1);
}

struct span option_local(const struct option *option) {
  return local_in(option->scope, option->path);
}

enum scope_id option_child(const struct option *option) {
  struct span path = span_str(option->path);
  for (enum scope_id id = 0; id < SCOPE_COUNT; id++) {
    struct span child = span_str(scopes[id].path);
    if (child.len == path.len + 2 && span_starts(child, path)) return id;
  }
  check(false); /* a MAP or ROWS option without a SCOPE */
  return SCOPE_COUNT;
}

const struct option *option_find(enum scope_id scope, struct span local, bool *group) {
  const struct scope *s = scope_get(scope);
  *group = false;
  for (uint32_t i = 0; i < s->count; i++) {
    const struct option *o = &options[s->first + i];
    struct span path = option_local(o);
    if (span_eq(path, local)) return o;
    if (span_starts(path, local) && path.ptr[local.len] == '.') *group = true;
  }
  return NULL;
}

enum option_type option_key_type(struct span key) {
  enum option_type type = TYPE_COUNT_OF;
  for (uint32_t i = 0; i < OPTION_COUNT && key.len; i++) {
    struct span path = span_str(options[i].path);
    if (path.len < key.len || !span_ends(path, key)) continue;
    if (path.len > key.len && path.ptr[path.len - key.len - 1] != '.') continue;
    if (type != TYPE_COUNT_OF && type != options[i].type) return TYPE_COUNT_OF;
    type = options[i].type;
  }
  return type;
}

bool option_later(enum scope_id scope, struct span local) {
  for (uint32_t i = 0; later_paths[i]; i++)
    if (span_eq(local_in(scope, later_paths[i]), local)) return true;
  return false;
}
