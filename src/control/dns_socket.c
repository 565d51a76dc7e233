/* dns_socket.c: the system calls of c-ares' sockets, done by us in order to hear what it keeps to
 * itself: when every server answers SERVFAIL or REFUSED, the c-ares we run with (1.18.1) says that
 * no connection was possible. Called by dns.c. */
#include <ares.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "control/dns_priv.h"
#include "weir/base/check.h"

#define HEADER_BYTES 12

static ares_socket_t on_socket(int family, int type, int protocol, void *ctx) {
  (void)ctx;
  return socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
}

static int on_close(ares_socket_t fd, void *ctx) {
  (void)ctx;
  return close(fd);
}

static int on_connect(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len, void *ctx) {
  (void)ctx;
  return connect(fd, to, len);
}

/* The first bytes of a message, in a datagram or in a stream: c-ares reads the two of the length
 * by themselves. What has no header tells nothing. */
static ares_ssize_t on_receive(ares_socket_t fd, void *to, size_t room, int flags,
                               struct sockaddr *from, ares_socklen_t *from_len, void *ctx) {
  uint8_t *rcode = (uint8_t *)ctx;
  const uint8_t *bytes = (const uint8_t *)to;
  ssize_t n = recvfrom(fd, to, room, flags, from, from_len);
  *rcode = n >= HEADER_BYTES && (bytes[2] & 0x80) ? bytes[3] & 0x0f : 0;
  return n;
}

static ares_ssize_t on_send(ares_socket_t fd, const struct iovec *parts, int count, void *ctx) {
  struct msghdr message = {.msg_iov = (struct iovec *)(uintptr_t)parts,
                           .msg_iovlen = (size_t)count};
  (void)ctx;
  return sendmsg(fd, &message, MSG_NOSIGNAL);
}

void dns_sockets(struct ares_channeldata *ares, uint8_t *rcode) {
  static const struct ares_socket_functions calls = {.asocket = on_socket,
                                                     .aclose = on_close,
                                                     .aconnect = on_connect,
                                                     .arecvfrom = on_receive,
                                                     .asendv = on_send};
  ares_set_socket_functions(ares, &calls, rcode);
}
