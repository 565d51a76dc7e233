/* server.c: accept, read, answer, close; bounded in connections, input and time.
 * Does not: know the protocol (admin.c, status.c). */
#include "control/server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "weir/base/mem.h"

static void touch(struct server_conn *c) {
  struct poller *p = c->server->config.poller;
  if (c->parked) {
    poller_stop(&c->deadline);
  } else {
    poller_set(p, &c->deadline, p->now_ms + c->server->config.idle_ms);
  }
}

static void spare_keep(struct server *s) {
  if (s->spare < 0) {
    s->spare = fcntl(s->config.fd, F_DUPFD_CLOEXEC, 3);
  }
}

static void conn_shut(struct server_conn *c) {
  struct server *s = c->server;
  poller_remove(s->config.poller, &c->watch);
  poller_stop(&c->deadline);
  close(c->watch.fd);
  spare_keep(s);
  mem_free(c->in);
  c->in = NULL;
  text_fini(&c->out);
  c->generation++;
  s->open--;
  s->listen.events = POLLIN;
}

static void on_deadline(struct poll_timer *timer) {
  conn_shut(container_of(timer, struct server_conn, deadline));
}

/* flush sends what it can; false when the connection is gone. */
static bool flush(struct server_conn *c) {
  while (c->sent < c->out.len) {
    ssize_t n = send(c->watch.fd, c->out.ptr + c->sent, c->out.len - c->sent,
                     MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0 && errno == EAGAIN) {
      c->watch.events = POLLOUT;
      return true;
    }
    if (n <= 0) {
      conn_shut(c);
      return false;
    }
    c->sent += (size_t)n;
  }
  c->sent = 0;
  text_fini(&c->out);
  if (c->close_after) {
    conn_shut(c);
    return false;
  }
  c->watch.events = c->parked ? 0 : POLLIN;
  return true;
}

/* serve handles what is in the buffer: several requests may be, one answer is sent at a time. Each
 * round consumes input or ends. */
static void serve(struct server_conn *c) {
  for (;;) {
    size_t before = c->in_len;
    c->server->config.on_input(c);
    touch(c);
    if (!flush(c)) {
      return;
    }
    if (c->out.len || c->parked || c->in_len == 0 || c->in_len == before) {
      return;
    }
  }
}

/* got_input reads once; false when nothing can come any more. */
static bool got_input(struct server_conn *c) {
  ssize_t n = recv(c->watch.fd, c->in + c->in_len, SERVER_IN_MAX - c->in_len, MSG_DONTWAIT);
  if (n < 0) {
    return errno == EAGAIN || errno == EINTR;
  }
  c->in_len += (size_t)n;
  return n > 0;
}

static void on_conn(struct poll_watch *watch, short revents) {
  struct server_conn *c = container_of(watch, struct server_conn, watch);
  if (c->out.len) {
    if ((revents & (POLLERR | POLLHUP)) && !(revents & POLLOUT)) {
      conn_shut(c);
      return;
    }
    touch(c);
    if (flush(c) && !c->out.len && c->in_len) {
      serve(c);
    }
    return;
  }
  if (c->parked) {
    conn_shut(c); /* error or hang-up: nobody waits for the outcome any more */
    return;
  }
  size_t before = c->in_len;
  if (c->in_len == SERVER_IN_MAX || !got_input(c)) {
    conn_shut(c);
    return;
  }
  if (c->in_len > before) {
    serve(c);
  }
}

static struct server_conn *slot_free(struct server *s) {
  for (uint32_t i = 0; i < s->config.conns_max; i++) {
    if (s->conns[i].generation % 2 == 0) {
      return &s->conns[i];
    }
  }
  return NULL;
}

/* slot_evict makes room by closing the connection that has been silent for longest, for this long
 * at least, and is owed nothing: idle peers must not lock a probe out. */
static struct server_conn *slot_evict(struct server *s, uint32_t silent_ms) {
  struct server_conn *oldest = NULL;
  for (uint32_t i = 0; i < s->config.conns_max; i++) {
    struct server_conn *c = &s->conns[i];
    bool owed = c->generation % 2 == 0 || c->out.len || c->parked;
    if (!owed && (!oldest || c->deadline.due_ms < oldest->deadline.due_ms)) {
      oldest = c;
    }
  }
  if (!oldest ||
      oldest->deadline.due_ms + silent_ms > s->config.poller->now_ms + s->config.idle_ms) {
    return NULL;
  }
  conn_shut(oldest);
  return oldest;
}

static void conn_open(struct server *s, struct server_conn *c, int fd) {
  uint32_t generation = c->generation + 1;
  *c = (struct server_conn){.watch = {.fd = fd, .events = POLLIN, .ready = on_conn},
                            .server = s,
                            .slot = (uint32_t)(c - s->conns),
                            .generation = generation,
                            .in = (char *)mem_alloc(SERVER_IN_MAX)};
  poll_timer_init(&c->deadline, on_deadline);
  s->open++;
  if (!poller_add(s->config.poller, &c->watch)) {
    conn_shut(c);
    return;
  }
  touch(c);
}

static void on_retry(struct poll_timer *timer) {
  struct server *s = container_of(timer, struct server, retry);
  spare_keep(s);
  s->listen.events = POLLIN;
}

/* accept_one takes the next connection, with the spare descriptor if need be, or that of a silent
 * peer; -1: none, or none now. Each round uses up a descriptor or returns. */
static int accept_one(struct server *s) {
  for (;;) {
    int fd = accept4(s->config.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    bool short_of = fd < 0 && (errno == EMFILE || errno == ENFILE);
    if (short_of && (s->spare >= 0 || slot_evict(s, SERVER_SILENT_MS)) && s->spare >= 0) {
      close(s->spare);
      s->spare = -1;
      continue;
    }
    if (short_of) {
      s->listen.events = 0; /* it would be ready all the time */
      poller_set(s->config.poller, &s->retry, s->config.poller->now_ms + SERVER_RETRY_MS);
    }
    return fd;
  }
}

static void on_listen(struct poll_watch *watch, short revents) {
  (void)revents;
  struct server *s = container_of(watch, struct server, listen);
  struct server_conn *c = slot_free(s);
  if (!c) {
    c = slot_evict(s, 0);
  }
  if (!c) {
    s->listen.events = 0; /* until one closes; the kernel's queue holds the rest */
    return;
  }
  int fd = accept_one(s);
  if (fd < 0) {
    return;
  }
  if (s->config.on_accept && !s->config.on_accept(fd)) {
    close(fd);
    return;
  }
  conn_open(s, c, fd);
}

void server_start(struct server *s, const struct server_config *config) {
  *s = (struct server){.config = *config,
                       .listen = {.fd = config->fd, .events = POLLIN, .ready = on_listen},
                       .spare = -1};
  poll_timer_init(&s->retry, on_retry);
  spare_keep(s);
  s->conns = (struct server_conn *)mem_array(config->conns_max, sizeof *s->conns);
  check(poller_add(config->poller, &s->listen));
}

void server_stop(struct server *s) {
  for (uint32_t i = 0; i < s->config.conns_max; i++) {
    if (s->conns[i].generation % 2) {
      conn_shut(&s->conns[i]);
    }
  }
  poller_remove(s->config.poller, &s->listen);
  poller_stop(&s->retry);
  close(s->config.fd);
  if (s->spare >= 0) {
    close(s->spare);
  }
  mem_free(s->conns);
  s->conns = NULL;
}

bool server_busy(const struct server *s) {
  for (uint32_t i = 0; s->conns && i < s->config.conns_max; i++) {
    if (s->conns[i].generation % 2 && (s->conns[i].out.len || s->conns[i].parked)) {
      return true;
    }
  }
  return false;
}

void server_consume(struct server_conn *c, size_t len) {
  check(len <= c->in_len);
  memmove(c->in, c->in + len, c->in_len - len);
  c->in_len -= len;
}

struct server_conn *server_find(struct server *s, uint32_t slot, uint32_t generation) {
  check(slot < s->config.conns_max);
  struct server_conn *c = &s->conns[slot];
  return c->generation == generation && generation % 2 ? c : NULL;
}

void server_resume(struct server_conn *c) {
  c->parked = false;
  touch(c);
  (void)flush(c);
}
