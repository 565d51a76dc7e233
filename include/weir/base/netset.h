/* netset.h: allow and deny lists of networks. The longest network that holds an address decides;
 * of one that stands in both lists deny counts; where no network holds it, an address is allowed
 * unless something is in the allow list. Immutable; a lookup is a binary search. */
#ifndef WEIR_BASE_NETSET_H
#define WEIR_BASE_NETSET_H

#include "weir/base/addr.h"
#include "weir/base/arena.h"

/* netset_edge: from `start` on addresses are allowed or not, up to the next edge. */
struct netset_edge {
  uint64_t start[2]; /* most significant first; IPv4: in the upper 32 bits of the first */
  bool allowed;
};

struct netset {
  const struct netset_edge *edges[2]; /* IPv4, IPv6; sorted */
  uint32_t counts[2];
  bool others; /* allowed: what no network holds, unix sockets too */
};

/* netset_new compiles two lists into the arena (which has no limit). NULL when both are empty. */
const struct netset *netset_new(struct arena *arena, const struct addr_net *allow,
                                uint32_t allow_count, const struct addr_net *deny,
                                uint32_t deny_count);
/* netset_allows judges an address, IPv4-mapped IPv6 as IPv4. */
bool netset_allows(const struct netset *set, const struct addr *a);
/* netset_same tells whether two sets (NULL: all may) judge every address alike. */
bool netset_same(const struct netset *a, const struct netset *b);

#endif
