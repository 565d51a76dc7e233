/* dns.c: questions through c-ares, on the control thread: a channel for each set of servers, their
 * sockets behind one epoll descriptor, its clock on a timer. c-ares sends, matches ids, tries
 * again and goes over to TCP; replies are read by dns_addrs.c and dns_srv.c. Does not: block (but
 * for the small files that c-ares reads: resolv.conf), decide when to ask or what an answer means
 * (resolver_round.c). */
#include <ares.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/dns_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

#define EVENTS 64
#define RESOLV_CONF "/etc/resolv.conf"
#define HOSTS_FILE "/etc/hosts"

/* file_id tells whether a file is still the same. */
struct file_id {
  dev_t dev;
  ino_t ino;
  off_t size;
  struct timespec changed;
};

struct dns_channel {
  struct list link;
  struct dns *dns;
  uint32_t id, refs, under_way;
  ares_channel ares; /* NULL: not open */
  char *servers;     /* as in name_query; empty: the system's */
  uint32_t timeout_ms, attempts;
  bool dead, heard;     /* heard: any message since it was opened */
  uint64_t silent_name; /* hash of the last that timed out since one was heard; 0: none */
  uint8_t rcode;        /* of the last message that came; 0 after anything else */
  /* Of the system's channel: */
  struct file_id resolv_conf;
  struct dns_search search;
};

struct dns {
  struct dns_config config;
  struct list channels;
  uint32_t next_id;
  struct hosts hosts;
  struct poll_watch watch; /* epoll; fd -1 until the first channel */
  struct poll_timer timer; /* of c-ares: tries that time out */
};

static struct dns_channel *channel_of(struct list *l) {
  return container_of(l, struct dns_channel, link);
}

/* ---- sockets and time ---- */

void dns_rearm(struct dns *d) {
  uint64_t due = UINT64_MAX;
  for (struct list *l = d->channels.next; l != &d->channels; l = l->next) {
    struct timeval tv;
    struct dns_channel *c = channel_of(l);
    if (c->ares && ares_timeout(c->ares, NULL, &tv)) {
      uint64_t in_ms = (uint64_t)tv.tv_sec * 1000 + (uint64_t)tv.tv_usec / 1000 + 1;
      uint64_t at = clock_ms() + in_ms;
      due = at < due ? at : due;
    }
  }
  if (due == UINT64_MAX) {
    poller_stop(&d->timer);
  } else {
    poller_set(d->config.poller, &d->timer, due);
  }
}

static void on_timer(struct poll_timer *timer) {
  struct dns *d = container_of(timer, struct dns, timer);
  for (struct list *l = d->channels.next; l != &d->channels; l = l->next) {
    if (channel_of(l)->ares) {
      ares_process_fd(channel_of(l)->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
  }
  d->config.after(d->config.ctx);
}

static struct dns_channel *channel_find(struct dns *d, uint32_t id) {
  for (struct list *l = d->channels.next; l != &d->channels; l = l->next) {
    if (channel_of(l)->id == id) {
      return channel_of(l);
    }
  }
  return NULL;
}

/* A descriptor that c-ares closed since the wait is none of its own any more: it does nothing. */
static void on_ready(struct poll_watch *watch, short revents) {
  struct dns *d = container_of(watch, struct dns, watch);
  struct epoll_event events[EVENTS];
  (void)revents;
  int count = epoll_wait(watch->fd, events, EVENTS, 0);
  for (int i = 0; i < count; i++) {
    struct dns_channel *c = channel_find(d, (uint32_t)(events[i].data.u64 >> 32));
    int fd = (int)(uint32_t)events[i].data.u64;
    if (c && c->ares) {
      bool in = events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP);
      ares_process_fd(c->ares, in ? fd : ARES_SOCKET_BAD,
                      events[i].events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
    }
  }
  d->config.after(d->config.ctx);
}

/* c-ares opens, uses and closes descriptors; this tells which to watch. One that cannot be watched
 * runs into its timeout. */
static void on_socket(void *arg, ares_socket_t fd, int readable, int writable) {
  struct dns_channel *c = (struct dns_channel *)arg;
  int epoll = c->dns->watch.fd;
  struct epoll_event event = {
      .data.u64 = (uint64_t)c->id << 32 | (uint32_t)fd,
      .events = (readable ? (uint32_t)EPOLLIN : 0) | (writable ? (uint32_t)EPOLLOUT : 0)};
  if (!event.events) {
    (void)epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
  } else if (epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &event) < 0) {
    (void)epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

/* ---- channels ---- */

static void search_free(struct dns_channel *c) {
  for (uint32_t i = 0; i < c->search.count; i++) {
    mem_free(c->search.domains[i]);
  }
  mem_free(c->search.domains);
  c->search = (struct dns_search){.count = 0};
}

static void channel_close(struct dns_channel *c) {
  if (c->ares) {
    ares_destroy(c->ares);
    ares_library_cleanup();
    c->ares = NULL;
  }
  search_free(c);
}

static struct file_id file_now(const char *path) {
  struct stat st;
  if (stat(path, &st) < 0) {
    return (struct file_id){.dev = 0};
  }
  return (struct file_id){st.st_dev, st.st_ino, st.st_size, st.st_mtim};
}

static bool file_same(const struct file_id *a, const struct file_id *b) {
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
         a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

/* take_search keeps the search list that c-ares found; names for own servers stand as they are. */
static void take_search(struct dns_channel *c) {
  struct ares_options found = {.flags = 0};
  int mask = 0;
  if (ares_save_options(c->ares, &found, &mask) == ARES_SUCCESS) {
    uint32_t count = found.ndomains > 0 ? (uint32_t)found.ndomains : 0;
    struct dns_search *s = &c->search;
    s->domains = (char **)mem_array(count, sizeof *s->domains);
    for (; s->count < count; s->count++) {
      s->domains[s->count] = mem_str(span_str(found.domains[s->count]));
    }
    s->ndots = found.ndots > 0 ? (uint32_t)found.ndots : 0;
  }
  ares_destroy_options(&found);
}

static bool server_node(struct span text, struct ares_addr_port_node *node) {
  struct addr a;
  if (!addr_parse(text, &a)) {
    return false;
  }
  node->family = a.sa.sa_family;
  if (node->family == AF_INET) {
    node->addr.addr4 = a.in4.sin_addr;
  } else {
    memcpy(&node->addr.addr6, &a.in6.sin6_addr, sizeof a.in6.sin6_addr);
  }
  node->udp_port = node->tcp_port = addr_port(&a);
  return true;
}

static bool take_servers(struct dns_channel *c) {
  struct ares_addr_port_node nodes[NAME_SERVERS_MAX] = {{.next = NULL}};
  struct span rest = span_str(c->servers), one;
  uint32_t count = 0;
  while (count < NAME_SERVERS_MAX && span_next_token(&rest, ',', &one)) {
    if (!server_node(one, &nodes[count])) {
      return false;
    }
    if (count) {
      nodes[count - 1].next = &nodes[count];
    }
    count++;
  }
  return ares_set_servers_ports(c->ares, nodes) == ARES_SUCCESS;
}

static bool channel_open(struct dns_channel *c) {
  struct ares_options options = {.timeout = (int)c->timeout_ms,
                                 .tries = (int)c->attempts,
                                 .lookups = (char[]){"b"},
                                 .sock_state_cb = on_socket,
                                 .sock_state_cb_data = c};
  int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
  if (ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
    return false;
  }
  c->resolv_conf = file_now(RESOLV_CONF);
  if (ares_init_options(&c->ares, &options, mask) != ARES_SUCCESS) {
    c->ares = NULL;
    ares_library_cleanup();
    return false;
  }
  dns_sockets(c->ares, &c->rcode);
  if (c->servers[0] ? take_servers(c) : (take_search(c), true)) {
    return true;
  }
  channel_close(c);
  return false;
}

static bool epoll_open(struct dns *d) {
  if (d->watch.fd < 0) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    d->watch = (struct poll_watch){.fd = fd, .events = POLLIN, .ready = on_ready};
    if (fd >= 0 && !poller_add(d->config.poller, &d->watch)) {
      close(fd);
      d->watch.fd = -1;
    }
  }
  return d->watch.fd >= 0;
}

static bool serves(const struct dns_channel *c, const struct name_query *q) {
  return span_eq(span_str(c->servers), q->servers) && c->timeout_ms == q->timeout_ms &&
         c->attempts == q->attempts;
}

static struct dns_channel *channel_new(struct dns *d, const struct name_query *q) {
  struct dns_channel *c = (struct dns_channel *)mem_alloc(sizeof *c);
  c->dns = d;
  c->id = ++d->next_id;
  c->servers = mem_str(q->servers);
  c->timeout_ms = q->timeout_ms;
  c->attempts = q->attempts;
  list_push_tail(&d->channels, &c->link);
  return c;
}

bool dns_channel_ready(struct dns_channel *c) {
  if (c->ares && !c->servers[0]) {
    struct file_id now = file_now(RESOLV_CONF);
    if (!file_same(&now, &c->resolv_conf)) {
      ares_cancel(c->ares); /* what is under way asks the servers of yesterday */
      channel_close(c);
      c->dead = c->heard = false;
      c->silent_name = 0;
    }
  }
  return epoll_open(c->dns) && (c->ares || channel_open(c));
}

struct dns_channel *dns_channel_get(struct dns *d, const struct name_query *q) {
  struct dns_channel *c = NULL;
  for (struct list *l = d->channels.next; l != &d->channels && !c; l = l->next) {
    c = serves(channel_of(l), q) ? channel_of(l) : NULL;
  }
  c = c ? c : channel_new(d, q);
  c->refs++;
  return c;
}

void dns_channel_put(struct dns_channel *c) {
  check(c->refs > 0);
  if (--c->refs) {
    return;
  }
  check(c->under_way == 0);
  channel_close(c);
  list_remove(&c->link);
  mem_free(c->servers);
  mem_free(c);
}

bool dns_channel_dead(const struct dns_channel *c) { return c->dead; }

const struct hosts *dns_hosts(struct dns_channel *c) {
  (void)hosts_look(&c->dns->hosts, HOSTS_FILE);
  return &c->dns->hosts;
}

bool dns_candidate(const struct dns_channel *c, struct span name, uint32_t i,
                   char out[DNS_NAME_SIZE]) {
  return dns_search_name(&c->search, name, i, out);
}

/* ---- questions ---- */

/* refusal is what lies behind "connection refused": c-ares passes no SERVFAIL, NOTIMP or REFUSED
 * on but tries the next server, and the message that ended the last try came just now. */
static enum resolve_result refusal(const struct dns_channel *c) {
  switch (c->rcode) {
    case ns_r_servfail: return RESOLVE_SERVFAIL;
    case ns_r_notimpl:
    case ns_r_refused: return RESOLVE_REFUSED;
    default: return RESOLVE_UNREACHABLE;
  }
}

static enum resolve_result result_of(const struct dns_channel *c, int status) {
  switch (status) {
    case ARES_SUCCESS: return RESOLVE_OK;
    case ARES_ENOTFOUND: return RESOLVE_NXDOMAIN;
    case ARES_ENODATA: return RESOLVE_EMPTY;
    case ARES_ESERVFAIL: return RESOLVE_SERVFAIL;
    case ARES_EREFUSED:
    case ARES_ENOTIMP: return RESOLVE_REFUSED;
    case ARES_ETIMEOUT: return RESOLVE_TIMEOUT;
    case ARES_ECONNREFUSED: return refusal(c);
    case ARES_EBADRESP:
    case ARES_EFORMERR: return RESOLVE_BAD;
    default: return RESOLVE_LOCAL;
  }
}

/* note_health: one name whose questions are dropped is no dead server; two are. */
static void note_health(struct dns_channel *c, uint64_t name, enum resolve_result result) {
  if (result == RESOLVE_UNREACHABLE) {
    c->dead = true;
  } else if (result == RESOLVE_TIMEOUT) {
    c->dead = c->dead || !c->heard || (c->silent_name && c->silent_name != name);
    c->silent_name = name;
  } else if (result != RESOLVE_LOCAL) {
    c->dead = false;
    c->heard = true;
    c->silent_name = 0;
  }
}

static void on_reply(void *arg, int status, int timeouts, unsigned char *packet, int len) {
  struct dns_question *q = (struct dns_question *)arg;
  struct dns_channel *c = q->channel;
  (void)timeouts;
  enum resolve_result result = result_of(c, status);
  c->under_way--;
  q->cancelled = status == ARES_ECANCELLED;
  note_health(c, q->name, result);
  struct span bytes = packet && len > 0 ? span_of((const char *)packet, (size_t)len) : SPAN_EMPTY;
  q->done(q, result, bytes);
}

void dns_ask(struct dns_channel *c, struct dns_question *q, const char *name) {
  static const int types[] = {[DNS_A] = ns_t_a, [DNS_AAAA] = ns_t_aaaa, [DNS_SRV] = ns_t_srv};
  q->channel = c;
  q->name = hash_bytes(span_str(name));
  c->under_way++;
  if (!name[0] || !c->ares) {
    on_reply(q, ARES_EBADNAME, 0, NULL, 0);
    return;
  }
  ares_query(c->ares, name, ns_c_in, types[q->type], on_reply, q);
}

/* ---- life ---- */

struct dns *dns_new(const struct dns_config *config) {
  struct dns *d = (struct dns *)mem_alloc(sizeof *d);
  d->config = *config;
  d->watch.fd = -1;
  list_init(&d->channels);
  poll_timer_init(&d->timer, on_timer);
  return d;
}

void dns_close(struct dns *d) {
  for (struct list *l = d->channels.next; l != &d->channels; l = l->next) {
    channel_close(channel_of(l));
  }
  poller_stop(&d->timer);
}

void dns_free(struct dns *d) {
  check(list_empty(&d->channels));
  if (d->watch.fd >= 0) {
    poller_remove(d->config.poller, &d->watch);
    close(d->watch.fd);
  }
  poller_stop(&d->timer);
  hosts_fini(&d->hosts);
  mem_free(d);
}
