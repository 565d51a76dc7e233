/* loader_watch.c: notices the end of the loader process and says it: in the log, to the service
 * manager, by weir_loader_up. Traffic goes on; who needed the loader says why it fails
 * (compiler.c, log_sink.c). Does not: start it again (loader_priv.h says why). Called by
 * control.c. */
#include <signal.h>
#include <sys/wait.h>

#include "control/control_priv.h"

#define WAIT_MS 10u /* its socket closes a moment before it can be waited for */

static void tell(const struct control *c, pid_t pid, int status) {
  char cause[64];
  struct buf b = buf_of(cause, sizeof cause - 1);
  bool known = status != LOADER_HOW_UNKNOWN;
  int number = known && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  const char *name = number ? sigabbrev_np(number) : NULL;
  if (!known) {
    buf_lit(&b, "nobody knows how");
  } else if (number) {
    buf_printf(&b, "killed by signal %d%s%s", number, name ? ", SIG" : "", name ? name : "");
  } else {
    buf_printf(&b, "exit status %d", WEXITSTATUS(status));
  }
  cause[b.len] = 0;
  notify_manager("STATUS=the loader process has ended, restart weir");
  log_line(c->log, END_LEVEL_ERROR, "loader process %d: %s: " LOADER_ENDED, (int)pid, cause);
}

static void look(struct control *c) {
  pid_t pid = c->loader.pid;
  int status = 0;
  if (loader_reap(&c->loader, &status)) {
    tell(c, pid, status);
  } else {
    poller_set(&c->poller, &c->loader_wait, clock_ms() + WAIT_MS);
  }
}

static void on_wait(struct poll_timer *timer) {
  look(container_of(timer, struct control, loader_wait));
}

static void on_end(struct poll_watch *watch, short revents) {
  (void)revents;
  struct control *c = container_of(watch, struct control, loader_end);
  poller_remove(&c->poller, watch);
  look(c);
}

/* Asked for nothing, poll tells of a hang-up alone: replies are for whoever asked. */
void loader_watch(struct control *c) {
  poll_timer_init(&c->loader_wait, on_wait);
  c->loader_end = (struct poll_watch){.fd = c->loader.sock, .ready = on_end};
  check(poller_add(&c->poller, &c->loader_end));
}

void loader_watch_stop(struct control *c) {
  poller_remove(&c->poller, &c->loader_end);
  poller_stop(&c->loader_wait);
}
