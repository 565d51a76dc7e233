/* sink.c: an endpoint that takes what comes and drops it unread, faster than anybody brings it,
 * and never answers. A connection ends when its peer ends it. So that the machine is left to those
 * who bring it, it wakes for BATCH bytes (SO_RCVLOWAT, socket(7)) and copies none (MSG_TRUNC,
 * tcp(7)). Run by tests/e2e/harness/servers.py, which compiles it. sink PORT */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, BATCH = 1 << 14, MOST = 1 << 20 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(int epoll, int fd) {
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event)) fail("epoll_ctl");
}

static int listen_on(uint16_t port) {
  struct sockaddr_in at = {AF_INET, htons(port), {htonl(INADDR_LOOPBACK)}, {0}};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
  if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on)) fail("socket");
  if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) fail("bind");
  return fd;
}

static void take_all(int epoll, int listening) {
  int fd, batch = BATCH;
  while ((fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &batch, sizeof batch)) fail("SO_RCVLOWAT");
    watch(epoll, fd);
  }
}

/* drop closes the connection at its end. */
static void drop(int fd) {
  ssize_t size = recv(fd, NULL, MOST, MSG_TRUNC);
  if (size == 0 || (size < 0 && errno != EAGAIN)) close(fd);
}

int main(int argc, char **argv) {
  if (argc != 2) return 2;
  int listening = listen_on((uint16_t)atoi(argv[1])), epoll = epoll_create1(0);
  watch(epoll, listening);
  for (;;) {
    struct epoll_event events[EVENTS];
    int count = epoll_wait(epoll, events, EVENTS, -1);
    if (count < 0 && errno != EINTR) fail("epoll_wait");
    for (int at = 0; at < count; at++) {
      int fd = events[at].data.fd;
      if (fd == listening) take_all(epoll, listening);
      else drop(fd);
    }
  }
}
