/* lifecycle.c: signals, drain and end. SIGTERM and SIGINT drain (the second ends at once), SIGQUIT
 * ends at once, SIGHUP reloads, SIGUSR1 reopens logs. Called by control.c and admin.c. */
#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "control/control_priv.h"

/* After the drain's deadline the workers have this long to close; then they are stopped, then
 * left. */
#define GRACE_MS 2000u

const char *phase_name(enum phase phase) {
  static const char *const names[] = {"starting", "running", "settling", "draining", "ended"};
  return names[phase];
}

static sigset_t watched(void) {
  static const int numbers[] = {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};
  sigset_t set;
  sigemptyset(&set);
  for (size_t i = 0; i < array_count(numbers); i++) {
    sigaddset(&set, numbers[i]);
  }
  return set;
}

void signals_block(void) {
  sigset_t set = watched();
  check(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  check(sigaction(SIGPIPE, &ignore, NULL) == 0);
}

/* ---- the end ---- */

void control_end(struct control *c) {
  if (c->at_once) {
    return;
  }
  const struct worker_msg msg = {.kind = WORKER_STOP};
  if (c->phase == PHASE_RUNNING) {
    notify_manager("STOPPING=1");
  }
  c->at_once = true;
  c->phase = PHASE_DRAINING;
  c->end_by_ms = clock_ms() + GRACE_MS;
  poller_stop(&c->settle);
  workers_close(&c->workers, &msg);
}

static void on_settled(struct poll_timer *timer) {
  struct control *c = container_of(timer, struct control, settle);
  pthread_mutex_lock(&c->compiler.published.lock);
  uint32_t drain_ms = c->compiler.published.drain_ms;
  pthread_mutex_unlock(&c->compiler.published.lock);
  const struct worker_msg msg = {.kind = WORKER_DRAIN, .deadline_ms = clock_ms() + drain_ms};
  c->phase = PHASE_DRAINING;
  c->end_by_ms = msg.deadline_ms + GRACE_MS;
  workers_close(&c->workers, &msg);
}

void control_write_open(const struct control *c, struct buf *out) {
  uint32_t conns = workers_conns(&c->workers), sessions = workers_udp_sessions(&c->workers);
  buf_printf(out, "%u connection%s", conns, conns == 1 ? "" : "s");
  if (sessions) {
    buf_printf(out, " and %u UDP session%s", sessions, sessions == 1 ? "" : "s");
  }
}

void control_drain(struct control *c, const char *who) {
  char what[64];
  struct buf left = buf_of(what, sizeof what);
  if (c->phase == PHASE_STARTING) {
    control_end(c);
  }
  if (c->phase != PHASE_RUNNING) {
    return;
  }
  pthread_mutex_lock(&c->compiler.published.lock);
  uint32_t settle_ms = c->compiler.published.drain_settle_ms;
  uint32_t drain_ms = c->compiler.published.drain_ms;
  pthread_mutex_unlock(&c->compiler.published.lock);
  c->phase = PHASE_SETTLING;
  control_write_open(c, &left);
  notify_manager("STOPPING=1\nSTATUS=draining " SPAN_FMT, SPAN_ARG(buf_span(&left)));
  log_line(c->log, END_LEVEL_INFO, "%s: draining " SPAN_FMT " for at most %u s", who,
           SPAN_ARG(buf_span(&left)), (settle_ms + drain_ms) / 1000);
  poll_timer_init(&c->settle, on_settled);
  if (settle_ms) {
    poller_set(&c->poller, &c->settle, clock_ms() + settle_ms);
  } else {
    on_settled(&c->settle);
  }
}

/* ---- signals ---- */

static void on_term(struct control *c, const char *name) {
  if (c->phase >= PHASE_SETTLING) {
    log_line(c->log, END_LEVEL_WARN, "%s again: ending at once", name);
    control_end(c);
  } else {
    control_drain(c, name);
  }
}

static void on_signal(struct control *c, uint32_t number) {
  switch (number) {
    case SIGHUP:
      if (c->phase <= PHASE_RUNNING) {
        (void)compiler_reload(&c->compiler, NULL);
      }
      return;
    case SIGTERM:
      on_term(c, "SIGTERM");
      return;
    case SIGINT:
      on_term(c, "SIGINT");
      return;
    case SIGQUIT:
      control_end(c);
      return;
    case SIGUSR1:
      log_reopen(c->log);
      return;
    default:
      log_line(c->log, END_LEVEL_WARN,
               "SIGUSR2: replacing the running binary is not in this version; start the new one "
               "and send SIGTERM to this one");
  }
}

static void on_ready(struct poll_watch *watch, short revents) {
  (void)revents;
  struct control *c = container_of(watch, struct control, signals);
  struct signalfd_siginfo info;
  while (read(watch->fd, &info, sizeof info) == (ssize_t)sizeof info) {
    on_signal(c, info.ssi_signo);
  }
}

void signals_open(struct control *c) {
  sigset_t set = watched();
  int fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  check(fd >= 0);
  c->signals = (struct poll_watch){.fd = fd, .events = POLLIN, .ready = on_ready};
  check(poller_add(&c->poller, &c->signals));
}
