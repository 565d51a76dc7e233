/* diff.h: from one configuration to the next in the same process: what a reload changes, and what
 * it cannot. Called by the compile thread and by `weir plan`. */
#ifndef WEIR_CONFIG_DIFF_H
#define WEIR_CONFIG_DIFF_H

#include "weir/config/config.h"

/* conf_keep_restart has next keep what runs where only a restart can change it (workers, user,
 * admin, where the logs go): conf_process(next) then says what conf_process(now) does. Reports
 * each key whose value in the file is another one; returns how many. */
uint32_t conf_keep_restart(const struct conf *now, struct conf *next, struct conf_faults *faults);

/* conf_descriptors is how many the process may have, and how many it takes besides connections. */
struct conf_descriptors {
  uint64_t allowed, own;
};
/* conf_check_connections reports a max_connections beyond most, of which conf_hooks has it that no
 * more are used: because of so many descriptors, or because of what weir was started for. And one,
 * "auto" too, that takes more descriptors than there are. */
void conf_check_connections(const struct conf *conf, uint32_t most, struct conf_descriptors d,
                            struct conf_faults *faults);
/* conf_check_machine warns of what a start on this machine would refuse and a text cannot tell: a
 * user that user_known does not know (after conf_keep_restart: another than weir runs as), and
 * logs in directories that reader does not find. */
void conf_check_machine(const struct conf *conf, const struct conf_reader *reader,
                        bool (*user_known)(const char *user), struct conf_faults *faults);

/* conf_side is a configuration, as written and as compiled. */
struct conf_side {
  const struct conf *conf;
  const struct snapshot *snapshot;
};

/* conf_diff is snapshot_diff with the settings of the process before it, one line for each key:
 * "~ setting process.drain: \"30s\" -> \"5s\"" (in JSON kind "setting"). Keys that need a restart
 * did not change: conf_keep_restart names them. */
uint32_t conf_diff(const struct conf_side *before, const struct conf_side *after, struct text *out,
                   bool json);

#endif
