/* compile_match.c: a route's conditions and its regex, from rows to model/match.h. The patterns
 * were checked when they were read, so that they compile again. Called by compile.c. */
#include "compile_priv.h"

uint64_t rules_hash(const struct conf_route *row) {
  uint64_t hash = 0;
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) {
    rows_each(&row->values[part], struct conf_value, value) {
      struct span text;
      hash = hash_mix(hash, part * 8 + value_kind(value, &text));
      hash = hash_mix(hash, row_hash(&value->row));
    }
  }
  return hash_mix(hash, cert_rule_hash(row));
}

struct regex *regex_get(struct span pattern) {
  struct regex_fault fault;
  struct regex *re = regex_new(pattern, &fault);
  check(re != NULL); /* values_text.c made it before */
  return re;
}

static struct match_value compile_value(struct arena *arena, enum match_part part,
                                        const struct conf_value *row) {
  struct match_value v = {.name = arena_copy(arena, row->name, NULL)};
  struct span text;
  v.kind = (uint8_t)value_kind(row, &text);
  v.text = arena_copy(arena, text, NULL);
  if (part == MATCH_HEADER) v.id = (uint16_t)http_name_find(row->name);
  if (v.kind == MATCH_REGEX) v.regex = regex_get(text);
  return v;
}

void compile_rules(struct route *route, const struct conf_route *row) {
  struct arena *arena = &route->obj.arena;
  struct match_rules *rules = &route->rules;
  if (route->path_kind == ROUTE_PATH_REGEX) route->regex = regex_get(route->path);
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++) {
    const struct conf_rows *rows = &row->values[part];
    struct match_value *values = arena_get(arena, (rows->count + 1) * sizeof *values);
    rows_each(rows, struct conf_value, value)
      values[rules->counts[part]++] = compile_value(arena, (enum match_part)part, value);
    rules->values[part] = values;
  }
  struct addr_net *sources = arena_get(arena, (row->sources.count + 1) * sizeof *sources);
  for (uint32_t i = 0; i < row->sources.count; i++)
    check(addr_net_parse(row->sources.items[i].text, &sources[rules->source_count++]));
  rules->sources = sources;
  cert_rule(route, row);
}
