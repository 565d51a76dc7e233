/* binds.c: the listening descriptors of the configured listeners. Identity: listener name and bind
 * text (of UDP the text alone: sessions go on under another name); what stays is not touched. TCP:
 * one SO_REUSEPORT descriptor per worker. Unix sockets and inherited ones ("fd:name"): one socket,
 * a duplicate per worker. UDP as TCP, and apart from it.
 * Does not: accept (the workers own descriptors once posted). Called by publish.c. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/compiler_priv.h"
#include "control/inherit_priv.h"
#include "weir/base/addr.h"
#include "weir/base/mem.h"

static struct bind *find(struct compiler *c, struct span listener, struct span text,
                         bool datagrams) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    if (!b->leave_seq && b->datagrams == datagrams && span_eq(span_str(b->listener), listener) &&
        span_eq(span_str(b->text), text)) {
      return b;
    }
  }
  return NULL;
}

static void forget(struct compiler *c, uint32_t i) {
  struct bind *b = &c->binds.rows[i];
  object_unref(c->config.registry, &b->state->obj);
  mem_free(b->listener);
  mem_free(b->text);
  mem_free(b->fds);
  *b = c->binds.rows[--c->binds.count];
}

/* The probe bind would meet our own socket where a port moves between listeners or addresses; then
 * nobody else can be there unnoticed, for we hold the port. */
static bool port_is_ours(struct compiler *c, uint16_t port, bool datagrams) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct addr addr;
    if (c->binds.rows[i].datagrams == datagrams &&
        addr_parse(span_str(c->binds.rows[i].text), &addr) && addr.sa.sa_family != AF_UNIX &&
        addr_port(&addr) == port) {
      return true;
    }
  }
  return false;
}

/* share fills fds[1..] with duplicates of fds[0]. */
static int share(struct bind *b, uint32_t workers) {
  for (b->fd_count = 1; b->fd_count < workers; b->fd_count++) {
    int fd = fcntl(b->fds[0], F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
      return -errno;
    }
    b->fds[b->fd_count] = fd;
  }
  return 0;
}

static void close_fds(struct bind *b) {
  for (uint32_t i = 0; i < b->fd_count; i++) {
    close(b->fds[i]);
  }
  b->fd_count = 0;
}

static int open_inherited(struct bind *b, struct span name, uint32_t workers, struct buf *why) {
  int fd = inherit_get(name, why);
  if (fd < 0) {
    return fd;
  }
  b->fds[0] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (b->fds[0] < 0) {
    return -errno;
  }
  (void)fcntl(b->fds[0], F_SETFL, O_NONBLOCK);
  b->fd_count = 1;
  return share(b, workers);
}

static int open_bind(struct compiler *c, struct bind *b, struct buf *why) {
  uint32_t workers = c->config.workers->count;
  struct span text = span_str(b->text), host;
  uint16_t port = 0;
  enum addr_kind kind = addr_split(text, &host, &port);
  b->shared = kind == ADDR_FD;
  if (b->shared) {
    return open_inherited(b, host, workers, why);
  }
  struct loader_bind_conf conf = {.text = text, .count = 1};
  conf.flags = b->datagrams ? LOADER_DATAGRAM : LOADER_DEFER;
  if (kind != ADDR_UNIX) {
    conf.flags |= LOADER_REUSEPORT | (port_is_ours(c, port, b->datagrams) ? 0 : LOADER_PROBE);
    conf.count = workers;
  }
  int fds[LOADER_FDS_MAX];
  int err = loader_listen(c->config.loader, &conf, fds, &b->fd_count, &b->file, why);
  if (err < 0) {
    b->fd_count = 0;
    return err;
  }
  memcpy(b->fds, fds, b->fd_count * sizeof(int));
  return kind == ADDR_UNIX ? share(b, workers) : 0;
}

/* abandoned is the row of a UDP listener that is no longer there, where another one has its
 * address now: it takes the sockets over, and no datagram and no session is lost. New ones beside
 * them would be given a part of the old clients by the kernel. (No two listeners have one
 * address.) */
static struct bind *abandoned(struct compiler *c, struct span text) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    if (b->datagrams && !b->leave_seq && !b->keep && span_eq(span_str(b->text), text)) return b;
  }
  return NULL;
}

static bool stage_one(struct compiler *c, const struct listener *l, struct span text,
                      struct buf *why) {
  bool datagrams = l->serves == SERVES_UDP;
  struct bind *found = find(c, l->obj.name, text, datagrams);
  if (!found && datagrams) {
    found = abandoned(c, text);
    if (found) found->heir = l->state;
  }
  if (found) {
    found->keep = true;
    return true;
  }
  struct bind b = {.listener = mem_str(l->obj.name),
                   .text = mem_str(text),
                   .fds = (int *)mem_array(c->config.workers->count, sizeof(int)),
                   .state = l->state,
                   .datagrams = datagrams,
                   .fresh = true,
                   .keep = true};
  int err = open_bind(c, &b, why);
  object_ref(c->config.registry, &b.state->obj);
  c->binds.rows = (struct bind *)mem_grow(c->binds.rows, c->binds.count + 1, sizeof b);
  c->binds.rows[c->binds.count++] = b;
  if (err < 0 && !why->len) {
    buf_printf(why, "cannot listen on " SPAN_FMT ": %s", SPAN_ARG(text), strerrordesc_np(-err));
  }
  return err >= 0;
}

bool binds_stage(struct compiler *c, const struct snapshot *s, struct buf *why) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    c->binds.rows[i].keep = c->binds.rows[i].leave_seq != 0;
    c->binds.rows[i].fresh = false;
    c->binds.rows[i].heir = NULL;
  }
  for (uint32_t i = 0; i < s->listener_count; i++) {
    const struct listener *l = s->listeners[i].listener;
    for (uint32_t k = 0; k < l->bind_count; k++) {
      if (!stage_one(c, l, l->binds[k], why)) {
        buf_printf(why, " (listener " SPAN_FMT ")", SPAN_ARG(l->obj.name));
        binds_unstage(c);
        return false;
      }
    }
  }
  return true;
}

static void unlink_file(struct compiler *c, const struct bind *b) {
  struct span path;
  uint16_t port;
  if (addr_split(span_str(b->text), &path, &port) == ADDR_UNIX && b->file.ino) {
    char *name = mem_str(path);
    loader_unlink(c->config.loader, name, &b->file);
    mem_free(name);
  }
}

void binds_unstage(struct compiler *c) {
  for (uint32_t i = c->binds.count; i-- > 0;) {
    struct bind *b = &c->binds.rows[i];
    if (b->fresh) {
      close_fds(b);
      unlink_file(c, b);
      forget(c, i);
    }
  }
}

void binds_rename(struct compiler *c) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    if (!b->heir) continue;
    for (uint32_t w = 0; w < b->fd_count; w++) {
      const struct worker_msg msg = {.kind = WORKER_RENAME, .fd = b->fds[w], .state = b->heir};
      workers_post(c->config.workers, w, &msg);
    }
    object_ref(c->config.registry, &b->heir->obj);
    object_unref(c->config.registry, &b->state->obj);
    b->state = b->heir;
    b->heir = NULL;
    mem_free(b->listener);
    b->listener = mem_str(b->state->obj.name);
  }
}

void binds_listen(struct compiler *c) {
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    for (uint32_t w = 0; b->fresh && w < b->fd_count; w++) {
      const struct worker_msg msg = {.kind = WORKER_LISTEN,
                                     .fd = b->fds[w],
                                     .shared = b->shared,
                                     .datagrams = b->datagrams,
                                     .state = b->state};
      workers_post(c->config.workers, w, &msg);
    }
    b->fresh = false;
  }
}

/* The last message carries nothing: its number is there for each worker to acknowledge. */
static uint64_t fence(struct compiler *c) {
  const struct worker_msg nothing = {.kind = WORKER_FORGET, .id = UINT32_MAX};
  return workers_post_all(c->config.workers, &nothing);
}

void binds_unlisten(struct compiler *c) {
  bool any = false;
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    if (b->keep) {
      continue;
    }
    for (uint32_t w = 0; w < b->fd_count; w++) {
      const struct worker_msg msg = {.kind = WORKER_UNLISTEN, .fd = b->fds[w], .state = b->state};
      workers_post(c->config.workers, w, &msg);
    }
    b->leave_seq = UINT64_MAX;
    any = true;
  }
  uint64_t seq = any ? fence(c) : 0;
  for (uint32_t i = 0; i < c->binds.count; i++) {
    struct bind *b = &c->binds.rows[i];
    b->leave_seq = b->leave_seq == UINT64_MAX ? seq : b->leave_seq;
  }
}

/* drains: sessions of a UDP listener that was removed still hold its sockets, which port_is_ours
 * is to know of; but where the listener has the address again, the row of that tells it. */
static bool drains(struct compiler *c, const struct bind *b) {
  return b->datagrams && atomic_load(&b->state->sessions) > 0 &&
         !find(c, span_str(b->listener), span_str(b->text), true);
}

bool binds_collect(struct compiler *c) {
  bool all = true;
  for (uint32_t i = c->binds.count; i-- > 0;) {
    struct bind *b = &c->binds.rows[i];
    if (!b->leave_seq) {
      continue;
    }
    if (workers_acked(c->config.workers, b->leave_seq) && !drains(c, b)) {
      unlink_file(c, b);
      forget(c, i);
    } else {
      all = false;
    }
  }
  return all;
}

void binds_fini(struct compiler *c) {
  for (uint32_t i = c->binds.count; i-- > 0;) {
    unlink_file(c, &c->binds.rows[i]);
    forget(c, i);
  }
  mem_free(c->binds.rows);
}
