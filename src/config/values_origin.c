/* values_origin.c: origins as browsers write them (RFC 6454 section 6.2): scheme, host in lower
 * case, port unless it is the scheme's own, nothing behind. Called by values_text.c. */
#include "values_priv.h"
#include "weir/http/uri.h"

static const struct scheme {
  struct span text;
  uint16_t port;
} schemes[] = {{{"https://", 8}, 443}, {{"http://", 7}, 80}};

static const struct scheme *scheme_of(struct span text) {
  for (size_t i = 0; i < array_count(schemes); i++)
    if (span_starts(text, schemes[i].text)) return &schemes[i];
  return NULL;
}

bool origin_value(struct value_job *job) {
  static const struct span star = SPAN_LIT("*.");
  if (span_eq(job->text, SPAN_LIT("null")))
    return value_refuse(job, FAULT_BAD_ORIGIN, "any page can make its origin null");
  const struct scheme *scheme = scheme_of(job->text);
  if (!scheme) return value_refuse(job, FAULT_BAD_ORIGIN, "like \"https://app.example.com\"");
  struct span rest = span_from(job->text, scheme->text.len);
  bool wild = span_starts(rest, star);
  if (wild) rest = span_from(rest, star.len);
  struct http_host host;
  struct addr ip;
  enum end why;
  if (!http_host_canonical(rest, job->arena, &host, &why) || span_ends(rest, SPAN_LIT(":")))
    return value_refuse(job, FAULT_BAD_ORIGIN, "scheme, host and port, and nothing behind");
  if (wild && (span_starts(host.name, SPAN_LIT("[")) || addr_from_ip(host.name, 1, &ip)))
    return value_refuse(job, FAULT_BAD_ORIGIN, "an IP address has no subdomains");
  unsigned port = host.port == scheme->port ? 0 : host.port;
  struct span head = arena_printf(job->arena, SPAN_FMT "%s" SPAN_FMT, SPAN_ARG(scheme->text),
                                  wild ? "*." : "", SPAN_ARG(host.name));
  job->text = port ? arena_printf(job->arena, SPAN_FMT ":%u", SPAN_ARG(head), port) : head;
  return true;
}
