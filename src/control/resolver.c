/* resolver.c: DNS and hosts file through c-ares, driven by poll(2) on the control thread. Does
 * not: block (but for the small files that c-ares reads: hosts, resolv.conf), parse DNS, decide
 * what a missing name means. Called by control.c, compiler.c and publish.c. */
#include "control/resolver_priv.h"

#include <ares.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "weir/base/mem.h"

#define FDS_MAX 16u
#define QUERY_TIMEOUT_MS 1000
#define QUERY_TRIES 3

enum name_state {
  NAME_NEW,     /* to be asked */
  NAME_ASKING,  /* c-ares holds a pointer to it: it may not be freed */
  NAME_KNOWN,
  NAME_UNKNOWN, /* asked again at retry_ms */
};

struct name {
  struct list link;
  struct resolver *resolver;
  char *host;
  enum name_state state;
  bool wanted;  /* since the last mark, or before any */
  bool dropped; /* by a sweep, while c-ares still held it */
  bool answered; /* once at least */
  uint32_t addr_count;
  struct addr *addrs; /* port 0, sorted */
  uint64_t retry_ms;
  uint32_t backoff_ms;
};

struct resolver_fd {
  struct poll_watch watch;
  struct resolver *resolver;
};

struct resolver {
  struct resolver_config config;
  pthread_mutex_t lock; /* names, waiters, counts */
  pthread_cond_t answered;
  struct list names;
  uint32_t waiters;
  struct resolver_counts counts;
  /* Control thread only. */
  ares_channel channel; /* NULL until there is a name: a config without names costs nothing */
  struct resolver_fd fds[FDS_MAX];
  struct poll_timer timer; /* the next of: c-ares timeout, retry */
};

static struct name *name_of(struct list *l) { return container_of(l, struct name, link); }

static struct name *find(struct resolver *r, struct span host) {
  for (struct list *l = r->names.next; l != &r->names; l = l->next) {
    if (!name_of(l)->dropped && span_eq_nocase(span_str(name_of(l)->host), host)) {
      return name_of(l);
    }
  }
  return NULL;
}

static void name_free(struct name *n) {
  list_remove(&n->link);
  mem_free(n->host);
  mem_free(n->addrs);
  mem_free(n);
}

/* ---- c-ares on the poller ---- */

static void rearm(struct resolver *r);

static void on_fd(struct poll_watch *watch, short revents) {
  struct resolver_fd *f = container_of(watch, struct resolver_fd, watch);
  struct resolver *r = f->resolver;
  bool in = revents & (POLLIN | POLLERR | POLLHUP);
  ares_process_fd(r->channel, in ? watch->fd : ARES_SOCKET_BAD,
                  revents & POLLOUT ? watch->fd : ARES_SOCKET_BAD);
  rearm(r);
}

/* c-ares opens, uses and closes descriptors; this tells which to watch. */
static void on_socket(void *arg, ares_socket_t fd, int readable, int writable) {
  struct resolver *r = (struct resolver *)arg;
  struct resolver_fd *f = NULL;
  for (uint32_t i = 0; i < FDS_MAX; i++) {
    if (r->fds[i].watch.place && r->fds[i].watch.fd == fd) {
      f = &r->fds[i];
      break;
    }
    if (!f && !r->fds[i].watch.place) {
      f = &r->fds[i];
    }
  }
  if (!f) {
    return; /* more sockets than we watch: that query runs into its timeout */
  }
  poller_remove(r->config.poller, &f->watch);
  if (readable || writable) {
    f->resolver = r;
    f->watch = (struct poll_watch){
        .fd = fd,
        .events = (short)((readable ? POLLIN : 0) | (writable ? POLLOUT : 0)),
        .ready = on_fd};
    (void)poller_add(r->config.poller, &f->watch);
  }
}

static bool channel_open(struct resolver *r) {
  if (r->channel) {
    return true;
  }
  struct ares_options options = {.timeout = QUERY_TIMEOUT_MS,
                                 .tries = QUERY_TRIES,
                                 .lookups = (char[]){"fb"}, /* hosts file, then DNS */
                                 .sock_state_cb = on_socket,
                                 .sock_state_cb_data = r};
  int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
  if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
    return false;
  }
  if (ares_init_options(&r->channel, &options, mask) != ARES_SUCCESS) {
    r->channel = NULL;
    ares_library_cleanup();
    return false;
  }
  if (r->config.servers) {
    check(ares_set_servers_ports_csv(r->channel, r->config.servers) == ARES_SUCCESS);
  }
  return true;
}

/* ---- answers ---- */

static int compare(const void *a, const void *b) {
  const struct addr *x = (const struct addr *)a, *y = (const struct addr *)b;
  return x->sa.sa_family == AF_INET ? memcmp(&x->in4.sin_addr, &y->in4.sin_addr, 4)
                                    : memcmp(&x->in6.sin6_addr, &y->in6.sin6_addr, 16);
}

static uint32_t take_family(const struct ares_addrinfo *info, int family, struct addr *out) {
  uint32_t count = 0;
  for (const struct ares_addrinfo_node *n = info->nodes; n; n = n->ai_next) {
    if (n->ai_family != family || count == RESOLVER_ADDRS_MAX) {
      continue;
    }
    addr_from_sockaddr(n->ai_addr, (socklen_t)n->ai_addrlen, &out[count]);
    bool seen = false;
    for (uint32_t i = 0; i < count && !seen; i++) {
      seen = compare(&out[i], &out[count]) == 0;
    }
    count += seen ? 0 : 1;
  }
  qsort(out, count, sizeof *out, compare);
  return count;
}

static void name_known(struct name *n, const struct addr *addrs, uint32_t count) {
  mem_free(n->addrs);
  n->addrs = (struct addr *)mem_array(count, sizeof *addrs);
  memcpy(n->addrs, addrs, count * sizeof *addrs);
  n->addr_count = count;
  n->state = NAME_KNOWN;
}

static void name_unknown(struct name *n, uint64_t now_ms) {
  n->state = NAME_UNKNOWN;
  n->backoff_ms = n->backoff_ms == 0 ? RESOLVER_BACKOFF_MIN_MS : 2 * n->backoff_ms;
  if (n->backoff_ms > RESOLVER_BACKOFF_MAX_MS) {
    n->backoff_ms = RESOLVER_BACKOFF_MAX_MS;
  }
  n->retry_ms = now_ms + n->backoff_ms;
}

/* An answer; c-ares lets go of the name with it, whatever it says. */
static void on_answer(void *arg, int status, int timeouts, struct ares_addrinfo *info) {
  (void)timeouts;
  struct name *n = (struct name *)arg;
  struct resolver *r = n->resolver;
  struct addr addrs[RESOLVER_ADDRS_MAX];
  uint32_t count = 0;
  if (status == ARES_SUCCESS && info) {
    count = take_family(info, AF_INET, addrs);
    count = count ? count : take_family(info, AF_INET6, addrs);
  }
  if (info) {
    ares_freeaddrinfo(info);
  }
  pthread_mutex_lock(&r->lock);
  bool tell = count && !n->dropped && r->waiters == 0;
  r->counts.failures += count ? 0 : 1;
  n->answered = true;
  if (n->dropped) {
    name_free(n);
  } else if (count) {
    name_known(n, addrs, count);
  } else {
    name_unknown(n, clock_ms());
  }
  pthread_cond_broadcast(&r->answered);
  pthread_mutex_unlock(&r->lock);
  if (tell) {
    r->config.changed(r->config.ctx);
  }
}

/* ---- asking (control thread) ---- */

static void ask(struct resolver *r, struct name *n) {
  const struct ares_addrinfo_hints hints = {
      .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
  if (!channel_open(r)) {
    on_answer(n, ARES_EFILE, 0, NULL);
    return;
  }
  ares_getaddrinfo(r->channel, n->host, NULL, &hints, on_answer, n);
}

/* next_to_ask takes one name that is due and marks it; the lock is not held while c-ares runs, for
 * it may answer at once. */
static struct name *next_to_ask(struct resolver *r, uint64_t now_ms) {
  struct name *found = NULL;
  pthread_mutex_lock(&r->lock);
  for (struct list *l = r->names.next; l != &r->names && !found; l = l->next) {
    struct name *n = name_of(l);
    bool due = n->state == NAME_NEW || (n->state == NAME_UNKNOWN && n->retry_ms <= now_ms);
    found = due && !n->dropped ? n : NULL;
  }
  if (found) {
    found->state = NAME_ASKING;
    r->counts.queries++;
  }
  pthread_mutex_unlock(&r->lock);
  return found;
}

static uint64_t next_retry(struct resolver *r) {
  uint64_t next = UINT64_MAX;
  pthread_mutex_lock(&r->lock);
  for (struct list *l = r->names.next; l != &r->names; l = l->next) {
    struct name *n = name_of(l);
    if (n->state == NAME_UNKNOWN && n->retry_ms < next) {
      next = n->retry_ms;
    }
  }
  pthread_mutex_unlock(&r->lock);
  return next;
}

static void rearm(struct resolver *r) {
  uint64_t due = next_retry(r);
  struct timeval tv;
  if (r->channel && ares_timeout(r->channel, NULL, &tv)) {
    uint64_t in_ms = (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1;
    uint64_t at = clock_ms() + in_ms;
    due = at < due ? at : due;
  }
  if (due == UINT64_MAX) {
    poller_stop(&r->timer);
  } else {
    poller_set(r->config.poller, &r->timer, due);
  }
}

void resolver_pump(struct resolver *r) {
  struct name *n;
  uint64_t now_ms = clock_ms();
  /* Ends: each name becomes ASKING, and comes back due only later. */
  while ((n = next_to_ask(r, now_ms)) != NULL) {
    ask(r, n);
  }
  rearm(r);
}

static void on_timer(struct poll_timer *timer) {
  struct resolver *r = container_of(timer, struct resolver, timer);
  if (r->channel) {
    ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
  }
  resolver_pump(r);
}

/* ---- any thread ---- */

void resolver_want(struct resolver *r, struct span host) {
  pthread_mutex_lock(&r->lock);
  struct name *n = find(r, host);
  bool is_new = n == NULL;
  if (is_new) {
    n = (struct name *)mem_alloc(sizeof *n);
    n->resolver = r;
    n->host = mem_str(host);
    list_push_tail(&r->names, &n->link);
  }
  n->wanted = true;
  pthread_mutex_unlock(&r->lock);
  if (is_new) {
    r->config.wake(r->config.ctx);
  }
}

static bool all_answered(struct resolver *r) {
  for (struct list *l = r->names.next; l != &r->names; l = l->next) {
    if (!name_of(l)->answered && !name_of(l)->dropped) {
      return false;
    }
  }
  return true;
}

void resolver_hold(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  r->waiters++;
  pthread_mutex_unlock(&r->lock);
}

void resolver_wait(struct resolver *r, uint32_t wait_ms) {
  struct timespec until;
  check(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
  until.tv_sec += wait_ms / 1000;
  until.tv_nsec += (long)(wait_ms % 1000) * 1000000;
  if (until.tv_nsec >= 1000000000) {
    until.tv_nsec -= 1000000000;
    until.tv_sec++;
  }
  pthread_mutex_lock(&r->lock);
  while (!all_answered(r) && pthread_cond_timedwait(&r->answered, &r->lock, &until) == 0) {
  }
  r->waiters--;
  pthread_mutex_unlock(&r->lock);
}

static void set_port(struct addr *a, uint16_t port) {
  if (a->sa.sa_family == AF_INET) {
    a->in4.sin_port = htons(port);
  } else {
    a->in6.sin6_port = htons(port);
  }
}

uint32_t resolver_get(struct resolver *r, struct span host, uint16_t port, struct addr *out,
                      uint32_t cap) {
  uint32_t count = 0;
  pthread_mutex_lock(&r->lock);
  const struct name *n = find(r, host);
  if (n && n->addr_count) {
    for (; count < n->addr_count && count < cap; count++) {
      out[count] = n->addrs[count];
      set_port(&out[count], port);
    }
  }
  pthread_mutex_unlock(&r->lock);
  return count;
}

void resolver_mark(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  for (struct list *l = r->names.next; l != &r->names; l = l->next) {
    name_of(l)->wanted = false;
  }
  pthread_mutex_unlock(&r->lock);
}

void resolver_sweep(struct resolver *r) {
  pthread_mutex_lock(&r->lock);
  for (struct list *l = r->names.next; l != &r->names;) {
    struct name *n = name_of(l);
    l = l->next;
    if (n->wanted) {
      continue;
    }
    if (n->state == NAME_ASKING) {
      n->dropped = true;
    } else {
      name_free(n);
    }
  }
  pthread_mutex_unlock(&r->lock);
}

void resolver_counts_get(struct resolver *r, struct resolver_counts *out) {
  pthread_mutex_lock(&r->lock);
  *out = r->counts;
  for (struct list *l = r->names.next; l != &r->names; l = l->next) {
    out->names += 1;
    out->unresolved += name_of(l)->addr_count == 0 ? 1 : 0;
  }
  pthread_mutex_unlock(&r->lock);
}

struct resolver *resolver_new(const struct resolver_config *config) {
  struct resolver *r = (struct resolver *)mem_alloc(sizeof *r);
  r->config = *config;
  list_init(&r->names);
  pthread_mutex_init(&r->lock, NULL);
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&r->answered, &attr);
  pthread_condattr_destroy(&attr);
  poll_timer_init(&r->timer, on_timer);
  return r;
}

void resolver_free(struct resolver *r) {
  if (r->channel) {
    ares_destroy(r->channel); /* answers every open query with ARES_EDESTRUCTION */
    ares_library_cleanup();
  }
  poller_stop(&r->timer);
  while (!list_empty(&r->names)) {
    name_free(name_of(r->names.next));
  }
  pthread_cond_destroy(&r->answered);
  pthread_mutex_destroy(&r->lock);
  mem_free(r);
}
