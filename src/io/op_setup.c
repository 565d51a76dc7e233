/* op_setup.c: sets a ring up, and says in a sentence what refused it and what helps. The flags are
 * those that pay (single issuer, deferred task work); Linux 6.1 has them all. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "io/op_priv.h"
#include "weir/io/loop.h"

#ifndef IORING_SETUP_NO_SQARRAY
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

/* CQ_TIMES submission entries have room among the completions: multishot ops give many each. */
#define CQ_TIMES 8u

/* sysctl_disabled reads kernel.io_uring_disabled (Linux 6.6): 0 to 2, or -1. */
static int sysctl_disabled(void) {
  int value = -1;
  FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
  if (file == NULL) return -1;
  if (fscanf(file, "%d", &value) != 1) value = -1;
  (void)fclose(file);
  return value;
}

static void explain_permission(struct buf *why) {
  int disabled = sysctl_disabled();
  if (disabled > 0) {
    buf_printf(why,
               "io_uring_setup: refused by kernel.io_uring_disabled=%d; remedy: sysctl -w "
               "kernel.io_uring_disabled=0%s",
               disabled, disabled == 1 ? ", or run as a member of kernel.io_uring_group" : "");
    return;
  }
  buf_printf(why,
             "io_uring_setup: refused by a sandbox (seccomp profile of a container, or a security "
             "module); remedy: allow io_uring_setup, io_uring_enter and io_uring_register in it "
             "(docker: --security-opt seccomp=PROFILE; systemd: SystemCallFilter=@io-event)");
}

static void explain(int err, struct buf *why) {
  switch (err) {
    case -EPERM:
    case -EACCES: explain_permission(why); return;
    case -ENOSYS:
      buf_printf(why,
                 "io_uring_setup: this kernel or sandbox has no io_uring; remedy: Linux 6.1 "
                 "or newer built with CONFIG_IO_URING, and a seccomp profile that allows it");
      return;
    case -EINVAL:
      buf_printf(why,
                 "io_uring_setup: this kernel's io_uring is too old; remedy: Linux 6.1 or "
                 "newer");
      return;
    case -ENOMEM:
      buf_printf(why,
                 "io_uring_setup: no memory for the ring; remedy: raise the locked memory "
                 "limit (ulimit -l, systemd: LimitMEMLOCK=) or the container's memory");
      return;
    case -EMFILE:
    case -ENFILE:
      buf_printf(why,
                 "io_uring_setup: no descriptor left; remedy: raise the open files limit "
                 "(ulimit -n, systemd: LimitNOFILE=)");
      return;
    default: buf_printf(why, "io_uring_setup: %s", strerrordesc_np(-err)); return;
  }
}

static int try_open(struct io_uring *ring, uint32_t entries, unsigned more_flags) {
  struct io_uring_params params = {
      .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
               IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | more_flags,
      .cq_entries = entries * CQ_TIMES,
  };
  return io_uring_queue_init_params(entries, ring, &params);
}

int ring_open(struct io_uring *ring, uint32_t entries, struct buf *why) {
  int rc = try_open(ring, entries, IORING_SETUP_NO_SQARRAY);
  if (rc == -EINVAL) rc = try_open(ring, entries, 0); /* before Linux 6.6 */
  if (rc < 0) {
    explain(rc, why);
    return rc;
  }
  (void)io_uring_register_ring_fd(ring); /* saves a lookup per enter; works without */
  return 0;
}

int loop_uring_probe(struct buf *why) {
  struct io_uring ring;
  int rc = ring_open(&ring, 4, why);
  if (rc == 0) io_uring_queue_exit(&ring);
  return rc;
}
