/* admin_client.c: `weir reload` and friends speak to a running weir. Blocking; no loop, no
 * threads. Called by main/. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "control/poller_priv.h"
#include "weir/base/addr.h"
#include "weir/control/admin.h"
#include "weir/control/control.h"

/* The time also bounds connect: an address may lead to where nobody says no. */
static void limit_time(int fd, uint32_t timeout_ms) {
  const struct timeval time = {.tv_sec = timeout_ms / 1000,
                               .tv_usec = (suseconds_t)(timeout_ms % 1000) * 1000};
  (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time);
}

static int dial(struct span address, uint32_t timeout_ms, struct addr *addr) {
  if (!addr_parse(address, addr)) {
    return -EINVAL;
  }
  int fd = socket(addr->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return -errno;
  }
  limit_time(fd, timeout_ms);
  if (connect(fd, &addr->sa, addr->len) < 0) {
    int err = errno == EINPROGRESS || errno == EAGAIN ? -ETIMEDOUT : -errno;
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

/* recv_all reads to the end, at most until until_ms (false: it came). */
static bool recv_all(int fd, uint64_t until_ms, struct text *out) {
  char bytes[8192];
  for (;;) {
    uint64_t now = clock_ms();
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (now >= until_ms || poll(&wait, 1, (int)(until_ms - now)) == 0) {
      return false;
    }
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return true;
    }
    text_put(out, span_of(bytes, (size_t)n));
  }
}

static bool is_socket(const struct addr *addr) {
  struct stat st;
  return addr->sa.sa_family != AF_UNIX || stat(addr->un.sun_path, &st) < 0 || S_ISSOCK(st.st_mode);
}

static const char *advice(const struct addr *addr, int err) {
  if (!is_socket(addr)) {
    return "; that is no socket: name weir's with --admin PATH";
  }
  switch (-err) {
    case ENOENT:
      return "; weir does not run, or uses another socket (admin.listen): name its file with -c, "
             "or the socket with --admin PATH";
    case ECONNREFUSED:
      return "; the weir that made it does not run any more: start it, or name another socket "
             "with --admin PATH";
    case EACCES:
    case EPERM: return "; only root and weir's own user may use it";
    case EINVAL: return "; a path has at most 107 bytes";
    default: return "";
  }
}

static bool no_answer(const char *address, bool late, struct text *out) {
  if (late) {
    text_printf(out, "no answer from the admin socket %s in time: weir hangs or is stopped",
                address);
  } else {
    text_printf(out,
                "no answer from the admin socket %s: weir ended meanwhile, or refuses this user "
                "(only root and weir's own user may use it)",
                address);
  }
  return false;
}

bool admin_call(const char *address, const char *line, uint32_t timeout_ms, struct text *out,
                int *code) {
  struct addr addr = {.len = 0};
  int fd = dial(span_str(address), timeout_ms, &addr);
  if (fd < 0) {
    text_printf(out, "cannot reach the admin socket %s: %s%s", address, strerrordesc_np(-fd),
                advice(&addr, fd));
    return false;
  }
  struct text got = {.ptr = NULL};
  bool sent = send_all(fd, span_str(line)) && send_all(fd, SPAN_LIT("\n"));
  /* Also what is not taken to its end has an answer: the line is too long. */
  bool late = !recv_all(fd, clock_ms() + timeout_ms, &got) && sent;
  close(fd);
  struct span rest = text_span(&got);
  size_t end = span_find_char(rest, '\n', 0);
  uint64_t number = 0;
  bool answered =
      !late && end != SIZE_MAX && span_u64(span_sub(rest, 0, end), &number) && number <= UINT8_MAX;
  if (answered) {
    *code = (int)number;
    text_put(out, span_from(rest, end + 1));
  }
  text_fini(&got);
  return answered || no_answer(address, late, out);
}

bool admin_file(const char *path, struct text *out) {
  char here[PATH_MAX] = "";
  bool absolute = path[0] == '/';
  if (strchr(path, '\n') || (!absolute && !getcwd(here, sizeof here))) {
    return false;
  }
  text_printf(out, "%s%s%s", here, absolute ? "" : "/", path);
  return true;
}

bool health_probe(const char *address, uint32_t timeout_ms, struct text *out) {
  struct addr addr = {.len = 0};
  int fd = dial(span_str(address), timeout_ms, &addr);
  if (fd < 0) {
    text_printf(out,
                "not ready: nobody answers at %s: %s; is weir running, with admin.status at this "
                "address? (--status ADDRESS names another)",
                address, strerrordesc_np(-fd));
    return false;
  }
  struct text got = {.ptr = NULL};
  if (send_all(fd, SPAN_LIT("GET /-/ready HTTP/1.1\r\nHost: weir\r\nConnection: close\r\n\r\n"))) {
    (void)recv_all(fd, clock_ms() + timeout_ms, &got);
  }
  close(fd);
  bool ready = span_starts(text_span(&got), SPAN_LIT("HTTP/1.1 200 "));
  if (!ready && got.len) {
    text_printf(out, "not ready: %s says that weir starts or drains", address);
  } else if (!ready) {
    text_printf(out, "not ready: no answer from %s within %u ms", address, timeout_ms);
  }
  text_fini(&got);
  return ready;
}
