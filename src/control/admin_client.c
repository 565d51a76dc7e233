/* admin_client.c: `weir reload` and friends speak to a running weir. Blocking; no loop, no
 * threads. Called by main/. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/poller_priv.h"
#include "weir/base/addr.h"
#include "weir/control/admin.h"
#include "weir/control/control.h"

static int dial(struct span address, struct addr *addr) {
  if (!addr_parse(address, addr)) {
    return -EINVAL;
  }
  int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return -errno;
  }
  if (connect(fd, &addr->sa, addr->len) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  return fd;
}

static bool send_all(int fd, struct span s) {
  while (s.len) {
    ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
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

/* recv_all reads to the end, at most until until_ms. */
static void recv_all(int fd, uint64_t until_ms, struct text *out) {
  char bytes[8192];
  for (;;) {
    uint64_t now = clock_ms();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (now >= until_ms ||
        poll(&wait, 1, until_ms == UINT64_MAX ? -1 : (int)(until_ms - now)) == 0) {
      return;
    }
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return;
    }
    text_put(out, span_of(bytes, (size_t)n));
  }
}

static const char *advice(int err) {
  return err == -ENOENT || err == -ECONNREFUSED ? "; is weir running, and with this admin socket?"
         : err == -EACCES ? "; only root and weir's own user may use it"
                          : "";
}

int admin_call(const char *address, const char *line, struct text *out) {
  struct addr addr;
  int fd = dial(span_str(address), &addr);
  if (fd < 0) {
    text_printf(out, "cannot reach the admin socket %s: %s%s\n", address, strerrordesc_np(-fd),
                advice(fd));
    return WEIR_FAILED;
  }
  struct text got = {.ptr = NULL};
  if (send_all(fd, span_str(line)) && send_all(fd, SPAN_LIT("\n"))) {
    recv_all(fd, UINT64_MAX, &got);
  }
  close(fd);
  struct span rest = text_span(&got);
  size_t end = span_find_char(rest, '\n', 0);
  uint64_t code;
  if (end == SIZE_MAX || !span_u64(span_sub(rest, 0, end), &code) || code > 255) {
    text_printf(out, "weir ended before it answered\n");
    code = WEIR_FAILED;
  } else {
    text_put(out, span_from(rest, end + 1));
  }
  text_fini(&got);
  return (int)code;
}

bool health_probe(const char *address, uint32_t timeout_ms, struct text *out) {
  struct addr addr;
  int fd = dial(span_str(address), &addr);
  if (fd < 0) {
    text_printf(out, "not ready: %s: %s\n", address, strerrordesc_np(-fd));
    return false;
  }
  struct text got = {.ptr = NULL};
  if (send_all(fd, SPAN_LIT("GET /-/ready HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"))) {
    recv_all(fd, clock_ms() + timeout_ms, &got);
  }
  close(fd);
  bool ready = span_starts(text_span(&got), SPAN_LIT("HTTP/1.1 200 "));
  text_printf(out, "%s\n", ready ? "ready" : got.len ? "not ready" : "not ready: no answer");
  text_fini(&got);
  return ready;
}
