/* process.c: what the process needs beside the snapshot, with "auto" resolved, and which changes
 * need a restart. Called by load.c and control/. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "load_priv.h"
#include "weir/config/diff.h"

static uint32_t processors(void) {
  cpu_set_t set;
  CPU_ZERO(&set);
  int count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
  if (count < 1) return 1;
  return count > (int)WORKERS_MAX ? WORKERS_MAX : (uint32_t)count;
}

bool conf_admin_default(const struct conf_reader *reader, struct text *out) {
  const char *runtime = reader->env ? reader->env(reader->ctx, "RUNTIME_DIRECTORY") : NULL;
  const char *user = reader->env ? reader->env(reader->ctx, "XDG_RUNTIME_DIR") : NULL;
  if (runtime && runtime[0] == '/') {
    struct span dirs = span_str(runtime); /* systemd separates several by colons */
    text_printf(out, "unix:" SPAN_FMT "/admin.sock",
                SPAN_ARG(span_sub(dirs, 0, span_find_char(dirs, ':', 0))));
  } else if (geteuid() == 0) {
    text_lit(out, "unix:/run/weir/admin.sock");
  } else if (user && user[0] == '/') {
    text_printf(out, "unix:%s/weir/admin.sock", user);
  } else {
    return false;
  }
  return true;
}

/* str_or_null is a NUL-terminated copy; NULL for an unset text. */
static const char *str_or_null(struct conf *conf, struct span s) {
  return s.len ? arena_str(&conf->arena, s) : NULL;
}

static const char *word_str(struct conf *conf, enum option_id id, uint32_t index) {
  return arena_str(&conf->arena, word_at(option_get(id)->words, index));
}

static const char *admin_listen(struct conf *conf) {
  struct span set = conf->root.admin_listen;
  if (span_eq(set, SPAN_LIT("off"))) return NULL;
  if (!span_eq(set, SPAN_LIT("auto"))) return str_or_null(conf, set);
  struct text path = {0};
  const char *found = NULL;
  if (conf_admin_default(conf->reader, &path)) found = arena_str(&conf->arena, text_span(&path));
  text_fini(&path);
  return found;
}

void process_fill(struct conf *conf) {
  const struct conf_root *root = &conf->root;
  bool status = !span_eq(root->admin_status, SPAN_LIT("off"));
  conf->process = (struct conf_process){
      .workers = root->workers ? root->workers : processors(),
      .workers_auto = root->workers == 0,
      .signers = root->signers,
      .user = str_or_null(conf, root->user),
      .drain_ms = root->drain_ms,
      .drain_settle_ms = root->drain_settle_ms,
      .max_connections = root->max_connections,
      .admin_listen = admin_listen(conf),
      .admin_auto = span_eq(root->admin_listen, SPAN_LIT("auto")),
      .status_listen = status ? str_or_null(conf, root->admin_status) : NULL,
      .log_level = word_str(conf, OPTION_LOG_LEVEL, root->log_level),
      .log_to = str_or_null(conf, root->log_to),
      .access_to = str_or_null(conf, root->access_to),
      .access_format = word_str(conf, OPTION_ACCESS_FORMAT, root->access_format),
      .access_sample_ppm = root->access_sample_ppm,
      .tls_keys = str_or_null(conf, root->log_tls_keys)};
}

/* ---- what runs, where only a restart can change it ---- */

static uint32_t setting_at(const struct option *option) {
  check(option->scope == SCOPE_ROOT);
  return (uint32_t)option->id - scope_get(SCOPE_ROOT)->first;
}

struct value setting_runs(const struct conf *conf, const struct option *option) {
  if (conf->running && (option->flags & OPTION_RESTART)) return conf->running[setting_at(option)];
  return value_load(option, row_member(&conf->root.row, option));
}

bool setting_same(const struct value *a, const struct value *b) {
  return a->number == b->number && span_eq(a->text, b->text);
}

void setting_write(const struct option *option, const struct value *value, struct text *out) {
  if (value_is_text(option) && !value->text.len)
    text_lit(out, "unset");
  else
    value_write(option, value, out);
}

static void report_restart(const struct conf *next, const struct option *option,
                           const struct value *runs, struct conf_faults *faults) {
  struct value set = value_load(option, row_member(&next->root.row, option));
  struct text was = {0}, is = {0};
  setting_write(option, runs, &was);
  setting_write(option, &set, &is);
  struct place at = row_place(&next->root.row, option->id);
  static const char form[] = "%s: " SPAN_FMT " -> " SPAN_FMT " needs a restart";
  if (at.src)
    fault_add(faults, FAULT_NEEDS_RESTART, at, form, option->path, SPAN_ARG(text_span(&was)),
              SPAN_ARG(text_span(&is)));
  else
    fault_add_file(faults, FAULT_NEEDS_RESTART, next->sources->path, form, option->path,
                   SPAN_ARG(text_span(&was)), SPAN_ARG(text_span(&is)));
  fault_note(faults, "weir runs with " SPAN_FMT, SPAN_ARG(text_span(&was)));
  text_fini(&was);
  text_fini(&is);
}

static const char *copy_or_null(struct conf *conf, const char *s) {
  return s ? arena_str(&conf->arena, span_str(s)) : NULL;
}

/* keep_process is the RESTART options of process_fill. */
static void keep_process(struct conf *next, const struct conf_process *p) {
  next->process.workers = p->workers;
  next->process.workers_auto = p->workers_auto;
  next->process.signers = p->signers;
  next->process.user = copy_or_null(next, p->user);
  next->process.admin_listen = copy_or_null(next, p->admin_listen);
  next->process.admin_auto = p->admin_auto;
  next->process.status_listen = copy_or_null(next, p->status_listen);
  next->process.log_to = copy_or_null(next, p->log_to);
  next->process.access_to = copy_or_null(next, p->access_to);
  next->process.tls_keys = copy_or_null(next, p->tls_keys);
}

uint32_t conf_keep_restart(const struct conf *now, struct conf *next, struct conf_faults *faults) {
  const struct scope *scope = scope_get(SCOPE_ROOT);
  struct value *running = arena_get(&next->arena, scope->count * sizeof *running);
  uint32_t waiting = 0;
  for (uint32_t i = 0; i < scope->count; i++) {
    const struct option *option = option_get((enum option_id)(scope->first + i));
    if (!(option->flags & OPTION_RESTART)) continue;
    struct value runs = setting_runs(now, option);
    struct value set = value_load(option, row_member(&next->root.row, option));
    running[setting_at(option)] =
        (struct value){runs.number, arena_copy(&next->arena, runs.text, NULL)};
    if (setting_same(&runs, &set)) continue;
    report_restart(next, option, &runs, faults);
    waiting++;
  }
  next->running = running;
  keep_process(next, &now->process);
  return waiting;
}

/* What weir needs beside its connections is less. */
#define DESCRIPTORS_OWN (UINT64_C(1) << 16)

/* check_few: with a handful of descriptors even the least number of connections is too high. */
static void check_few(const struct conf *conf, uint32_t used, struct conf_descriptors d,
                      struct conf_faults *faults) {
  uint64_t needed = 2 * (uint64_t)used + d.own;
  struct place at = row_place(&conf->root.row, OPTION_MAX_CONNECTIONS);
  if (d.allowed >= needed) return;
  static const char form[] =
      "%u connections and weir itself may need %llu descriptors, %llu are "
      "allowed (RLIMIT_NOFILE): they run out first";
  if (at.src)
    fault_add(faults, FAULT_CLAMPED, at, form, used, (unsigned long long)needed,
              (unsigned long long)d.allowed);
  else
    fault_add_file(faults, FAULT_CLAMPED, conf->sources->path, form, used,
                   (unsigned long long)needed, (unsigned long long)d.allowed);
  fault_note(faults, "raise LimitNOFILE= of the unit, or ulimit -n, and restart");
}

void conf_check_connections(const struct conf *conf, uint32_t most, struct conf_descriptors d,
                            struct conf_faults *faults) {
  uint32_t wanted = conf->root.max_connections;
  uint64_t needed = 2 * (uint64_t)wanted; /* the client's and the upstream's */
  if (wanted <= most) {
    check_few(conf, wanted ? wanted : most, d, faults);
    return;
  }
  struct place at = row_place(&conf->root.row, OPTION_MAX_CONNECTIONS);
  if (d.allowed > needed + DESCRIPTORS_OWN) {
    fault_add(faults, FAULT_CLAMPED, at,
              "process.max_connections = %u is more than weir was started for: at most %u "
              "connections",
              wanted, most);
    fault_note(faults, "restart it");
    return;
  }
  fault_add(faults, FAULT_CLAMPED, at,
            "process.max_connections = %u needs %llu descriptors beside weir's own, %llu are "
            "allowed (RLIMIT_NOFILE): at most %u connections",
            wanted, (unsigned long long)needed, (unsigned long long)d.allowed, most);
  fault_note(faults, "raise LimitNOFILE= of the unit, or ulimit -n, and restart");
}

/* ---- this machine ---- */

static void check_user(const struct conf *conf, bool (*known)(const char *user),
                       struct conf_faults *faults) {
  struct span name = conf->root.user;
  const char *now = conf->running ? conf->process.user : NULL;
  if (!name.len || (now && span_eq(name, span_str(now)))) return;
  char *user = mem_str(name);
  if (!known(user)) {
    fault_add(faults, FAULT_NO_USER, row_place(&conf->root.row, OPTION_USER),
              "process.user: there is no user \"" SPAN_FMT
              "\" on this machine: weir does not start",
              SPAN_ARG(name));
    fault_note(faults, "make it (useradd --system), or leave process.user out");
  }
  mem_free(user);
}

static void check_log(const struct conf *conf, enum option_id id, struct span to,
                      const struct conf_reader *reader, struct conf_faults *faults) {
  size_t slash = to.len;
  while (slash > 0 && to.ptr[slash - 1] != '/') slash--;
  if (slash < 2) return; /* a word, beside us, or in the root */
  struct span dir = span_sub(to, 0, slash - 1);
  char *path = mem_str(dir);
  int mode = reader->mode ? reader->mode(reader->ctx, path) : 0;
  if (mode == -ENOENT || mode == -ENOTDIR) {
    fault_add(faults, FAULT_NO_LOG_DIRECTORY, row_place(&conf->root.row, id),
              "%s: the directory " SPAN_FMT " does not exist: weir does not start",
              option_get(id)->path, SPAN_ARG(dir));
    fault_note(faults, "make it: weir makes the file alone");
  }
  mem_free(path);
}

void conf_check_machine(const struct conf *conf, const struct conf_reader *reader,
                        bool (*user_known)(const char *user), struct conf_faults *faults) {
  const struct conf_root *root = &conf->root;
  check_user(conf, user_known, faults);
  check_log(conf, OPTION_LOG_TO, root->log_to, reader, faults);
  check_log(conf, OPTION_ACCESS_TO, root->access_to, reader, faults);
  check_log(conf, OPTION_LOG_TLS_KEYS, root->log_tls_keys, reader, faults);
}
