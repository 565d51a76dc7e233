/* values_discover.c: the texts of pools.*.discover: names to ask for and servers to ask. Called by
 * values_text.c. */
#include "values_priv.h"

static bool name_port(struct value_job *job) {
  struct span host;
  uint16_t port = 0;
  switch (addr_split(job->text, &host, &port)) {
    case ADDR_NAME: return true;
    case ADDR_IP:
    case ADDR_UNIX:
      return value_refuse(job, FAULT_BAD_ADDRESS,
                          "a name is needed; addresses stand in endpoints");
    case ADDR_FD:
    case ADDR_BAD: break;
  }
  return value_refuse(job, FAULT_BAD_ADDRESS, "known: \"name:port\"");
}

/* srv_name: labels as in host names; the first two begin with an underscore (RFC 2782). */
static bool srv_name(struct value_job *job) {
  struct span rest = job->text, host;
  uint16_t port;
  char whole[512];
  struct buf b = buf_of(whole, sizeof whole);
  buf_put(&b, job->text);
  buf_lit(&b, ":1"); /* addr_split knows what a name is */
  bool name = !b.full && span_find_char(rest, ':', 0) == SIZE_MAX &&
              addr_split(buf_span(&b), &host, &port) == ADDR_NAME;
  size_t dot = span_find_char(rest, '.', 0);
  bool two = dot != SIZE_MAX && span_starts(rest, SPAN_LIT("_")) &&
             span_starts(span_from(rest, dot + 1), SPAN_LIT("_"));
  return (name && two) ||
         value_refuse(job, FAULT_BAD_SRV, "like \"_http._tcp.users.internal\", without a port");
}

/* server makes "127.0.0.1" "127.0.0.1:53". */
static bool server(struct value_job *job) {
  struct addr addr;
  char written[80];
  struct buf b = buf_of(written, sizeof written);
  if (!addr_from_ip(job->text, 53, &addr) &&
      (!addr_parse(job->text, &addr) || addr.sa.sa_family == AF_UNIX))
    return value_refuse(job, FAULT_BAD_SERVER, "like \"127.0.0.1\" or \"[::1]:5353\"");
  addr_write(&addr, &b);
  job->text = arena_copy(job->arena, buf_span(&b), NULL);
  return true;
}

bool discover_text(struct value_job *job) {
  switch ((int)job->option->type) { /* the types of this file only */
    case TYPE_NAME_PORT: return name_port(job);
    case TYPE_SRV_NAME: return srv_name(job);
    default: return server(job);
  }
}
