/* control_priv.h: the control thread's state: everything that is one per process. control.c starts
 * and ends it, lifecycle.c reacts to signals, facts.c counts, admin.c and status.c answer. */
#ifndef WEIR_CONTROL_CONTROL_PRIV_H
#define WEIR_CONTROL_CONTROL_PRIV_H

#include "control/compiler_priv.h"
#include "control/loader_priv.h"
#include "control/log_priv.h"
#include "control/metrics_priv.h"
#include "control/poller_priv.h"
#include "control/privilege_priv.h"
#include "control/server_priv.h"
#include "control/signers_priv.h"
#include "control/workers_priv.h"
#include "weir/control/control.h"

struct prober;
struct resolver;

enum phase {
  PHASE_STARTING, /* not everything listens yet */
  PHASE_RUNNING,
  PHASE_SETTLING, /* readiness fails, all else goes on */
  PHASE_DRAINING, /* the workers take no new connections and end those they have */
  PHASE_ENDED,
};

/* alarm_state is what alarm.c has said. */
struct alarm_state {
  struct poll_timer timer;
  uint64_t accepts_told, connects_told, told_ms;
  uint64_t refused_told, full_ms;
};

struct control {
  const struct control_options *options;
  struct conf_reader plain, reader; /* the loader's; with our own environment before it */
  struct loader loader;
  struct log *log;
  struct resolver *resolver;
  struct prober *prober;
  uint64_t probed_serial; /* of published: what prober looks after */
  struct registry *registry;
  struct workers workers;
  struct signers signers;
  struct compiler compiler;
  struct poller poller;
  struct server admin, status;
  bool admin_on, status_on;
  bool loader_privileged; /* it may read more than our user */
  struct text warnings; /* of the file at the start, until they are told */
  char *file;       /* absolute path of the configuration; NULL: there is no file */
  char *admin_path; /* of the socket, to remove at the end */
  struct loader_stat admin_file;
  struct poll_watch signals; /* signalfd */
  struct poll_watch stops;   /* workers.stop_event */
  struct poll_watch inbox;   /* eventfd: outcomes, names to ask */
  struct poll_watch loader_end; /* the loader's socket hangs up */
  struct poll_timer loader_wait; /* until it can be waited for */
  struct poll_timer settle, tickets, memory;
  struct alarm_state alarm;
  enum phase phase;
  int exit_code;
  bool at_once; /* ended by force */
  uint64_t start_wall_ms, end_by_ms;
  uint32_t connections_max;
  uint64_t descriptors;
  /* For weir_saturation: each worker's busy time at the last look. */
  uint64_t busy_seen_ns[WORKERS_MAX], busy_seen_at_ns, busy_permille;
};

/* ---- lifecycle.c ---- */

/* signals_block blocks what signals_open will read; before any thread. */
void signals_block(void);
void signals_open(struct control *c);
/* control_drain: readiness fails now, the workers drain after drain_settle. A second one ends at
 * once. */
void control_drain(struct control *c, const char *who);
/* control_write_open appends what is open: "2 connections and 1 UDP session". */
void control_write_open(const struct control *c, struct buf *out);
/* control_end stops the workers at once. */
void control_end(struct control *c);
const char *phase_name(enum phase phase);

/* ---- alarm.c ---- */

/* alarm_start begins to look once a second, when the workers run. */
void alarm_start(struct control *c);

/* ---- loader_watch.c ---- */

/* loader_watch begins to look for the end of the loader process. */
void loader_watch(struct control *c);
void loader_watch_stop(struct control *c);

/* ---- facts.c ---- */

/* control_look locks published and fills in; control_look_done unlocks. Between them in is
 * valid. */
struct control_look {
  struct metrics_input in;
  const struct stats *stats[WORKERS_MAX];
  const struct loop_stats *loops[WORKERS_MAX];
  struct arena arena; /* of what in points at */
};
void control_look(struct control *c, struct control_look *look);
void control_look_done(struct control *c, struct control_look *look);

/* ---- admin.c, status.c ---- */

/* admin_start serves on a listening unix socket, status_start on a TCP one. */
void admin_start(struct control *c, int fd);
/* admin_outcome sends a compile thread's outcome to who asked for it. */
void admin_outcome(struct control *c, struct compiler_outcome *o);
void status_start(struct control *c, int fd);

#endif
