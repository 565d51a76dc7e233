/* values_health.c: the texts of pools.*.health: path, Host, fields, statuses, body. What weir
 * could not send, or would never see, is refused here. Called by values_text.c and
 * compile_health.c. */
#include "values_priv.h"
#include "weir/http/uri.h"

#define PATH_LEN_MAX 1024u
#define FIELD_LEN_MAX 1024u
#define NEEDLE_LEN_MAX 256u /* PROBE_NEEDLE_MAX of control/ */
#define SERVICE_LEN_MAX 256u /* PROBE_SERVICE_MAX of control/ */

static bool path(struct value_job *job) {
  size_t mark = span_find_char(job->text, '?', 0);
  struct span path = span_sub(job->text, 0, mark);
  struct span query = mark == SIZE_MAX ? SPAN_EMPTY : span_from(job->text, mark + 1);
  if (!span_starts(path, SPAN_LIT("/")))
    return value_refuse(job, FAULT_BAD_PATH, "it begins with /");
  if (job->text.len > PATH_LEN_MAX)
    return value_refuse(job, FAULT_BAD_PATH, "at most 1024 bytes");
  if (!value_path(job, &path) || !http_query_check(query)) /* sent as it is written */
    return value_refuse(job, FAULT_BAD_PATH,
                        "no spaces, dot segments, broken escapes, fragment or raw UTF-8");
  return true;
}

static bool host(struct value_job *job) {
  struct http_host canonical;
  enum end why;
  if (http_host_canonical(job->text, job->arena, &canonical, &why) &&
      !span_ends(job->text, SPAN_LIT(":")))
    return true;
  return value_refuse(job, FAULT_BAD_HOST, "like \"app.internal\" or \"app.internal:8080\"");
}

void health_field_split(struct span text, struct span *name, struct span *value) {
  size_t colon = span_find_char(text, ':', 0);
  *name = span_sub(text, 0, colon);
  *value = colon == SIZE_MAX ? SPAN_EMPTY : span_trim(span_from(text, colon + 1));
}

/* Fields that would change the framing, or that are written anyway. */
static const struct span own_fields[] = {
    SPAN_LIT("host"),    SPAN_LIT("connection"),        SPAN_LIT("content-length"),
    SPAN_LIT("upgrade"), SPAN_LIT("transfer-encoding"), SPAN_LIT("keep-alive"),
    SPAN_LIT("te"),      SPAN_LIT("trailer"),           SPAN_LIT("expect"),
    SPAN_LIT("proxy-connection")};

static bool field(struct value_job *job) {
  struct span name, value;
  health_field_split(job->text, &name, &value);
  if (!http_is_token(name) || !value.len || !http_is_value(value))
    return value_refuse(job, FAULT_BAD_CHECK_FIELD, "like \"X-Check: weir\", no line breaks");
  if (job->text.len > FIELD_LEN_MAX)
    return value_refuse(job, FAULT_BAD_CHECK_FIELD, "at most 1024 bytes");
  for (size_t i = 0; i < array_count(own_fields); i++)
    if (span_eq_nocase(name, own_fields[i]))
      return value_refuse(job, FAULT_BAD_CHECK_FIELD,
                          i == 0 ? "use health.host" : "weir writes it, or its body, itself");
  return true;
}

static bool status_parse(struct span text, uint16_t *out) {
  uint64_t n = 0;
  if (text.len != 3 || !span_u64(text, &n) || n < 200 || n > 599) return false;
  *out = (uint16_t)n;
  return true;
}

bool health_statuses_parse(struct span text, struct health_statuses *out) {
  size_t dash = span_find_char(text, '-', 0);
  struct health_statuses s;
  if (!status_parse(span_sub(text, 0, dash), &s.first)) return false;
  s.last = s.first;
  if (dash != SIZE_MAX && !status_parse(span_from(text, dash + 1), &s.last)) return false;
  if (s.first > s.last) return false;
  *out = s;
  return true;
}

static bool statuses(struct value_job *job) {
  struct health_statuses ignored;
  return health_statuses_parse(job->text, &ignored) ||
         value_refuse(job, FAULT_BAD_STATUSES, "like \"200\" or \"200-299\", 200 to 599");
}

static bool body(struct value_job *job) {
  if (!job->text.len) return value_refuse(job, FAULT_EMPTY, "every body contains it");
  return job->text.len <= NEEDLE_LEN_MAX ||
         value_refuse(job, FAULT_BAD_TEXT, "at most 256 bytes");
}

/* service: the name of a protobuf service, package and all; some ask for other words. Empty: the
 * whole server, as in the protocol. */
static bool service(struct value_job *job) {
  bool good = job->text.len <= SERVICE_LEN_MAX;
  for (size_t i = 0; good && i < job->text.len; i++)
    good = job->text.ptr[i] > 0x20 && job->text.ptr[i] < 0x7f;
  return good || value_refuse(job, FAULT_BAD_TEXT,
                              "up to 256 letters, digits and signs, like \"shop.Cart\"");
}

bool health_text(struct value_job *job) {
  switch ((int)job->option->type) { /* the types of this file only */
    case TYPE_HEALTH_PATH: return path(job);
    case TYPE_HEALTH_HOST: return host(job);
    case TYPE_HEALTH_FIELD: return field(job);
    case TYPE_HEALTH_BODY: return body(job);
    case TYPE_HEALTH_SERVICE: return service(job);
    default: return statuses(job);
  }
}
