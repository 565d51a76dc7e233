/* signers_priv.h: threads that do private-key operations for the workers' TLS handshakes. */
#ifndef WEIR_CONTROL_SIGNERS_PRIV_H
#define WEIR_CONTROL_SIGNERS_PRIV_H

#include <pthread.h>
#include <stdint.h>

#include "weir/base/check.h"

struct signers {
  pthread_t *threads; /* NULL: none, workers sign by themselves */
  uint32_t count;
};

/* signers_start starts `count` threads, before the first TLS policy is made: 0 or -errno, and then
 * there are none. */
MUST_USE int signers_start(struct signers *s, uint32_t count);
/* signers_stop ends them, after the last worker. */
void signers_stop(struct signers *s);

#endif
