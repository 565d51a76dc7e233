/* check_match.c: conditions of a route on headers, query, cookies and sources: that each asks for
 * one thing, and how two routes are seen to ask for the same; paths that the listener's policy
 * never lets through. Called by check_routes.c and check.c. */
#include <stdio.h>
#include <stdlib.h>

#include "doubt_priv.h"
#include "load_priv.h"

/* The options of the three scopes stand in the same order. */
static enum option_id option_of(const struct conf_value *value, enum option_id header_option) {
  enum option_id first = scope_get(value->row.scope)->first;
  return (enum option_id)(first + (uint32_t)(header_option - OPTION_HEADER_NAME));
}

static bool is_set(const struct conf_value *value, enum option_id header_option) {
  return row_origin(&value->row, option_of(value, header_option))->node != NULL;
}

static unsigned kinds(const struct conf_value *value) {
  unsigned count = 0;
  for (enum option_id id = OPTION_HEADER_EXACT; id <= OPTION_HEADER_PRESENT; id++)
    count += is_set(value, id);
  return count;
}

static bool kinds_lost(const struct conf_value *value) {
  return row_lost_any(&value->row, option_of(value, OPTION_HEADER_EXACT),
                      option_of(value, OPTION_HEADER_PRESENT));
}

static void check_value(struct conf *conf, const struct conf_value *value) {
  unsigned count = kinds(value);
  if (count == 1 || faults_has_syntax(conf->faults) || kinds_lost(value)) return;
  fault_add(conf->faults, FAULT_CONDITION, value->row.at,
            "a condition needs one of exact, prefix, regex, present; here %s",
            count ? "are several" : "is none");
  if (!count) fault_note(conf->faults, "present = true; asks only that it is there");
}

void check_conditions(struct conf *conf, const struct conf_route *route) {
  static const enum option_id lists[] = {[MATCH_HEADER] = OPTION_ROUTE_HEADERS,
                                         [MATCH_QUERY] = OPTION_ROUTE_QUERY,
                                         [MATCH_COOKIE] = OPTION_ROUTE_COOKIES};
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) {
    const struct node *node = row_origin(&route->row, lists[part])->node;
    bool list = node && (node->kind == NODE_LIST || node->kind == NODE_ARRAY);
    if (list && !node->count && !faults_has_syntax(conf->faults))
      fault_add(conf->faults, FAULT_EMPTY, node->at, "%s is empty", option_get(lists[part])->path);
    rows_each(&route->values[part], struct conf_value, value) check_value(conf, value);
  }
}

bool conditions_whole(const struct conf_route *route) {
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) {
    rows_each(&route->values[part], struct conf_value, value) {
      struct span text;
      enum match_kind kind = value_kind(value, &text);
      bool refused = !text.len && (kind == MATCH_PREFIX || kind == MATCH_REGEX);
      if (!value->name.len || kinds(value) != 1 || refused || value->row.strays) return false;
      if (kinds_lost(value)) return false;
    }
  }
  return true;
}

enum match_kind value_kind(const struct conf_value *value, struct span *text) {
  *text = value->exact;
  if (is_set(value, OPTION_HEADER_EXACT)) return MATCH_EXACT;
  *text = value->prefix;
  if (is_set(value, OPTION_HEADER_PREFIX)) return MATCH_PREFIX;
  *text = value->regex;
  if (is_set(value, OPTION_HEADER_REGEX)) return MATCH_REGEX;
  *text = SPAN_EMPTY;
  return value->present ? MATCH_PRESENT : MATCH_ABSENT;
}

/* ---- a path that never comes ---- */

void check_reachable(struct conf *conf, const struct conf_listener *listener,
                     const struct conf_route *route) {
  struct span path = route_path(route), seen;
  enum end why;
  if (route->regex.len) return;
  bool taken = path_canonical(path, &listener->paths, &conf->arena, &seen, &why);
  if (taken && span_eq(seen, path)) return;
  enum option_id id = route->path.len ? OPTION_ROUTE_PATH : OPTION_ROUTE_PREFIX;
  fault_add(conf->faults, FAULT_ROUTE_NEVER, row_place(&route->row, id),
            "listener \"" SPAN_FMT "\" never sees the path " SPAN_FMT,
            SPAN_ARG(listener->row.name), SPAN_ARG(path));
  if (taken)
    fault_note(conf->faults, "it becomes " SPAN_FMT " (paths.slashes)", SPAN_ARG(seen));
  else
    fault_note(conf->faults, "it is refused: " SPAN_FMT, SPAN_ARG(end_get(why)->word));
}

/* ---- the same question in the same words ---- */

static int by_text(const void *a, const void *b) {
  return span_cmp(*(const struct span *)a, *(const struct span *)b);
}

/* value_text is "h:x-env=prod"; names of fields in lower case. key: "h:5:x-env=prod", for in a
 * name there may be a sign, too. */
static struct span value_text(const struct conf_value *value, enum match_part part, bool key,
                              struct arena *arena) {
  static const char signs[] = {[MATCH_EXACT] = '=',
                               [MATCH_PREFIX] = '^',
                               [MATCH_REGEX] = '~',
                               [MATCH_PRESENT] = '?',
                               [MATCH_ABSENT] = '!'};
  struct span text;
  enum match_kind kind = value_kind(value, &text);
  char len[24] = "";
  if (key) (void)snprintf(len, sizeof len, "%zu:", value->name.len);
  struct span s = arena_printf(arena, "%c:%s" SPAN_FMT "%c" SPAN_FMT, "hqc"[part], len,
                               SPAN_ARG(value->name), signs[kind], SPAN_ARG(text));
  char *name = (char *)(uintptr_t)s.ptr + 2 + strlen(len); /* made here */
  for (size_t i = 0; part == MATCH_HEADER && i < value->name.len; i++)
    name[i] = ascii_lower(name[i]);
  return s;
}

static bool says_present(const struct conf_route *route) {
  return row_origin(&route->row, OPTION_ROUTE_CERT_PRESENT)->node != NULL;
}

/* cert_texts adds "x:present", "x:absent", "x:uri:...", "x:f:sha256:..." and "x:k:sha256:...". */
static uint32_t cert_texts(const struct conf_route *route, struct arena *arena,
                           struct span *texts, uint32_t at) {
  const struct {
    const struct conf_list *list;
    const char *mark;
  } lists[] = {{&route->cert_sans, ""},
               {&route->cert_fingerprints, "f:"},
               {&route->cert_keys, "k:"}};
  if (says_present(route))
    texts[at++] = route->cert_present ? SPAN_LIT("x:present") : SPAN_LIT("x:absent");
  for (size_t l = 0; l < array_count(lists); l++)
    for (uint32_t i = 0; i < lists[l].list->count; i++)
      texts[at++] = arena_printf(arena, "x:%s" SPAN_FMT, lists[l].mark,
                                 SPAN_ARG(lists[l].list->items[i].text));
  return at;
}

static uint32_t texts_count(const struct conf_route *route) {
  uint32_t count = route->sources.count + route->cert_sans.count +
                   route->cert_fingerprints.count + route->cert_keys.count;
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) count += route->values[part].count;
  return count + says_present(route);
}

void conditions_write(const struct conf_route *route, struct arena *arena, bool key,
                      struct text *out) {
  uint32_t count = texts_count(route), at = 0;
  if (!count) return;
  struct span *texts = arena_get(arena, count * sizeof *texts);
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) {
    rows_each(&route->values[part], struct conf_value, value)
      texts[at++] = value_text(value, (enum match_part)part, key, arena);
  }
  for (uint32_t i = 0; i < route->sources.count; i++)
    texts[at++] = arena_printf(arena, "s:" SPAN_FMT, SPAN_ARG(route->sources.items[i].text));
  at = cert_texts(route, arena, texts, at);
  check(at == count);
  qsort(texts, count, sizeof *texts, by_text);
  for (uint32_t i = 0; i < count; i++) {
    if (key) text_printf(out, " %zu", texts[i].len);
    text_printf(out, " " SPAN_FMT, SPAN_ARG(texts[i]));
  }
}
