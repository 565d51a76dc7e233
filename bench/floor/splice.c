/* The bulk forwarder: epoll and splice(2), one upstream connection per client connection. The
 * bulky direction goes through a pipe, bytes never entering this process; the other, of small
 * messages, through a buffer. Pipes of 256 KiB: larger and smaller ones measured worse.
 * See floor.h. Called by main.c.
 * Deliberately no half-close: bench-load never needs it. */
#define _GNU_SOURCE
#include "floor.h"

#include "../common/net.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 512, PIPE_BYTES = 1 << 18 };

/* One direction of a pair. */
struct flow {
    int from;
    int to;
    int pipe_in;
    int pipe_out;
    size_t in_pipe;
    bool spliced;
    bool blocked;  /* `to` takes no more; `from` is not watched meanwhile */
};

struct pair;

struct end {
    struct pair *pair;
    int fd;
    bool is_client;
};

struct pair {
    struct end client;
    struct end upstream;
    struct flow up;
    struct flow down;
    struct pair *next_dead;
    bool dead;
};

static int epfd;
static char buffer[FLOOR_BUFFER];
static struct pair *dead;  /* freed after the batch: events may still name them */

static void watch(int op, struct end *end, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = end};
    if (epoll_ctl(epfd, op, end->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
}

static void rewatch(struct pair *p) {
    uint32_t client = (p->up.blocked ? 0u : EPOLLIN) | (p->down.blocked ? EPOLLOUT : 0u);
    uint32_t upstream = (p->down.blocked ? 0u : EPOLLIN) | (p->up.blocked ? EPOLLOUT : 0u);
    watch(EPOLL_CTL_MOD, &p->client, client);
    watch(EPOLL_CTL_MOD, &p->upstream, upstream);
}

static void flow_open(struct flow *f, int from, int to, bool spliced) {
    *f = (struct flow){.from = from, .to = to, .spliced = spliced};
    int fds[2];
    if (!spliced) {
        return;
    }
    if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) != 0) {
        bench_die("pipe2");
    }
    f->pipe_out = fds[0];
    f->pipe_in = fds[1];
    fcntl(f->pipe_in, F_SETPIPE_SZ, PIPE_BYTES); /* refused past the user's limit: smaller then */
}

static void flow_close(struct flow *f) {
    if (f->spliced) {
        close(f->pipe_in);
        close(f->pipe_out);
    }
}

static void pair_end(struct pair *p) {
    close(p->client.fd);
    close(p->upstream.fd);
    flow_close(&p->up);
    flow_close(&p->down);
    p->dead = true;
    p->next_dead = dead;
    dead = p;
}

static void pairs_free(void) {
    while (dead != NULL) {
        struct pair *p = dead;
        dead = p->next_dead;
        free(p);
    }
}

/* Each returns 0 or -errno; -EPIPE stands for the end of the stream. */
static int flow_copy(struct flow *f) {
    ssize_t n = recv(f->from, buffer, sizeof buffer, 0);
    if (n <= 0) {
        return n == 0 ? -EPIPE : -errno;
    }
    return send(f->to, buffer, (size_t)n, MSG_NOSIGNAL) == n ? 0 : -EMSGSIZE;
}

static int flow_drain(struct flow *f) {
    while (f->in_pipe > 0) {
        ssize_t n = splice(f->pipe_out, NULL, f->to, NULL, f->in_pipe,
                           SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (n < 0) {
            return -errno;
        }
        f->in_pipe -= (size_t)n;
    }
    return 0;
}

static int flow_splice(struct flow *f) {
    ssize_t n = splice(f->from, NULL, f->pipe_in, NULL, PIPE_BYTES,
                       SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (n <= 0) {
        return n == 0 ? -EPIPE : -errno;
    }
    f->in_pipe += (size_t)n;
    return flow_drain(f);
}

/* Runs one direction for one event; true when the pair lives on. */
static bool flow_step(struct pair *p, struct flow *f) {
    bool was_blocked = f->blocked;
    int rc = was_blocked ? flow_drain(f) : f->spliced ? flow_splice(f) : flow_copy(f);
    if (rc != 0 && rc != -EAGAIN) {
        pair_end(p);
        return false;
    }
    f->blocked = f->in_pipe > 0;
    if (f->blocked != was_blocked) {
        rewatch(p);
    }
    return true;
}

static void on_event(struct end *end, uint32_t events) {
    struct pair *p = end->pair;
    struct flow *in = end->is_client ? &p->up : &p->down;
    struct flow *out = end->is_client ? &p->down : &p->up;
    if (p->dead) {
        return;
    }
    if (out->blocked && (events & EPOLLOUT) != 0 && !flow_step(p, out)) {
        return;
    }
    if (!in->blocked && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        flow_step(p, in);
    }
}

static void pair_open(const struct floor_opts *opts, int client) {
    int upstream = net_connect(opts->upstream_port, 0, false);
    if (upstream < 0) {
        close(client); /* nobody is measuring: the probe that waits for the listener */
        return;
    }
    struct pair *p = calloc(1, sizeof *p);
    if (p == NULL || fcntl(upstream, F_SETFL, O_NONBLOCK) != 0) {
        bench_die("upstream");
    }
    p->client = (struct end){.pair = p, .fd = client, .is_client = true};
    p->upstream = (struct end){.pair = p, .fd = upstream};
    flow_open(&p->up, client, upstream, opts->splice_up);
    flow_open(&p->down, upstream, client, !opts->splice_up);
    watch(EPOLL_CTL_ADD, &p->client, EPOLLIN);
    watch(EPOLL_CTL_ADD, &p->upstream, EPOLLIN);
}

_Noreturn void floor_run_splice(const struct floor_opts *opts) {
    struct net_listen_opts listen_opts = {.port = opts->listen_port, .defer = opts->defer};
    struct end listener = {.fd = net_listen(&listen_opts)};
    epfd = epoll_create1(EPOLL_CLOEXEC);
    watch(EPOLL_CTL_ADD, &listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epfd, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct end *end = events[i].data.ptr;
            int fd = end == &listener ? net_accept(listener.fd) : -1;
            if (fd >= 0) {
                pair_open(opts, fd);
            } else if (end != &listener) {
                on_event(end, events[i].events);
            }
        }
        pairs_free();
    }
}
