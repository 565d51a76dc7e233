/* inherit_priv.h: listening descriptors that a service manager passed (sd_listen_fds protocol:
 * LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES). Known as "fd:name" in the configuration. */
#ifndef WEIR_CONTROL_INHERIT_PRIV_H
#define WEIR_CONTROL_INHERIT_PRIV_H

#include "weir/base/buf.h"

#define INHERIT_MAX 64u

/* inherit_take reads the environment, once, before any fork; the variables are removed from it. */
void inherit_take(void);
/* inherit_get gives the listening stream socket of that name; it stays the process's. -errno and a
 * sentence when there is none, or more than one. */
MUST_USE int inherit_get(struct span name, struct buf *why);

#endif
