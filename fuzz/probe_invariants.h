/* probe_invariants.h: what must hold of how a health check read an answer, whatever it spoke. Used
 * by fuzz_probe_reply.c and fuzz_probe_h2.c; a broken one aborts (check). */
#ifndef WEIR_FUZZ_PROBE_INVARIANTS_H
#define WEIR_FUZZ_PROBE_INVARIANTS_H

#include "control/health_priv.h"

/* check_outcomes: of an answer that came at once, and the same in pieces. */
static inline void check_outcomes(const struct probe_outcome *once,
                                  const struct probe_outcome *cut) {
  check(once->result < PROBE_COUNT && once->result == cut->result);
  check(strcmp(once->why, cut->why) == 0);
  for (const char *c = once->why; *c; c++) check(*c >= 0x20 && *c < 0x7f);
  check((once->result == PROBE_PASS) == !once->why[0]);
}

#endif
