/* load.c: a load client that verifies every response. Keeps `connections` requests in flight, each
 * with a nonce of its own, and demands status 200 and a body of "<nonce> <server name>". Prints
 * one line of JSON at the end. Does no TLS, no pipelining; not a benchmark (bench/ has that). Run
 * by tests/e2e/harness/load.py, which compiles it. load PORT CONNECTIONS SECONDS PATH [close]
 * SECONDS 0: until SIGTERM A connection that the server closes between two requests is opened
 * again and is no failure. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BUF = 8192, SAMPLES = 8, NAMES = 16, DRAIN_S = 20 };

struct conn {
  int fd;
  bool busy, connecting, closing; /* closing: the response said Connection: close */
  uint64_t nonce;
  size_t len; /* response bytes so far */
  char buf[BUF];
};

struct tally {
  uint64_t ok, failed, opened, closed_idle;
  unsigned samples;
  char sample[SAMPLES][200];
  char name[NAMES][32];
  uint64_t by_name[NAMES];
};

struct load {
  int epoll;
  struct sockaddr_in to;
  const char *path;
  bool close_each, stopping;
  uint64_t next_nonce;
  unsigned busy;
  struct tally tally;
};

static volatile sig_atomic_t asked_to_stop;
static void on_term(int sig) {
  (void)sig;
  asked_to_stop = 1;
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(struct load *l, struct conn *c, const char *what) {
  struct tally *t = &l->tally;
  t->failed++;
  if (t->samples == SAMPLES) return;
  char *out = t->sample[t->samples++];
  snprintf(out, sizeof t->sample[0], "%s (%s) after %zu bytes: %.60s", what, strerror(errno),
           c->len, c->buf);
  for (char *p = out; *p; p++)
    if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e) *p = ' ';
}

static void conn_shut(struct load *l, struct conn *c) {
  if (c->busy) l->busy--;
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
  c->busy = c->connecting = c->closing = false;
}

static void conn_watch(struct load *l, struct conn *c, uint32_t events, int op) {
  struct epoll_event e = {.events = events, .data.ptr = c};
  if (epoll_ctl(l->epoll, op, c->fd, &e)) perror("epoll_ctl"), exit(1);
}

/* Requests are small: a send that does not take all is a failure of the test machine. */
static void conn_ask(struct load *l, struct conn *c) {
  char head[512];
  c->nonce = ++l->next_nonce * 0x9e3779b97f4a7c15u;
  int n = snprintf(head, sizeof head,
                   "GET %s HTTP/1.1\r\nHost: load.example\r\nX-Nonce: %016llx\r\n%s\r\n", l->path,
                   (unsigned long long)c->nonce, l->close_each ? "Connection: close\r\n" : "");
  c->len = 0;
  c->buf[0] = 0;
  c->busy = true;
  l->busy++;
  errno = 0;
  if (send(c->fd, head, (size_t)n, MSG_NOSIGNAL) != n) {
    /* The server may close an idle connection while we start to use it: nothing was answered, and
     * this client is one that would replay. weir's reloads must not cause it: counted apart. */
    fail(l, c, "send");
    conn_shut(l, c);
  }
}

static void conn_open(struct load *l, struct conn *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (c->fd < 0) perror("socket"), exit(1);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  l->tally.opened++;
  c->connecting = true;
  c->len = 0;
  c->buf[0] = 0;
  if (connect(c->fd, (struct sockaddr *)&l->to, sizeof l->to) && errno != EINPROGRESS) {
    fail(l, c, "connect");
    conn_shut(l, c);
    return;
  }
  conn_watch(l, c, EPOLLOUT, EPOLL_CTL_ADD);
}

/* Finds the value of a field in a head that ends at `end`; NULL when it is absent. */
static const char *field(const char *head, const char *end, const char *name) {
  size_t n = strlen(name);
  for (const char *p = strstr(head, "\r\n"); p && p + 2 < end; p = strstr(p + 2, "\r\n"))
    if (!strncasecmp(p + 2, name, n)) return p + 2 + n;
  return NULL;
}

static void count_name(struct tally *t, const char *name, size_t len) {
  for (unsigned i = 0; i < NAMES && len < sizeof t->name[0]; i++) {
    if (!t->name[i][0]) memcpy(t->name[i], name, len);
    if (strlen(t->name[i]) == len && !memcmp(t->name[i], name, len)) {
      t->by_name[i]++;
      return;
    }
  }
}

/* 1 when the response is complete and right, 0 when more must come, -1 when it is wrong. */
static int conn_check(struct load *l, struct conn *c, const char **why) {
  *why = "head";
  char *end = strstr(c->buf, "\r\n\r\n");
  if (!end) return c->len + 1 == BUF ? -1 : 0;
  *why = "status";
  if (strncmp(c->buf, "HTTP/1.1 200 ", 13)) return -1;
  *why = "content-length";
  const char *length = field(c->buf, end, "content-length:");
  if (!length) return -1;
  size_t body = strtoul(length, NULL, 10), have = c->len - (size_t)(end + 4 - c->buf);
  if (have < body) return 0;
  *why = "bytes after the body";
  if (have > body) return -1;
  char want[20];
  snprintf(want, sizeof want, "%016llx ", (unsigned long long)c->nonce);
  *why = "nonce";
  if (body < 17 || memcmp(end + 4, want, 17)) return -1;
  const char *connection = field(c->buf, end, "connection:");
  c->closing =
      connection && strcasestr(connection, "close") && strcasestr(connection, "close") < end;
  count_name(&l->tally, end + 4 + 17, body - 17);
  return 1;
}

static void conn_next(struct load *l, struct conn *c) {
  c->busy = false;
  l->busy--;
  if (c->closing || l->stopping) conn_shut(l, c);
  if (l->stopping) return;
  if (c->fd < 0) conn_open(l, c);
  else conn_ask(l, c);
}

static void conn_ended(struct load *l, struct conn *c) {
  if (c->busy) fail(l, c, "the connection ended before the response was complete");
  else l->tally.closed_idle++;
  conn_shut(l, c);
}

static void conn_read(struct load *l, struct conn *c) {
  errno = 0;
  ssize_t n = recv(c->fd, c->buf + c->len, BUF - 1 - c->len, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    conn_ended(l, c);
    return;
  }
  c->len += (size_t)n;
  c->buf[c->len] = 0;
  const char *why = "bytes that nobody asked for";
  int state = c->busy ? conn_check(l, c, &why) : -1;
  if (state > 0) {
    l->tally.ok++;
    conn_next(l, c);
  } else if (state < 0) {
    fail(l, c, why);
    conn_shut(l, c);
  }
}

static void conn_event(struct load *l, struct conn *c, uint32_t events) {
  if (c->fd < 0) return;
  if (!c->connecting) {
    conn_read(l, c);
    return;
  }
  socklen_t size = sizeof errno;
  int error = 0;
  getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
  if (error || (events & EPOLLERR)) {
    errno = error;
    fail(l, c, "connect");
    conn_shut(l, c);
    return;
  }
  c->connecting = false;
  conn_watch(l, c, EPOLLIN | EPOLLRDHUP, EPOLL_CTL_MOD);
  conn_ask(l, c);
}

static void report(const struct load *l) {
  const struct tally *t = &l->tally;
  printf(
      "{\"ok\": %llu, \"failed\": %llu, \"opened\": %llu, \"closed_idle\": %llu, \"unfinished\": "
      "%u",
      (unsigned long long)t->ok, (unsigned long long)t->failed, (unsigned long long)t->opened,
      (unsigned long long)t->closed_idle, l->busy);
  printf(", \"names\": {");
  for (unsigned i = 0; i < NAMES && t->name[i][0]; i++)
    printf("%s\"%s\": %llu", i ? ", " : "", t->name[i], (unsigned long long)t->by_name[i]);
  printf("}, \"failures\": [");
  for (unsigned i = 0; i < t->samples; i++) printf("%s\"%s\"", i ? ", " : "", t->sample[i]);
  printf("]}\n");
}

static void load_run(struct load *l, struct conn *conns, unsigned count, double seconds) {
  struct epoll_event events[256];
  double end = seconds > 0 ? now_s() + seconds : 1e18, last = 0;
  for (;;) {
    double now = now_s();
    if (!l->stopping && (now > end || asked_to_stop)) {
      l->stopping = true;
      last = now + DRAIN_S;
    }
    if (l->stopping && (!l->busy || now > last)) return;
    /* Those that were closed or failed come back, a few per turn. */
    for (unsigned i = 0; i < count && !l->stopping; i++)
      if (conns[i].fd < 0) conn_open(l, &conns[i]);
    int n = epoll_wait(l->epoll, events, 256, 50);
    for (int i = 0; i < n; i++) conn_event(l, events[i].data.ptr, events[i].events);
  }
}

int main(int argc, char **argv) {
  if (argc < 5) {
    fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS PATH [close]\n");
    return 2;
  }
  struct load l = {.epoll = epoll_create1(EPOLL_CLOEXEC),
                   .path = argv[4],
                   .close_each = argc > 5,
                   .next_nonce = (uint64_t)getpid() << 20};
  l.to = (struct sockaddr_in){.sin_family = AF_INET,
                              .sin_port = htons((uint16_t)atoi(argv[1])),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  unsigned count = (unsigned)atoi(argv[2]);
  struct conn *conns = calloc(count, sizeof *conns);
  if (!conns) return 1;
  for (unsigned i = 0; i < count; i++) conns[i].fd = -1;
  signal(SIGTERM, on_term);
  load_run(&l, conns, count, atof(argv[3]));
  report(&l);
  return 0;
}
