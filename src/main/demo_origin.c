/* demo_origin.c: the built-in origin of `weir demo`: a child process with two ports (so that there
 * is something to balance), a thread per connection, blocking. Small and plain on purpose: it is
 * what stands behind the proxy, not part of it. Reads requests with the proxy's parser. */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "demo_priv.h"
#include "weir/base/addr.h"
#include "weir/base/mem.h"

#define CONNS_MAX 256
#define IDLE_SECONDS 120

static _Atomic int conns;

/* ---- bytes ---- */

bool demo_send(struct demo_conn *c, struct span s) {
  while (s.len) {
    ssize_t n = send(c->fd, s.ptr, s.len, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return false;
    }
    s = span_from(s, (size_t)n);
  }
  return true;
}

bool demo_more(struct demo_conn *c) {
  if (c->in_len == sizeof c->in) {
    return false;
  }
  ssize_t n;
  do {
    n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
  } while (n < 0 && errno == EINTR);
  c->in_len += n > 0 ? (size_t)n : 0;
  return n > 0;
}

void demo_consume(struct demo_conn *c, size_t len) {
  memmove(c->in, c->in + len, c->in_len - len);
  c->in_len -= len;
}

static bool head_send(struct demo_conn *c, unsigned status, const char *type, uint64_t length) {
  char head[512];
  struct buf b = buf_of(head, sizeof head);
  struct span reason = http_status_reason(status);
  buf_printf(&b, "HTTP/1.1 %u " SPAN_FMT "\r\nServer: weir-demo-%c\r\nContent-Type: %s\r\n"
             "Content-Length: %llu\r\n\r\n", status, SPAN_ARG(reason), c->name, type,
             (unsigned long long)length);
  return demo_send(c, buf_span(&b));
}

static bool answer(struct demo_conn *c, unsigned status, const char *type, struct span body) {
  bool bodyless = status == 204 || status == 304 || c->req.method == HTTP_METHOD_HEAD;
  return head_send(c, status, type, status == 204 ? 0 : body.len) &&
         (bodyless || demo_send(c, body));
}

/* ---- the request's body: read and dropped, or kept up to a limit ---- */

static bool body_length(struct demo_conn *c, struct text *keep) {
  uint64_t left = c->req.content_length;
  while (left) {
    if (!c->in_len && !demo_more(c)) {
      return false;
    }
    size_t take = c->in_len < left ? c->in_len : (size_t)left;
    if (keep->len + take <= DEMO_ECHO_MAX) {
      text_put(keep, span_of(c->in, take));
    }
    demo_consume(c, take);
    left -= take;
  }
  return true;
}

static bool body_chunked(struct demo_conn *c, struct text *keep) {
  struct h1_chunked chunked;
  h1_chunked_init(&chunked, H1_REQUEST);
  for (;;) {
    size_t consumed;
    struct span data = SPAN_EMPTY;
    enum end why;
    enum http_result r =
        h1_chunked_parse(&chunked, span_of(c->in, c->in_len), &consumed, &data, &why);
    if (data.len && keep->len + data.len <= DEMO_ECHO_MAX) {
      text_put(keep, data);
    }
    demo_consume(c, consumed);
    if (r != HTTP_MORE) {
      return r == HTTP_DONE;
    }
    if (!consumed && !demo_more(c)) {
      return false;
    }
  }
}

/* body_read takes the body off the connection, after 100 (Continue) where it is waited for. */
static bool body_read(struct demo_conn *c, struct text *keep) {
  if (c->req.expect_continue && !demo_send(c, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n"))) {
    return false;
  }
  return c->req.body == HTTP_BODY_LENGTH    ? body_length(c, keep)
         : c->req.body == HTTP_BODY_CHUNKED ? body_chunked(c, keep)
                                            : true;
}

/* ---- pages ---- */

static void request_text(const struct demo_conn *c, struct text *out) {
  text_printf(out, SPAN_FMT " " SPAN_FMT " HTTP/1.%u\n", SPAN_ARG(c->req.method_text),
              SPAN_ARG(c->req.target), c->req.minor);
  for (uint32_t i = 0; i < c->req.fields.count; i++) {
    text_printf(out, SPAN_FMT ": " SPAN_FMT "\n", SPAN_ARG(c->req.fields.rows[i].name),
                SPAN_ARG(c->req.fields.rows[i].value));
  }
}

static void html(struct text *out, struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    char ch = s.ptr[i];
    text_put(out, ch == '<'   ? SPAN_LIT("&lt;")
                  : ch == '&' ? SPAN_LIT("&amp;")
                              : span_sub(s, i, 1));
  }
}

static bool page_home(struct demo_conn *c, struct span body) {
  struct text out = {.ptr = NULL}, request = {.ptr = NULL};
  (void)body;
  request_text(c, &request);
  text_printf(&out, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>weir demo"
              "</title><style>body{font:16px/1.5 system-ui,sans-serif;max-width:44rem;"
              "margin:2rem auto;padding:0 1rem}pre{background:#8882;padding:1rem;overflow:auto}"
              "</style><h1>It works</h1><p>This page came from origin <b>%c</b>, through weir. "
              "Reload: the other one may answer.</p>", c->name);
  text_lit(&out, "<p>Try <a href=\"/echo\">/echo</a>, <a href=\"/bytes/1000000\">/bytes/1000000"
           "</a>, <a href=\"/slow\">/slow</a>, <a href=\"/status/503\">/status/503</a>, "
           "a WebSocket at /ws.</p><p>What the origin saw:</p><pre>");
  html(&out, text_span(&request));
  text_lit(&out, "</pre></html>\n");
  bool ok = answer(c, 200, "text/html; charset=utf-8", text_span(&out));
  text_fini(&out);
  text_fini(&request);
  return ok;
}

static bool page_echo(struct demo_conn *c, struct span body) {
  struct text out = {.ptr = NULL};
  request_text(c, &out);
  text_lit(&out, "\n");
  text_put(&out, body);
  bool ok = answer(c, 200, "text/plain; charset=utf-8", text_span(&out));
  text_fini(&out);
  return ok;
}

/* number reads the rest of the path behind prefix; false when it is none up to max. */
static bool number(const struct demo_conn *c, struct span prefix, uint64_t max, uint64_t *out) {
  return span_u64(span_from(c->req.path, prefix.len), out) && *out <= max;
}

static bool page_bytes(struct demo_conn *c, struct span body) {
  uint64_t left;
  char block[16384];
  (void)body;
  if (!number(c, SPAN_LIT("/bytes/"), UINT64_C(16) << 30, &left)) {
    return answer(c, 400, "text/plain", SPAN_LIT("/bytes/N, at most 16 GiB\n"));
  }
  for (size_t i = 0; i < sizeof block; i++) {
    block[i] = i % 64 == 63 ? '\n' : (char)('0' + i % 64 % 10);
  }
  bool ok = head_send(c, 200, "text/plain", left);
  while (ok && left && c->req.method != HTTP_METHOD_HEAD) {
    size_t n = left < sizeof block ? (size_t)left : sizeof block;
    ok = demo_send(c, span_of(block, n));
    left -= n;
  }
  return ok;
}

static bool page_slow(struct demo_conn *c, struct span body) {
  (void)body;
  bool ok = demo_send(c, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n"));
  if (c->req.method == HTTP_METHOD_HEAD) {
    return ok;
  }
  for (int i = 1; i <= 5 && ok; i++) {
    char chunk[64];
    struct buf b = buf_of(chunk, sizeof chunk);
    buf_printf(&b, "c\r\nline %d of 5\n\r\n", i);
    ok = demo_send(c, buf_span(&b));
    const struct timespec second = {.tv_sec = 1};
    nanosleep(&second, NULL);
  }
  return ok && demo_send(c, H1_LAST_CHUNK);
}

static bool page_status(struct demo_conn *c, struct span body) {
  uint64_t status;
  (void)body;
  if (!number(c, SPAN_LIT("/status/"), 599, &status) || status < 200) {
    return answer(c, 400, "text/plain", SPAN_LIT("/status/N, 200 to 599\n"));
  }
  return answer(c, (unsigned)status, "text/plain", SPAN_LIT("as you asked\n"));
}

static bool page_ws(struct demo_conn *c, struct span body) {
  (void)body;
  if (!demo_ws_serve(c)) {
    return answer(c, 426, "text/plain", SPAN_LIT("a WebSocket is served here\n"));
  }
  return false; /* the connection is used up */
}

static const struct {
  struct span path;
  bool prefix;
  bool (*serve)(struct demo_conn *c, struct span body);
} pages[] = {
    {SPAN_LIT("/"), false, page_home},          {SPAN_LIT("/echo"), false, page_echo},
    {SPAN_LIT("/slow"), false, page_slow},      {SPAN_LIT("/ws"), false, page_ws},
    {SPAN_LIT("/bytes/"), true, page_bytes},    {SPAN_LIT("/status/"), true, page_status},
};

static bool serve(struct demo_conn *c, struct span body) {
  for (size_t i = 0; i < array_count(pages); i++) {
    if (pages[i].prefix ? span_starts(c->req.path, pages[i].path)
                        : span_eq(c->req.path, pages[i].path)) {
      return pages[i].serve(c, body);
    }
  }
  return answer(c, 404, "text/plain", SPAN_LIT("not here\n"));
}

/* ---- connections ---- */

static bool head_read(struct demo_conn *c) {
  static const struct h1_limits limits = {
      .header_bytes = DEMO_IN_MAX, .headers = 200, .uri_bytes = 8192};
  for (;;) {
    struct h1_scan scan = {0};
    enum end why;
    arena_reset(&c->arena);
    enum http_result r =
        c->in_len ? h1_parse_request(&scan, span_of(c->in, c->in_len), &limits, &c->arena, &c->req,
                                     &why)
                  : HTTP_MORE;
    if (r != HTTP_MORE) {
      return r == HTTP_DONE;
    }
    if (!demo_more(c)) {
      return false;
    }
  }
}

/* The head's spans point into `in`: it is moved aside before the body is read over it. */
static bool serve_one(struct demo_conn *c) {
  struct text body = {.ptr = NULL};
  if (!head_read(c)) {
    return false;
  }
  size_t head = c->req.head_len;
  memcpy(c->head, c->in, head);
  struct h1_scan scan = {0};
  static const struct h1_limits limits = {
      .header_bytes = DEMO_IN_MAX, .headers = 200, .uri_bytes = 8192};
  enum end why;
  arena_reset(&c->arena);
  bool ok = h1_parse_request(&scan, span_of(c->head, head), &limits, &c->arena, &c->req, &why) ==
            HTTP_DONE;
  demo_consume(c, head);
  ok = ok && body_read(c, &body) && serve(c, text_span(&body)) && c->req.keepalive;
  text_fini(&body);
  return ok;
}

static void *conn_run(void *arg) {
  struct demo_conn *c = (struct demo_conn *)arg;
  const struct timeval idle = {.tv_sec = IDLE_SECONDS};
  (void)setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
  arena_init(&c->arena, NULL, 256 << 10);
  while (serve_one(c)) {
  }
  arena_reset(&c->arena);
  close(c->fd);
  mem_free(c);
  conns--;
  return NULL;
}

static void accept_one(int listener, char name) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  pthread_t thread;
  pthread_attr_t attr;
  int on = 1;
  if (fd < 0) {
    return;
  }
  /* Head and body are written apart: neither waits for an acknowledgement. */
  (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (conns >= CONNS_MAX) {
    close(fd);
    return;
  }
  struct demo_conn *c = (struct demo_conn *)mem_alloc(sizeof *c);
  c->fd = fd;
  c->name = name;
  conns++;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 256 << 10);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  if (pthread_create(&thread, &attr, conn_run, c) != 0) {
    close(fd);
    mem_free(c);
    conns--;
  }
  pthread_attr_destroy(&attr);
}

static void origin_run(const int *listeners, pid_t parent) {
  (void)prctl(PR_SET_NAME, "weir-origin");
  (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
  const struct sigaction ignore = {.sa_handler = SIG_IGN};
  (void)sigaction(SIGINT, &ignore, NULL); /* a terminal's ^C is for the proxy: it drains first */
  (void)sigaction(SIGTERM, &ignore, NULL);
  while (getppid() == parent) {
    struct pollfd fds[DEMO_PORTS];
    for (size_t i = 0; i < DEMO_PORTS; i++) {
      fds[i] = (struct pollfd){.fd = listeners[i], .events = POLLIN};
    }
    (void)poll(fds, DEMO_PORTS, -1);
    for (size_t i = 0; i < DEMO_PORTS; i++) {
      if (fds[i].revents) {
        accept_one(listeners[i], (char)('A' + i));
      }
    }
  }
}

static int listen_loopback(uint16_t *port) {
  struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t len = sizeof addr;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return -errno;
  }
  if (bind(fd, (struct sockaddr *)&addr, len) < 0 || listen(fd, 256) < 0 ||
      getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  *port = ntohs(addr.sin_port);
  return fd;
}

int origin_start(uint16_t ports[DEMO_PORTS]) {
  int listeners[DEMO_PORTS];
  for (size_t i = 0; i < DEMO_PORTS; i++) {
    listeners[i] = listen_loopback(&ports[i]);
    if (listeners[i] < 0) {
      return listeners[i];
    }
  }
  pid_t parent = getpid(), pid = fork();
  if (pid == 0) {
    origin_run(listeners, parent);
    _exit(0);
  }
  for (size_t i = 0; i < DEMO_PORTS; i++) {
    close(listeners[i]);
  }
  return pid < 0 ? -errno : 0;
}
