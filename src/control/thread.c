/* thread.c: starting, naming and pinning threads. Called by workers.c, log.c and compiler.c.
 * Does not: join; who starts a thread joins it. */
#include "control/thread_priv.h"

#include <sched.h>
#include <sys/prctl.h>

/* TLS handshakes and config parsing are the deepest users, well below this; only what is touched
 * is resident. Sanitizers inflate frames. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_BYTES (2048u << 10)
#else
#define STACK_BYTES (256u << 10)
#endif

int thread_start(pthread_t *thread, void *(*fn)(void *arg), void *arg) {
  pthread_attr_t attr;
  check(pthread_attr_init(&attr) == 0);
  check(pthread_attr_setstacksize(&attr, STACK_BYTES) == 0);
  int err = pthread_create(thread, &attr, fn, arg);
  pthread_attr_destroy(&attr);
  return -err;
}

void thread_name(const char *name) { (void)prctl(PR_SET_NAME, name); }

static void allowed(cpu_set_t *set) {
  CPU_ZERO(set);
  if (sched_getaffinity(0, sizeof *set, set) < 0) {
    CPU_SET(0, set);
  }
}

uint32_t thread_cpus(void) {
  cpu_set_t set;
  allowed(&set);
  return (uint32_t)CPU_COUNT(&set);
}

void thread_pin(uint32_t index) {
  cpu_set_t set, one;
  allowed(&set);
  CPU_ZERO(&one);
  for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (CPU_ISSET(cpu, &set) && index-- == 0) {
      CPU_SET(cpu, &one);
      (void)sched_setaffinity(0, sizeof one, &one);
      return;
    }
  }
}
