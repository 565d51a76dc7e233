/* values_edit.c: what policies may do to the fields of a message: "Name: value" and names. What
 * frames a message, belongs to one connection or says what only weir knows is refused, in every
 * spelling that a backend could take for it (THREATS.md rows 8 and 19). Called by values_text.c.
 */
#include "values_priv.h"
#include "weir/http/name.h"

#define EDIT_LEN_MAX 4096u

void edit_split(struct span text, struct span *name, struct span *value) {
  size_t colon = span_find_char(text, ':', 0);
  *name = span_trim(span_sub(text, 0, colon));
  *value = colon == SIZE_MAX ? SPAN_EMPTY : span_trim(span_from(text, colon + 1));
}

static bool on_request(const struct value_job *job) {
  return job->option->id >= OPTION_POLICY_REQUEST_SET &&
         job->option->id <= OPTION_POLICY_REQUEST_REMOVE;
}

static bool fixed(struct value_job *job, struct span name, const char *why) {
  fault_add(job->faults, FAULT_FIXED_FIELD, job->node->at, "no policy changes " SPAN_FMT,
            SPAN_ARG(name));
  fault_note(job->faults, "%s", why);
  return false;
}

/* name_may tells whether a policy may change fields of this name. */
static bool name_may(struct value_job *job, struct span name) {
  if (!http_is_token(name)) return value_refuse(job, FAULT_BAD_EDIT, "a field's name is a token");
  enum http_name id = http_name_find(name);
  unsigned flags = http_name_flags(id);
  if (id == HTTP_NAME_HOST) return fixed(job, name, "the host that is sent is a route's");
  if (flags & (HTTP_NAME_HOP | HTTP_NAME_OWN))
    return fixed(job, name, "it frames the message or belongs to the connection");
  if (flags & HTTP_NAME_FIXED) return fixed(job, name, "weir writes it itself");
  if (on_request(job) && http_name_shadows(name))
    return fixed(job, name, "backends read _ as -, and then it is a field of weir's own");
  return true;
}

/* adds_twice: a second field that speaks for the proxy would leave the choice to the backend. */
static bool adds_twice(const struct value_job *job, struct span name) {
  if (job->option->id != OPTION_POLICY_REQUEST_ADD) return false;
  if (http_name_speaks_for(name)) return true;
  return http_name_flags(http_name_find(name)) & HTTP_NAME_FORWARDING;
}

bool edit_value(struct value_job *job) {
  struct span name, value;
  edit_split(job->text, &name, &value);
  if (span_find_char(job->text, ':', 0) == SIZE_MAX)
    return value_refuse(job, FAULT_BAD_EDIT, "like \"Name: value\"");
  if (!name_may(job, name)) return false;
  if (adds_twice(job, name)) return fixed(job, name, "use set: there is only one of it");
  if (on_request(job) && http_name_find(name) == HTTP_NAME_AUTHORIZATION) {
    fault_add(job->faults, FAULT_LATER, job->node->at,
              "a credential in a field is not in this version: it would be printed");
    fault_redact(job->faults);
    return false;
  }
  if (!value.len) return value_refuse(job, FAULT_BAD_EDIT, "to take a field out use remove");
  if (!http_is_value(value) || value.len > EDIT_LEN_MAX)
    return value_refuse(job, FAULT_BAD_EDIT, "no control characters, at most 4096 bytes");
  if (template_count(value) > TEMPLATE_PARTS_MAX)
    return value_refuse(job, FAULT_BAD_EDIT, "too many variables in one value");
  job->text = arena_printf(job->arena, SPAN_FMT ": " SPAN_FMT, SPAN_ARG(name), SPAN_ARG(value));
  return true;
}

bool edit_name(struct value_job *job) { return name_may(job, job->text); }
