/* env.c: ${env:NAME} and ${env:NAME:-default} inside strings, as a shell reads them: the default
 * is for a variable that is not set, or empty; "$${" is a literal "${". The result is not expanded
 * again. In templates (model/template.h) other variables stay for the request.
 * Secrets take no part but for the path of "file:" (values_text.c decides). */
#include "values_priv.h"
#include "weir/model/substitute.h"

struct place node_part(const struct node *node, size_t from, size_t len) {
  struct place at = node->at;
  if (!at.src || node->kind != NODE_STRING || at.len != node->string.len + 2) return at;
  if (from > node->string.len) from = node->string.len;
  if (len > node->string.len - from) len = node->string.len - from;
  at.offset += 1 + (uint32_t)from;
  at.len = (uint32_t)len;
  return at;
}

/* put_literal writes text that no later reader may take for a variable. */
static void put_literal(const struct value_job *job, struct span s, struct text *out) {
  bool escape = option_is_template(job->option);
  for (size_t i = 0; i < s.len; i++) {
    if (escape && span_starts(span_from(s, i), SPAN_LIT("${"))) text_lit(out, "$");
    text_put(out, span_sub(s, i, 1));
  }
}

static bool is_variable(struct span name) {
  for (size_t i = 0; i < name.len; i++) {
    char c = ascii_lower(name.ptr[i]);
    bool letter = (c >= 'a' && c <= 'z') || c == '_';
    if (!letter && (i == 0 || c < '0' || c > '9')) return false;
  }
  return name.len > 0 && name.len <= 200;
}

/* lookup gives the variable's value or the default; false after a fault. */
static bool lookup(struct value_job *job, struct span inner, struct place at, struct span *out) {
  static const struct span mark = SPAN_LIT("env:"), dash = SPAN_LIT(":-");
  struct span name = span_from(inner, mark.len), fallback = SPAN_EMPTY;
  bool has_fallback = false;
  size_t colon = span_find_char(name, ':', 0);
  if (colon != SIZE_MAX && span_starts(span_from(name, colon), dash)) {
    has_fallback = true;
    fallback = span_from(name, colon + dash.len);
    name = span_sub(name, 0, colon);
  }
  if (!span_starts(inner, mark) || !is_variable(name)) {
    fault_add(job->faults, FAULT_ENV_FORM, at, "${" SPAN_FMT "} is not known", SPAN_ARG(inner));
    if (is_variable(inner))
      fault_note(job->faults, "did you mean \"${env:" SPAN_FMT "}\"? $${ is a literal ${",
                 SPAN_ARG(inner));
    else
      fault_note(job->faults, "known: ${env:NAME} and ${env:NAME:-default}; $${ is a literal ${");
    return false;
  }
  if (!job->env.len) job->env = name;
  const char *found =
      job->reader->env ? job->reader->env(job->reader->ctx, arena_str(job->arena, name)) : NULL;
  bool stands = found && (*found || !has_fallback);
  *out = stands ? arena_copy(job->arena, span_str(found), NULL) : fallback;
  if (stands || has_fallback) return true;
  fault_add(job->faults, FAULT_ENV_UNSET, at, "the environment variable " SPAN_FMT " is not set",
            SPAN_ARG(name));
  fault_note(job->faults, "set it, or give a default: ${env:" SPAN_FMT ":-...}", SPAN_ARG(name));
  return false;
}

/* is_group tells whether a rewrite may have this group; false after a fault. */
static bool is_group(struct value_job *job, struct span inner, struct place at) {
  if (substitute_group(inner) != SUBSTITUTE_TEXT) return true;
  fault_add(job->faults, FAULT_BAD_VARIABLE, at, "${" SPAN_FMT "} is not known", SPAN_ARG(inner));
  fault_note(job->faults, "known here: ${0} to ${9}, ${env:NAME}; $${ is a literal ${");
  return false;
}

/* is_known tells whether a template may have this variable; false after a fault. */
static bool is_known(struct value_job *job, struct span inner, struct place at) {
  if (job->option->type == TYPE_REWRITE_TO) return is_group(job, inner, at);
  if (variable_find(inner) != VARIABLE_NONE) return true;
  fault_add(job->faults, FAULT_BAD_VARIABLE, at, "${" SPAN_FMT "} is not known", SPAN_ARG(inner));
  if (foreign_named(job, inner)) return false;
  struct suggest s = suggest_for(inner);
  for (unsigned v = VARIABLE_NONE + 1; v < VARIABLE_COUNT; v++)
    suggest_offer(&s, variable_name((enum variable)v), NULL);
  if (!s.best.len)
    fault_note(job->faults, "the variables of weir stand in packaging/docs/policies.md");
  suggest_note(&s, job->faults);
  return false;
}

/* expand_one handles the "${" at `at`; returns the bytes used, 0 after a fault. */
static size_t expand_one(struct value_job *job, size_t at, struct text *out) {
  struct span s = job->node->string, value = SPAN_EMPTY;
  size_t end = span_find_char(s, '}', at);
  if (end == SIZE_MAX) {
    fault_add(job->faults, FAULT_ENV_FORM, node_part(job->node, at, SIZE_MAX),
              "${ is not closed in this string");
    fault_note(job->faults, "} is missing; a literal ${ is written $${");
    return 0;
  }
  struct place place = node_part(job->node, at, end + 1 - at);
  struct span inner = span_sub(s, at + 2, end - at - 2);
  if (option_is_template(job->option) && !span_starts(inner, SPAN_LIT("env:"))) {
    if (!is_known(job, inner, place)) return 0;
    text_put(out, span_sub(s, at, end + 1 - at));
    return end + 1 - at;
  }
  if (!lookup(job, inner, place, &value)) return 0;
  put_literal(job, value, out);
  return end + 1 - at;
}

bool expand_env(struct value_job *job) {
  struct span s = job->node->string;
  job->text = s;
  if (span_find_char(s, '$', 0) == SIZE_MAX) return true;
  struct text out = {0};
  bool good = true;
  for (size_t at = 0; at < s.len && good;) {
    struct span rest = span_from(s, at);
    size_t used = 1;
    if (span_starts(rest, SPAN_LIT("$${"))) {
      text_put(&out, option_is_template(job->option) ? SPAN_LIT("$${") : SPAN_LIT("${"));
      used = 3;
    } else if (span_starts(rest, SPAN_LIT("${"))) {
      used = expand_one(job, at, &out);
      good = used > 0;
    } else {
      if (rest.ptr[0] == '$') foreign_look(job, at);
      text_put(&out, span_sub(rest, 0, 1));
    }
    at += used;
  }
  if (good) job->text = arena_copy(job->arena, text_span(&out), NULL);
  text_fini(&out);
  return good;
}

static void quote(struct span s, bool escape, struct text *out) {
  text_lit(out, "\"");
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (escape && span_starts(span_from(s, i), SPAN_LIT("${"))) text_lit(out, "$");
    if (c == '"' || c == '\\')
      text_printf(out, "\\%c", c);
    else if (c == '\n')
      text_lit(out, "\\n");
    else if (c < 0x20 || c == 0x7f)
      text_printf(out, "\\x%02x", c);
    else
      text_put(out, span_sub(s, i, 1));
  }
  text_lit(out, "\"");
}

void text_quote(struct span s, struct text *out) { quote(s, true, out); }

void option_quote(const struct option *option, struct span s, struct text *out) {
  quote(s, !option_is_template(option), out);
}
