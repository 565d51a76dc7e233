/* nginx_vars.c: variables of nginx in texts that have variables of weir's own: $remote_addr is no
 * variable here, and would be sent as it stands without a word. Knows names, by nginx_vars.def,
 * and not what they are worth. Called by env.c. */
#include "values_priv.h"

static const struct foreign {
  const char *name;
  enum variable ours;
} foreigns[] = {
#define FOREIGN(text, id) {text, VARIABLE_##id},
#include "nginx_vars.def"
#undef FOREIGN
};

/* fits: it is that name, or begins with one that ends with _. */
static bool fits(struct span name, struct span row) {
  bool start = row.ptr[row.len - 1] == '_' && name.len > row.len && span_starts(name, row);
  return start || span_eq(name, row);
}

static const struct foreign *foreign_find(struct span name) {
  for (size_t i = 0; i < array_count(foreigns); i++)
    if (fits(name, span_str(foreigns[i].name))) return &foreigns[i];
  return NULL;
}

/* foreign_note says what to write in place of it. */
static void foreign_note(struct value_job *job, const struct foreign *found) {
  if (found->ours == VARIABLE_NONE)
    fault_note(job->faults, "the variables of weir stand in packaging/docs/policies.md");
  else
    fault_note(job->faults, "did you mean \"${" SPAN_FMT "}\"?",
               SPAN_ARG(variable_name(found->ours)));
}

bool foreign_named(struct value_job *job, struct span name) {
  const struct foreign *found = foreign_find(name);
  if (found) foreign_note(job, found);
  return found != NULL;
}

static bool in_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
}

void foreign_look(struct value_job *job, size_t at) {
  struct span s = job->node->string;
  size_t end = at + 1;
  if (!option_is_template(job->option) || job->option->type == TYPE_REWRITE_TO) return;
  if (at > 0 && s.ptr[at - 1] == '$') return;
  while (end < s.len && in_name(s.ptr[end])) end++;
  struct span name = span_sub(s, at + 1, end - at - 1);
  const struct foreign *found = foreign_find(name);
  if (!found) return;
  fault_add(job->faults, FAULT_FOREIGN_VARIABLE, node_part(job->node, at, end - at),
            "$" SPAN_FMT " is no variable here: it is sent as it stands", SPAN_ARG(name));
  foreign_note(job, found);
}
