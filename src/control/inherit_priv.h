/* inherit_priv.h: listening descriptors that a service manager passed (sd_listen_fds protocol:
 * LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES). Known as "fd:name" in the configuration. */
#ifndef WEIR_CONTROL_INHERIT_PRIV_H
#define WEIR_CONTROL_INHERIT_PRIV_H

#include "weir/base/span.h"

#define INHERIT_MAX 64u

/* inherit_take reads the environment, once, before any fork; the variables are removed from it. */
void inherit_take(void);
/* inherit_find gives the first descriptor of that name, or -1. It stays the process's. */
int inherit_find(struct span name);

#endif
