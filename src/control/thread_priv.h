/* thread_priv.h: threads of the process: small stacks, all signals blocked, a name, maybe a
 * CPU. */
#ifndef WEIR_CONTROL_THREAD_PRIV_H
#define WEIR_CONTROL_THREAD_PRIV_H

#include <pthread.h>
#include <stdint.h>

#include "weir/base/check.h"

/* thread_start runs fn(arg) in a joinable thread with a small stack. 0 or -errno. Signals are
 * blocked in it because they are blocked in the thread that starts it. */
MUST_USE int thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg);
/* thread_name names the calling thread (at most 15 bytes count). */
void thread_name(const char *name);
/* thread_cpus is the number of CPUs that this process may run on. */
uint32_t thread_cpus(void);
/* thread_pin keeps the calling thread on the index-th CPU that the process may run on. */
void thread_pin(uint32_t index);

#endif
