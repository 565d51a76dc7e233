/* admin.c: the admin socket: one line in ("reload json", "plan json /path of a file"), one answer
 * out ("<exit code>\n" and text), then it closes. 0600 and the same user or root only; no TCP
 * (THREATS.md row 31). Does not: do the work; reload, plan and dump go to the compile thread, the
 * connection waits parked. */
#include <limits.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/control_priv.h"
#include "control/view_priv.h"
#include "weir/base/mem.h"
#include "weir/control/admin.h"
#include "weir/proxy/explain.h"

#define CONNS_MAX COMPILER_ASKERS_MAX
#define IDLE_MS 10000u
#define ADMIN_LINE_MAX (PATH_MAX + 256u)
_Static_assert(ADMIN_LINE_MAX < SERVER_IN_MAX, "a line fits the input");

struct admin_request {
  struct control *control;
  struct server_conn *conn;
  bool json, color, defaults;
  struct span path; /* plan: of a file; empty: our own */
  struct span words; /* explain: all behind the command */
};

static void answer(struct server_conn *conn, int code, struct span text) {
  text_printf(&conn->out, "%d\n", code);
  text_put(&conn->out, text);
  conn->close_after = true;
}

/* refuse answers with a sentence, in the form that was asked for. */
static void refuse(const struct admin_request *r, int code, const char *sentence) {
  answer(r->conn, code, SPAN_EMPTY);
  struct text *out = &r->conn->out;
  if (r->json) {
    text_lit(out, "{\"ok\":false,\"error\":\"");
    text_json(out, span_str(sentence));
    text_lit(out, "\"}\n");
  } else {
    text_printf(out, "%s\n", sentence);
  }
}

static struct compiler_asker asker_of(const struct admin_request *r) {
  return (struct compiler_asker){.slot = r->conn->slot,
                                 .generation = r->conn->generation,
                                 .json = r->json,
                                 .color = r->color,
                                 .defaults = r->defaults};
}

static bool park(const struct admin_request *r, bool asked) {
  if (!asked) {
    refuse(r, WEIR_FAILED, "too many reloads wait already");
  }
  r->conn->parked = asked;
  return asked;
}

static void on_reload(const struct admin_request *r) {
  if (r->control->phase > PHASE_RUNNING) {
    refuse(r, WEIR_FAILED, "weir drains: no reload any more");
    return;
  }
  const struct compiler_asker asker = asker_of(r);
  (void)park(r, compiler_reload(&r->control->compiler, &asker));
}

static void on_dump(const struct admin_request *r) {
  const struct compiler_asker asker = asker_of(r);
  (void)park(r, compiler_look(&r->control->compiler, &asker));
}

/* The loader reads what whoever started weir may read, and faults show lines of a file: only root,
 * or a peer with the same rights, may have it read one of his choice. */
static bool may_name_file(const struct admin_request *r) {
  struct ucred peer;
  socklen_t len = sizeof peer;
  return !r->control->loader_privileged ||
         (getsockopt(r->conn->watch.fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
          peer.uid == 0);
}

static void on_plan(const struct admin_request *r) {
  struct compiler_asker asker = asker_of(r);
  asker.plan = true;
  if (r->path.len && !may_name_file(r)) {
    refuse(r, WEIR_FAILED,
           "only root may name a file here: weir may read what you may not; without a name the "
           "running weir's own file is planned");
    return;
  }
  asker.path = r->path.len ? mem_str(r->path) : NULL;
  if (!park(r, compiler_look(&r->control->compiler, &asker))) {
    mem_free(asker.path);
  }
}

static void on_status(const struct admin_request *r) {
  struct control_look look;
  struct view view;
  control_look(r->control, &look);
  view_init(&view, &look.in, phase_name(r->control->phase));
  control_look_done(r->control, &look);
  answer(r->conn, WEIR_OK, SPAN_EMPTY);
  if (r->json) {
    view_write_json(&r->conn->out, &view);
  } else {
    view_write_text(&r->conn->out, &view);
  }
  view_fini(&view);
}

static void on_metrics(const struct admin_request *r) {
  struct control_look look;
  control_look(r->control, &look);
  answer(r->conn, WEIR_OK, SPAN_EMPTY);
  metrics_write(&r->conn->out, &look.in);
  control_look_done(r->control, &look);
}

static void on_drain(const struct admin_request *r) {
  unsigned conns = workers_conns(&r->control->workers);
  unsigned sessions = workers_udp_sessions(&r->control->workers);
  char what[64];
  struct buf left = buf_of(what, sizeof what);
  control_write_open(r->control, &left);
  control_drain(r->control, "weir drain");
  answer(r->conn, WEIR_OK, SPAN_EMPTY);
  if (r->json) {
    text_printf(&r->conn->out, "{\"ok\":true,\"connections\":%u,\"udp_sessions\":%u}\n", conns,
                sessions);
  } else {
    text_printf(&r->conn->out, "draining " SPAN_FMT "; weir ends when they have\n",
                SPAN_ARG(buf_span(&left)));
  }
}

static void on_ready(const struct admin_request *r) {
  bool ready = r->control->phase == PHASE_RUNNING;
  answer(r->conn, ready ? WEIR_OK : WEIR_FAILED, span_str(phase_name(r->control->phase)));
  text_lit(&r->conn->out, "\n");
}

/* on_file tells whose weir this is: the absolute path of its file, as it was named at the start;
 * of one without a file its name. The command line asks before it sends what was meant for a
 * file. */
static void on_file(const struct admin_request *r) {
  const struct control *c = r->control;
  answer(r->conn, WEIR_OK, span_str(c->file ? c->file : c->options->name));
}

/* The running routes are asked here and now: no lock but the one of a scrape, some ms at most. */
static void on_explain(const struct admin_request *r) {
  char bytes[ADMIN_LINE_MAX];
  struct buf room = buf_of(bytes, sizeof bytes);
  struct explain_ask ask = {.json = r->json};
  struct control_look look;
  struct text out = {.ptr = NULL};
  bool good = explain_unpack(r->words, &ask, &room);
  control_look(r->control, &look);
  if (!good) {
    text_lit(&out, "the question is too long");
  } else {
    good = explain_write(look.in.snapshot, &ask, &out);
  }
  control_look_done(r->control, &look);
  if (good) {
    answer(r->conn, WEIR_OK, text_span(&out));
  } else {
    text_put(&out, span_of("", 1)); /* NUL */
    refuse(r, WEIR_USAGE, out.ptr);
  }
  text_fini(&out);
}

static const struct {
  struct span name;
  void (*run)(const struct admin_request *r);
} commands[] = {
#define ADMIN(name) {SPAN_LIT(#name), on_##name},
#include "control/admin.def"
#undef ADMIN
};

static void run_line(struct control *c, struct server_conn *conn, struct span line) {
  struct admin_request request = {.control = c, .conn = conn};
  struct span name, word;
  if (!span_next_token(&line, ' ', &name)) {
    name = SPAN_EMPTY;
  }
  request.words = line;
  while (!span_starts(line, SPAN_LIT("/")) && span_next_token(&line, ' ', &word)) {
    request.json |= span_eq(word, SPAN_LIT("json"));
    request.color |= span_eq(word, SPAN_LIT("color"));
    request.defaults |= span_eq(word, SPAN_LIT("all"));
  }
  request.path = line; /* to its end: a path may hold spaces */
  for (size_t i = 0; i < array_count(commands); i++) {
    if (span_eq(commands[i].name, name)) {
      commands[i].run(&request);
      return;
    }
  }
  refuse(&request, WEIR_USAGE,
         "the running weir does not know this command: it is of another version");
}

static void on_input(struct server_conn *conn) {
  struct control *c = (struct control *)conn->server->config.ctx;
  struct span input = span_of(conn->in, conn->in_len);
  size_t end = span_find_char(input, '\n', 0);
  if (end == SIZE_MAX || end > ADMIN_LINE_MAX) {
    if (input.len > ADMIN_LINE_MAX) {
      answer(conn, WEIR_USAGE, SPAN_LIT("the line is too long\n"));
    }
    return;
  }
  char copy[ADMIN_LINE_MAX];
  memcpy(copy, conn->in, end);
  server_consume(conn, conn->in_len); /* one command per connection */
  run_line(c, conn, span_of(copy, end));
}

/* The file's mode says the same; this also holds where a directory was shared too widely. */
static bool on_accept(int fd) {
  struct ucred peer;
  socklen_t len = sizeof peer;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
         (peer.uid == 0 || peer.uid == geteuid());
}

void admin_start(struct control *c, int fd) {
  const struct server_config config = {.poller = &c->poller,
                                       .fd = fd,
                                       .conns_max = CONNS_MAX,
                                       .idle_ms = IDLE_MS,
                                       .on_input = on_input,
                                       .on_accept = on_accept,
                                       .ctx = c};
  server_start(&c->admin, &config);
  c->admin_on = true;
}

void admin_outcome(struct control *c, struct compiler_outcome *o) {
  struct server_conn *conn =
      c->admin_on ? server_find(&c->admin, o->asker.slot, o->asker.generation) : NULL;
  if (conn) {
    answer(conn, o->code, text_span(&o->text));
    server_resume(conn);
  }
}
