/* upstream_priv.h: what the files of upstream/ share. */
#ifndef WEIR_UPSTREAM_PRIV_H
#define WEIR_UPSTREAM_PRIV_H

#include "weir/upstream/upstream.h"

/* pick_need is how fit a member must be. */
enum pick_need {
  PICK_IN_SERVICE,
  PICK_UNKNOWN, /* new: no check has ended yet */
  PICK_EJECTED, /* or ejected */
};

/* pick_from is the set a policy chooses from: members for which pick_allows holds; count of them
 * (above 0) and the sum of their weights. */
struct pick_from {
  struct upstream *up;
  const struct pool *pool;
  uint64_t now_ms;
  const struct pool_tried *tried; /* NULL: all may be taken again */
  enum pick_need need;
  bool backup;                    /* only backups, or only the others */
  uint32_t count;
  uint64_t weight;
};

bool pick_allows(const struct pick_from *from, uint32_t place);
/* pick_nth is the place of the nth allowed member (n < count). */
uint32_t pick_nth(const struct pick_from *from, uint32_t n);
/* pick_by_weight is the place where a running sum of weights passes at (at < weight). */
uint32_t pick_by_weight(const struct pick_from *from, uint64_t at);

#define BALANCE(id, text, fn, doc) uint32_t fn(const struct pick_from *from);
#include "weir/upstream/balance.def"
#undef BALANCE

#endif
