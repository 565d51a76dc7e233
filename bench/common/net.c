/* Loopback sockets for the bench programs. See net.h for what is promised.
 * Deliberately IPv4 loopback only: nothing here can leave the machine. */
#define _GNU_SOURCE
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, DEFER_SECONDS = 10, SOURCE_NET = 0x7f000100 };

_Noreturn void bench_die(const char *what) {
    fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
    exit(1);
}

uint64_t bench_now_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t bench_number(const char *name, const char *text, uint64_t max) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || *text == '-' || value > max) {
        fprintf(stderr, "%s: --%s: \"%s\" is not a number of at most %llu\n",
                program_invocation_short_name, name, text, (unsigned long long)max);
        exit(2);
    }
    return value;
}

void bench_pin(int core) {
    if (core < 0) {
        return;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_die("sched_setaffinity");
    }
}

static struct sockaddr_in loopback(uint16_t port) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return addr;
}

static int set_int(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) == 0 ? 0 : -errno;
}

int net_listen(const struct net_listen_opts *opts) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0) {
        bench_die("socket");
    }
    if (set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1) != 0) { /* accepted sockets inherit it */
        bench_die("TCP_NODELAY");
    }
    if (opts->defer && set_int(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, DEFER_SECONDS) != 0) {
        bench_die("TCP_DEFER_ACCEPT");
    }
    struct sockaddr_in addr = loopback(opts->port);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0 || listen(fd, BACKLOG) != 0) {
        bench_die("bind");
    }
    return fd;
}

static int bind_source(int fd, uint8_t source) {
    struct sockaddr_in addr = {.sin_family = AF_INET};
    addr.sin_addr.s_addr = htonl(SOURCE_NET | source);
    int rc = set_int(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    if (rc == 0 && bind(fd, (struct sockaddr *)&addr, sizeof addr) != 0) {
        rc = -errno;
    }
    return rc;
}

int net_connect(uint16_t port, uint8_t source, bool nonblock) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0) {
        return -errno;
    }
    int rc = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (rc == 0 && source != 0) rc = bind_source(fd, source);
    struct sockaddr_in addr = loopback(port);
    if (rc == 0 && connect(fd, (struct sockaddr *)&addr, sizeof addr) != 0 &&
        errno != EINPROGRESS) {
        rc = -errno;
    }
    if (rc != 0) {
        close(fd);
        return rc;
    }
    return fd;
}

int net_accept(int listener) {
    int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
