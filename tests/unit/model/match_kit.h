/* match_kit.h: conditions and requests from short texts, for the tests of model/.
 * Rules, separated by spaces: h: q: or c: and a name, then =text ^text ~regex, ? (present), or a
 * "!" before the name (absent); s:10.0.0.0/8 is a source. "_" in a text stands for a space.
 * Fields of a request are "Name: value" lines; a line that begins with "-" is one that weir will
 * not pass on. */
#ifndef WEIR_TESTS_MATCH_KIT_H
#define WEIR_TESTS_MATCH_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "weir/base/mem.h"
#include "weir/model/model.h"

#define KIT_VALUES_MAX 8u

static inline struct span kit_text(struct arena *arena, struct span s) {
  char *copy = arena_bytes(arena, s.len + 1);
  assert_non_null(copy);
  for (size_t i = 0; i < s.len; i++) copy[i] = s.ptr[i] == '_' ? ' ' : s.ptr[i];
  return span_of(copy, s.len);
}

/* kit_value reads what stands behind "h:". */
static inline struct match_value kit_value(struct arena *arena, struct span text) {
  struct match_value v = {.kind = MATCH_PRESENT};
  if (span_starts(text, SPAN_LIT("!"))) {
    v.kind = MATCH_ABSENT;
    text = span_from(text, 1);
  }
  size_t end = 0;
  while (end < text.len && !strchr("=^~?", text.ptr[end])) end++;
  v.name = span_sub(text, 0, end);
  v.id = (uint16_t)http_name_find(v.name);
  v.text = kit_text(arena, span_from(text, end + 1));
  if (end == text.len || text.ptr[end] == '?') return v;
  v.kind = text.ptr[end] == '=' ? MATCH_EXACT : text.ptr[end] == '^' ? MATCH_PREFIX : MATCH_REGEX;
  struct regex_fault fault;
  if (v.kind == MATCH_REGEX) v.regex = regex_new(v.text, &fault);
  if (v.kind == MATCH_REGEX) assert_non_null(v.regex);
  return v;
}

static inline void kit_rule(struct arena *arena, struct match_rules *rules, struct span word) {
  static const char parts[] = "hqc";
  assert_true(word.len > 2 && word.ptr[1] == ':');
  struct span rest = span_from(word, 2);
  if (word.ptr[0] == 's') {
    struct addr_net *nets = arena_zalloc(arena, (rules->source_count + 1) * sizeof *nets);
    assert_non_null(nets);
    if (rules->source_count) memcpy(nets, rules->sources, rules->source_count * sizeof *nets);
    assert_true(addr_net_parse(rest, &nets[rules->source_count++]));
    rules->sources = nets;
    return;
  }
  const char *part = strchr(parts, word.ptr[0]);
  assert_non_null(part);
  size_t at = (size_t)(part - parts);
  struct match_value *values = arena_zalloc(arena, KIT_VALUES_MAX * sizeof *values);
  assert_non_null(values);
  assert_true(rules->counts[at] < KIT_VALUES_MAX);
  if (rules->counts[at]) memcpy(values, rules->values[at], rules->counts[at] * sizeof *values);
  values[rules->counts[at]++] = kit_value(arena, rest);
  rules->values[at] = values;
}

static inline void kit_rules(struct arena *arena, struct match_rules *rules, const char *text) {
  struct span rest = span_str(text), word;
  while (span_next_token(&rest, ' ', &word))
    if (word.len) kit_rule(arena, rules, word);
}

static inline void kit_rules_free(struct match_rules *rules) {
  for (unsigned part = 0; part < MATCH_PART_COUNT; part++)
    for (uint32_t i = 0; i < rules->counts[part]; i++) regex_free(rules->values[part][i].regex);
}

/* kit_fields reads the fields of a request; *upgrade is what an Upgrade line asks for. */
static inline void kit_fields(struct arena *arena, struct http_fields *fields, struct span text,
                              struct span *upgrade) {
  struct span line;
  while (span_next_token(&text, '\n', &line)) {
    bool dropped = span_starts(line, SPAN_LIT("-"));
    line = span_from(line, dropped ? 1 : 0);
    size_t colon = span_find_char(line, ':', 0);
    if (colon == SIZE_MAX) continue;
    struct span name = span_sub(line, 0, colon), value = span_trim(span_from(line, colon + 1));
    assert_true(http_fields_add(fields, arena, name, value));
    struct http_field *row = &fields->rows[fields->count - 1];
    if (dropped) row->flags |= HTTP_FIELD_HOP;
    if (row->id == HTTP_NAME_UPGRADE) {
      row->flags |= HTTP_FIELD_HOP;
      *upgrade = value;
    }
  }
}

/* kit_request is one request with what it needs. */
struct kit_request {
  struct http_fields fields;
  struct addr client;
  struct route_query q;
};

/* kit_query fills r from "GET host/path?query", fields and the client's address (empty: none). */
static inline void kit_query(struct arena *arena, struct kit_request *r, const char *line,
                             const char *fields, const char *client, struct regex_scratch *s) {
  struct span rest = span_str(line);
  size_t space = span_find_char(rest, ' ', 0), slash = span_find_char(rest, '/', space);
  size_t mark = span_find_char(rest, '?', slash);
  *r = (struct kit_request){.fields = {0}};
  r->q.method_text = span_sub(rest, 0, space);
  r->q.method = http_method_find(r->q.method_text);
  r->q.host = span_sub(rest, space + 1, slash - space - 1);
  r->q.path = span_sub(rest, slash, (mark == SIZE_MAX ? rest.len : mark) - slash);
  r->q.input.query = mark == SIZE_MAX ? SPAN_EMPTY : span_from(rest, mark + 1);
  kit_fields(arena, &r->fields, span_str(fields), &r->q.input.upgrade);
  r->q.input.fields = &r->fields;
  r->q.input.scratch = s;
  if (s) regex_refill(s, REGEX_BUDGET);
  if (client[0]) assert_true(addr_from_ip(span_str(client), 1, &r->client));
  if (client[0]) r->q.input.client = &r->client;
}

#endif
