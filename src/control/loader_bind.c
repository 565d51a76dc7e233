/* loader_bind.c: listening sockets, made in the loader process. A TCP port is probed without
 * SO_REUSEPORT first, for a second process of the same user would otherwise share it silently; a
 * stale unix socket file is replaced only after a connect to it was refused.
 * Does not: resolve names, or accept. Called by loader.c. DESIGN.md "Listeners". */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/loader_priv.h"
#include "weir/base/addr.h"
#include "weir/io/listen.h"

#define BACKLOG 8192 /* the kernel cuts it to net.core.somaxconn */
/* What a client has not been sent yet is bounded: a slow reader costs the kernel this much, and
 * each part of it that goes out is progress that timeouts.send sees. */
#define NOTSENT_BYTES 131072
/* Datagrams that come in a burst wait in so much; the kernel cuts it to net.core.rmem_max. */
#define RECEIVE_BYTES (4 << 20)

static void set(int fd, int level, int option, int value) {
  (void)setsockopt(fd, level, option, &value, sizeof value);
}

void listen_options(int fd) {
  set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, NOTSENT_BYTES);
}

static int socket_new(const struct addr *addr, int type) {
  int fd = socket(addr->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) {
    return -errno;
  }
  if (addr->sa.sa_family == AF_INET6) {
    set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  }
  return fd;
}

/* What a datagram was sent to is kept with it from the first one on (IP_PKTINFO, RFC 3542 section
 * 4), or its answer could come from another of the addresses that `any` stands for. */
static void keep_local(int fd, const struct addr *addr) {
  static const struct in6_addr any6 = IN6ADDR_ANY_INIT;
  if (addr->sa.sa_family == AF_INET && addr->in4.sin_addr.s_addr == INADDR_ANY) {
    set(fd, IPPROTO_IP, IP_PKTINFO, 1);
  } else if (addr->sa.sa_family == AF_INET6 &&
             memcmp(&addr->in6.sin6_addr, &any6, sizeof any6) == 0) {
    set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
  }
}

/* SO_REUSEADDR lets a restart pass connections in TIME_WAIT; a listener still conflicts. With UDP
 * it would let two share a port, so it is not set there. */
static int bind_ip(const struct addr *addr, uint32_t flags, bool probe) {
  bool datagrams = flags & LOADER_DATAGRAM;
  int fd = socket_new(addr, datagrams ? SOCK_DGRAM : SOCK_STREAM);
  if (fd < 0) {
    return fd;
  }
  if (datagrams) {
    keep_local(fd, addr);
  } else {
    set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
  }
  if (!probe && (flags & LOADER_REUSEPORT)) {
    set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
  }
  if (bind(fd, &addr->sa, addr->len) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  return fd;
}

static int listen_ip(const struct addr *addr, uint32_t flags) {
  int fd = bind_ip(addr, flags, false);
  if (fd < 0) {
    return fd;
  }
  if (flags & LOADER_DATAGRAM) {
    set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
    return fd;
  }
  listen_options(fd);
  if (flags & LOADER_DEFER) {
    set(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, LISTEN_DEFER_SECONDS);
  }
  if (listen(fd, BACKLOG) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  return fd;
}

static void close_all(const int *fds, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    close(fds[i]);
  }
}

static int sentence(struct buf *why, const struct loader_request *request, int err) {
  const char *advice = "";
  bool is_unix = span_starts(span_of(request->text, request->len), SPAN_LIT("unix:"));
  if (err == -EADDRINUSE && is_unix) {
    advice = "; another process serves that socket, or the file is not a socket";
  } else if (err == -EADDRINUSE) {
    advice = request->flags & LOADER_DATAGRAM
                 ? "; another process has that UDP port (try: ss -lunp)"
                 : "; another process listens there (try: ss -ltnp)";
  } else if (err == -EACCES) {
    advice = "; ports below 1024 need root or CAP_NET_BIND_SERVICE, a socket file needs a "
             "writable directory";
  } else if (err == -EADDRNOTAVAIL) {
    advice = "; no interface of this machine has that address";
  }
  buf_printf(why, "cannot bind %.*s: %s%s", (int)request->len, request->text,
             strerrordesc_np(-err), advice);
  return err;
}

static int bind_many(const struct loader_request *request, const struct addr *addr, int *fds) {
  if (request->flags & LOADER_PROBE) {
    int probe = bind_ip(addr, request->flags, true);
    if (probe < 0) {
      return probe;
    }
    close(probe);
  }
  uint32_t count = request->flags & LOADER_REUSEPORT ? request->count : 1;
  for (uint32_t i = 0; i < count; i++) {
    fds[i] = listen_ip(addr, request->flags);
    if (fds[i] < 0) {
      int err = fds[i];
      close_all(fds, i);
      return err;
    }
  }
  return 0;
}

/* stale tells whether the socket file at addr belongs to nobody. Something that is not a socket is
 * never removed. */
static bool stale(const struct addr *addr) {
  struct stat st;
  if (lstat(addr->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
    return false;
  }
  int fd = socket_new(addr, SOCK_STREAM);
  if (fd < 0) {
    return false;
  }
  bool refused = connect(fd, &addr->sa, addr->len) < 0 && errno == ECONNREFUSED;
  close(fd);
  return refused;
}

static int bind_unix_path(int fd, const struct addr *addr) {
  if (bind(fd, &addr->sa, addr->len) == 0) {
    return 0;
  }
  if (errno != EADDRINUSE) {
    return -errno;
  }
  if (!stale(addr)) {
    return -EADDRINUSE;
  }
  if (unlink(addr->un.sun_path) < 0 || bind(fd, &addr->sa, addr->len) < 0) {
    return -errno;
  }
  return 0;
}

/* The admin socket's directory is made when it is missing: /run is empty after a boot. */
static void make_directory(const char *path) {
  char dir[sizeof(struct sockaddr_un)];
  size_t len = strlen(path);
  while (len > 1 && path[len - 1] != '/') {
    len--;
  }
  if (len > 1 && len < sizeof dir) {
    memcpy(dir, path, len - 1);
    dir[len - 1] = 0;
    (void)mkdir(dir, 0755); /* bind tells when that did not help */
  }
}

/* Connecting needs write permission on the file: 0600 keeps a socket to its owner, 0666 leaves the
 * choice to the directory. The umask makes it right from the first moment. */
static int bind_unix(const struct loader_request *request, const struct addr *addr,
                     struct loader_stat *out) {
  int fd = socket_new(addr, SOCK_STREAM);
  if (fd < 0) {
    return fd;
  }
  bool keep_private = request->flags & LOADER_PRIVATE;
  if (keep_private) {
    make_directory(addr->un.sun_path);
  }
  mode_t before = umask(keep_private ? 0177 : 0111);
  int err = bind_unix_path(fd, addr);
  umask(before);
  struct stat st;
  if (err == 0 && stat(addr->un.sun_path, &st) < 0) {
    err = -errno;
  }
  if (err == 0 && keep_private && request->a != geteuid() &&
      chown(addr->un.sun_path, (uid_t)request->a, (gid_t)request->b) < 0) {
    err = -errno;
  }
  if (err == 0 && listen(fd, BACKLOG) < 0) {
    err = -errno;
  }
  if (err < 0) {
    close(fd);
    return err;
  }
  *out = (struct loader_stat){.dev = st.st_dev, .ino = st.st_ino};
  return fd;
}

int loader_bind(const struct loader_request *request, int *fds, struct loader_stat *stat_out,
                struct buf *why) {
  struct addr addr = {.len = 0};
  struct span text = span_of(request->text, request->len);
  if (!addr_parse(text, &addr) || request->count == 0) {
    return sentence(why, request, -EINVAL);
  }
  if (addr.sa.sa_family != AF_UNIX) {
    int err = bind_many(request, &addr, fds);
    return err < 0 ? sentence(why, request, err) : 0;
  }
  if ((request->flags & LOADER_REUSEPORT) && request->count != 1) {
    return sentence(why, request, -EINVAL); /* a unix socket is bound once and shared */
  }
  int fd = bind_unix(request, &addr, stat_out);
  if (fd < 0) {
    return sentence(why, request, fd);
  }
  fds[0] = fd;
  return 0;
}
