/* fuzz_dns_addrs.c: replies to questions for addresses (control/dns_addrs.c), which c-ares reads.
 * Byte 0 picks the type, the rest is a whole DNS message. Checked: families, ports and TTLs are
 * what they may be, the count fits the message, settling sorts and drops doubles. */
#include <stdlib.h>

#include "control/dns_priv.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_settled(struct addr *rows, uint32_t count) {
  uint32_t kept = addrs_settle(rows, count);
  check(kept <= count && (kept > 0) == (count > 0));
  for (uint32_t i = 1; i < kept; i++) {
    bool later = rows[i].sa.sa_family == AF_INET6 && rows[i - 1].sa.sa_family == AF_INET;
    check(later || rows[i].sa.sa_family == rows[i - 1].sa.sa_family);
    check(!addr_eq(&rows[i], &rows[i - 1]));
  }
  check(addrs_settle(rows, kept) == kept);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0 || len > 65536) return 0;
  enum dns_type type = data[0] & 1 ? DNS_AAAA : DNS_A;
  char *copy = mem_alloc(len - 1);
  struct addr *rows = NULL;
  uint32_t count = 0, ttl_s = 0;
  memcpy(copy, data + 1, len - 1);
  enum resolve_result result = dns_addrs(type, span_of(copy, len - 1), &rows, &count, &ttl_s);
  check(result == RESOLVE_OK || result == RESOLVE_EMPTY || result == RESOLVE_BAD);
  check((result == RESOLVE_OK) == (count > 0));
  check(ttl_s <= INT32_MAX && count <= len / 16 + 1);
  for (uint32_t i = 0; i < count; i++) {
    check(rows[i].sa.sa_family == AF_INET || type == DNS_AAAA);
    check(addr_port(&rows[i]) == 0);
  }
  if (count) check_settled(rows, count);
  mem_free(rows);
  mem_free(copy);
  return 0;
}
