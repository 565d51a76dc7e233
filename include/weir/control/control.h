/* control.h: a running weir: loader process, workers, log, compile and control thread, from start
 * to drained exit. main/ calls control_run for `run`, `proxy` and `demo`. DESIGN.md section 4. */
#ifndef WEIR_CONTROL_CONTROL_H
#define WEIR_CONTROL_CONTROL_H

#include "weir/config/config.h"

/* Exit codes of DESIGN.md section 6. */
enum weir_exit {
  WEIR_OK = 0,
  WEIR_FAILED = 1,
  WEIR_USAGE = 2,
  WEIR_CANNOT_START = 75,
  WEIR_BAD_CONFIG = 78,
};

/* control_options is where the configuration comes from. */
struct control_options {
  const char *path; /* configuration file; NULL: text */
  const char *name; /* of text, in messages */
  struct span text;
  bool log_tls_keys; /* the switch that log.tls_keys needs */
  /* env answers before the environment does (the demo's own certificate); may be NULL. */
  const char *(*env)(void *ctx, const char *name);
  /* ready is called once, when everything listens; may be NULL. */
  void (*ready)(void *ctx);
  void *ctx;
};

/* control_run runs until it is told to end; the exit code. Call it before any thread exists. */
int control_run(const struct control_options *options);

/* control_check compiles conf as a reload would, with its certificates; nothing is bound or
 * resolved. False when that fails; faults say where. */
MUST_USE bool control_check(const struct conf *conf, struct conf_faults *faults);

/* control_trial does the same and hands the snapshot to fn before it goes. */
MUST_USE bool control_trial(const struct conf *conf, struct conf_faults *faults,
                            void (*fn)(const struct snapshot *snapshot, void *ctx), void *ctx);

/* control_plan says what a reload from the one to the other would change (conf_diff); names are
 * not resolved. *waiting counts keys that need a restart. False with faults when `next` does not
 * compile. */
struct control_plan {
  const struct conf *before;
  struct conf *next;
  bool json;
  uint32_t changes, waiting;
};
MUST_USE bool control_plan(struct control_plan *plan, struct conf_faults *faults,
                           struct text *out);

#endif
