/* dns_addrs.c: addresses of a name: out of replies, which c-ares reads, out of the hosts file
 * (dns_hosts.c), and the order that makes two answers comparable. Does not: ask (dns.c). Called by
 * resolver_round.c. */
#include <ares.h>
#include <netdb.h>
#include <stdlib.h>

#include "control/dns_priv.h"
#include "weir/base/mem.h"

#define A_RECORD_MIN 16u /* name as a pointer, fixed parts, four bytes */

/* ---- addresses ---- */

static int compare(const void *a, const void *b) {
  const struct addr *x = (const struct addr *)a, *y = (const struct addr *)b;
  if (x->sa.sa_family != y->sa.sa_family) {
    return x->sa.sa_family == AF_INET ? -1 : 1;
  }
  return x->sa.sa_family == AF_INET ? memcmp(&x->in4.sin_addr, &y->in4.sin_addr, 4)
                                    : memcmp(&x->in6.sin6_addr, &y->in6.sin6_addr, 16);
}

static struct addr addr_4(const void *bytes) {
  struct addr a = {.len = sizeof a.in4};
  a.in4.sin_family = AF_INET;
  memcpy(&a.in4.sin_addr, bytes, 4);
  return a;
}

static struct addr addr_6(const void *bytes) {
  struct addr a = {.len = sizeof a.in6};
  a.in6.sin6_family = AF_INET6;
  memcpy(&a.in6.sin6_addr, bytes, 16);
  return IN6_IS_ADDR_V4MAPPED(&a.in6.sin6_addr) ? addr_4(&a.in6.sin6_addr.s6_addr[12]) : a;
}

uint32_t addrs_settle(struct addr *rows, uint32_t count) {
  uint32_t kept = 0;
  if (count) {
    qsort(rows, count, sizeof *rows, compare);
  }
  for (uint32_t i = 0; i < count; i++) {
    if (!kept || compare(&rows[kept - 1], &rows[i]) != 0) {
      rows[kept++] = rows[i];
    }
  }
  return kept;
}

static int parse_4(struct span packet, struct addr *rows, int *count, uint32_t *ttl_s) {
  struct ares_addrttl *found = (struct ares_addrttl *)mem_array((size_t)*count, sizeof *found);
  int status =
      ares_parse_a_reply((const unsigned char *)packet.ptr, (int)packet.len, NULL, found, count);
  for (int i = 0; status == ARES_SUCCESS && i < *count; i++) {
    uint32_t ttl = found[i].ttl > 0 ? (uint32_t)found[i].ttl : 0;
    rows[i] = addr_4(&found[i].ipaddr);
    *ttl_s = ttl < *ttl_s ? ttl : *ttl_s;
  }
  mem_free(found);
  return status;
}

static int parse_6(struct span packet, struct addr *rows, int *count, uint32_t *ttl_s) {
  struct ares_addr6ttl *found = (struct ares_addr6ttl *)mem_array((size_t)*count, sizeof *found);
  int status = ares_parse_aaaa_reply((const unsigned char *)packet.ptr, (int)packet.len, NULL,
                                     found, count);
  for (int i = 0; status == ARES_SUCCESS && i < *count; i++) {
    uint32_t ttl = found[i].ttl > 0 ? (uint32_t)found[i].ttl : 0;
    rows[i] = addr_6(&found[i].ip6addr);
    *ttl_s = ttl < *ttl_s ? ttl : *ttl_s;
  }
  mem_free(found);
  return status;
}

enum resolve_result dns_addrs(enum dns_type type, struct span packet, struct addr **rows,
                              uint32_t *count, uint32_t *ttl_s) {
  check(type == DNS_A || type == DNS_AAAA);
  int found = (int)(packet.len / A_RECORD_MIN) + 1;
  struct addr *out = (struct addr *)mem_array((size_t)found, sizeof *out);
  uint32_t ttl = INT32_MAX;
  int status =
      type == DNS_A ? parse_4(packet, out, &found, &ttl) : parse_6(packet, out, &found, &ttl);
  if (status == ARES_SUCCESS && found > 0) {
    *rows = out;
    *count = (uint32_t)found;
    *ttl_s = ttl;
    return RESOLVE_OK;
  }
  mem_free(out);
  return status == ARES_SUCCESS || status == ARES_ENODATA ? RESOLVE_EMPTY : RESOLVE_BAD;
}

/* ---- what is known without asking ---- */

static uint32_t localhost(const struct name_query *q, struct span name, struct addr *rows) {
  bool is = span_eq_nocase(name, SPAN_LIT("localhost"));
  struct span tail = span_from(name, name.len > 10 ? name.len - 10 : 0);
  uint32_t count = 0;
  if (!is && !span_eq_nocase(tail, SPAN_LIT(".localhost"))) {
    return 0;
  }
  const struct in_addr loopback = {htonl(INADDR_LOOPBACK)};
  if (q->family != NAME_V6) {
    rows[count++] = addr_4(&loopback);
  }
  if (q->family != NAME_V4) {
    rows[count++] = addr_6(&in6addr_loopback);
  }
  return count;
}

uint32_t dns_local(const struct hosts *hosts, const struct name_query *q, struct addr *rows) {
  struct span name =
      span_sub(q->name, 0, q->name.len - (span_ends(q->name, SPAN_LIT(".")) ? 1 : 0));
  uint32_t count = 0;
  if (q->family != NAME_V6) {
    count = hosts_find(hosts, name, AF_INET, rows, NAME_ANSWERS_MAX);
  }
  if (q->family != NAME_V4) {
    count += hosts_find(hosts, name, AF_INET6, rows + count, NAME_ANSWERS_MAX - count);
  }
  return count ? count : localhost(q, name, rows);
}
