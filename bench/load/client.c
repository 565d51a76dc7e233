/* One client connection of the generator: connect, handshake, request, check the response, next.
 * Every response is checked: status, length, nonce, pattern (all of a small body; the ends of a
 * large one, and every byte of one in 16). A client that meets a fault counts it and stays closed:
 * a run with errors is no result. Called by run.c; see load.h for the phases of a run. */
#define _GNU_SOURCE
#include "load.h"

#include "../common/net.h"
#include "http.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum CLIENT_STATE { CLIENT_CLOSED, CLIENT_HANDSHAKE, CLIENT_IDLE, CLIENT_SENDING, CLIENT_WAITING };

enum { HEAD_MAX = 4096, FULL_CHECK_EVERY = 16, SOURCES = 200, LARGE = 16384 };

struct client {
    struct source source;
    enum CLIENT_STATE state;
    uint32_t requests;
    bool served;
    bool wants_out;
    bool in_ring;     /* stands in load->idle */
    bool head_done;
    bool close_after; /* the response said Connection: close */
    uint32_t part_len;
    char *part;       /* the head so far, when it came in pieces */
    SSL *ssl;
    SSL_SESSION *session;
    uint64_t start_ns;
    struct body_check body;
    struct message out;
};

/* The request, the same for all but for the nonce. */
static struct {
    char text[256];
    uint32_t len;
    uint32_t nonce_at;
} request;

static uint32_t index_of(const struct load *load, const struct client *c) {
    return (uint32_t)(c - load->clients);
}

static bool is_pending(const struct client *c) {
    return c->state != CLIENT_CLOSED && c->state != CLIENT_IDLE;
}

static void client_close(struct load *load, struct client *c) {
    if (c->state == CLIENT_CLOSED) {
        return;
    }
    if (is_pending(c)) {
        load->in_flight--;
    }
    tls_close(c->ssl);
    c->ssl = NULL;
    close(c->source.fd);
    c->state = CLIENT_CLOSED;
}

static void client_fail(struct load *load, struct client *c, const char *what, long detail) {
    load_error(load, what, detail);
    client_close(load, c);
}

static void want_out(struct load *load, struct client *c, bool want) {
    if (c->wants_out != want) {
        c->wants_out = want;
        load_rewatch(load, &c->source, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static long send_part(struct client *c, struct iovec *iov, int count) {
    if (c->ssl != NULL) {
        return tls_write(c->ssl, iov[0].iov_base, iov[0].iov_len);
    }
    struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
    ssize_t n = count == 1 ? send(c->source.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
                           : sendmsg(c->source.fd, &msg, MSG_NOSIGNAL);
    return n < 0 ? -errno : n;
}

/* Bounded by the message's length. */
static void client_send(struct load *load, struct client *c) {
    struct iovec iov[3];
    int count;
    while ((count = message_iov(&c->out, iov)) > 0) {
        long n = send_part(c, iov, count);
        if (n == -EAGAIN || n == -EINPROGRESS) {
            want_out(load, c, true);
            return;
        }
        if (n <= 0) {
            client_fail(load, c, "client: send", n);
            return;
        }
        message_advance(&c->out, (size_t)n);
    }
    want_out(load, c, false);
    c->state = CLIENT_WAITING;
}

static void request_write(const struct load *load, struct client *c) {
    static const char hex[] = "0123456789abcdef";
    char nonce[NONCE_LEN];
    uint32_t value = (index_of(load, c) << 16) ^ (c->requests * 0x9e3779b1u);
    for (uint32_t i = 0; i < NONCE_LEN; i++) {
        nonce[i] = hex[(value >> (4 * i)) & 15];
    }
    memcpy(c->out.head, request.text, request.len);
    memcpy(c->out.head + request.nonce_at, nonce, NONCE_LEN);
    c->out.head_len = request.len;
    message_finish(&c->out, nonce, load->opts.post_bytes);
    memcpy(c->body.nonce, nonce, NONCE_LEN);
}

/* The connection is up and the request counted as in flight. */
static void request_start(struct load *load, struct client *c) {
    request_write(load, c);
    c->body.total = load->opts.get_bytes;
    c->body.got = 0;
    c->body.every_byte = c->requests % FULL_CHECK_EVERY == 0;
    c->head_done = false;
    c->close_after = false;
    c->part_len = 0;
    c->requests++;
    c->state = CLIENT_SENDING;
    client_send(load, c);
}

void client_request(struct load *load, uint32_t index, uint64_t start_ns) {
    struct client *c = &load->clients[index];
    c->in_ring = false;
    if (c->state != CLIENT_IDLE) {
        return; /* it was reopened meanwhile and comes back by itself */
    }
    c->start_ns = start_ns;
    load->in_flight++;
    request_start(load, c);
}

static void handshake_step(struct load *load, struct client *c) {
    int rc = tls_handshake(c->ssl);
    if (rc == -EAGAIN || rc == -EINPROGRESS) {
        want_out(load, c, rc == -EINPROGRESS);
        return;
    }
    if (rc != 1) {
        client_fail(load, c, "client: TLS handshake", rc);
        return;
    }
    bool resumed = SSL_session_reused(c->ssl) == 1;
    if (load->phase == PHASE_MEASURE) {
        load->stats.handshakes++;
        load->stats.resumed += resumed ? 1 : 0;
    }
    if (load->stats.tls[0] == '\0') {
        tls_describe(c->ssl, load->stats.tls, sizeof load->stats.tls);
    }
    request_start(load, c);
}

/* What follows a whole response. */
static void client_next(struct load *load, struct client *c, uint64_t now_ns) {
    bool more = load->phase != PHASE_DRAIN && load->phase != PHASE_END;
    if (load->opts.fresh || c->close_after) {
        load->stats.reconnects += c->close_after && !load->opts.fresh ? 1 : 0;
        client_close(load, c);
        if (more) {
            client_open(load, index_of(load, c), now_ns);
        }
        return;
    }
    load->in_flight--;
    c->state = CLIENT_IDLE;
    if (!more || load->opts.hold || (load->phase == PHASE_OPEN && load->opts.rate == 0)) {
        return; /* while others still open; run.c starts all of them together */
    }
    if (load->opts.rate == 0) {
        client_request(load, index_of(load, c), now_ns);
    } else if (!c->in_ring) {
        c->in_ring = true;
        uint32_t at = (load->idle_head + load->idle_count++) % load->opts.connections;
        load->idle[at] = index_of(load, c);
    }
}

static void response_done(struct load *load, struct client *c) {
    uint64_t now_ns = bench_now_ns();
    load->last_done_ns = now_ns;
    load->total_done++;
    if (load->phase == PHASE_MEASURE) {
        load->stats.requests++;
        load->stats.body_bytes += load->opts.get_bytes + load->opts.post_bytes;
        stats_latency_add(&load->stats, now_ns - c->start_ns);
    }
    if (!c->served) {
        c->served = true;
        load->served++;
    }
    client_next(load, c, now_ns);
}

/* A whole head lies in `bytes`: returns the body bytes behind it, or -EBADMSG. */
static long head_take(const struct load *load, struct client *c, const char *bytes, size_t n) {
    static const char status[] = "HTTP/1.1 200 ";
    struct http_head head;
    if (http_head_parse(bytes, n, &head) == 0) {
        return -EAGAIN;
    }
    if (memcmp(bytes, status, sizeof status - 1) != 0 || !head.has_length ||
        head.content_length != load->opts.get_bytes) {
        return -EBADMSG;
    }
    c->head_done = true;
    c->close_after = head.close;
    return body_accept(&c->body, bytes + head.len, n - head.len) ? (long)n : -EBADMSG;
}

static long head_keep(struct client *c, const char *bytes, size_t n) {
    if (n >= HEAD_MAX) {
        return -EMSGSIZE;
    }
    if (c->part == NULL && (c->part = malloc(HEAD_MAX)) == NULL) {
        bench_die("malloc");
    }
    memcpy(c->part, bytes, n);
    c->part_len = (uint32_t)n;
    return (long)n;
}

static long head_read(const struct load *load, struct client *c) {
    char *bytes = body_scratch();
    size_t size = load->opts.get_bytes > LARGE && c->ssl == NULL ? HEAD_MAX : BODY_SCRATCH;
    size_t old = c->part_len;
    if (old > 0) {
        memcpy(bytes, c->part, old);
    }
    long n = c->ssl != NULL ? tls_read(c->ssl, bytes + old, size - old)
                            : recv(c->source.fd, bytes + old, size - old, 0);
    if (n <= 0) {
        return n == 0 || c->ssl != NULL ? n : -errno;
    }
    size_t have = old + (size_t)n;
    long rc = head_take(load, c, bytes, have);
    return rc == -EAGAIN ? head_keep(c, bytes, have) : rc;
}

static long body_read(struct client *c) {
    if (c->ssl == NULL) {
        return body_receive(&c->body, c->source.fd);
    }
    long n = tls_read(c->ssl, body_scratch(), BODY_SCRATCH);
    if (n > 0 && !body_accept(&c->body, body_scratch(), (size_t)n)) {
        return -EBADMSG;
    }
    return n;
}

/* One read; true when more may lie decrypted or buffered inside the TLS library. */
static bool response_step(struct load *load, struct client *c) {
    long n = c->head_done ? body_read(c) : head_read(load, c);
    if (n == -EAGAIN || n == -EINPROGRESS) {
        return false;
    }
    if (n <= 0) {
        client_fail(load, c, n == 0 ? "client: closed inside a response" : "client: response", n);
        return false;
    }
    if (c->head_done && c->body.got == c->body.total) {
        response_done(load, c);
        return false;
    }
    return c->ssl != NULL && SSL_has_pending(c->ssl) == 1;
}

/* Session tickets may come on an idle connection; an end of stream is the proxy's right. */
static void idle_step(struct load *load, struct client *c) {
    char byte;
    long n = c->ssl != NULL ? tls_read(c->ssl, &byte, 1) : recv(c->source.fd, &byte, 1, 0);
    if (n < 0 && (c->ssl != NULL ? n == -EAGAIN : errno == EAGAIN)) {
        return;
    }
    if (n > 0 || load->phase == PHASE_HOLD) {
        client_fail(load, c, n > 0 ? "client: bytes unasked" : "client: idle was closed", n);
        return;
    }
    client_close(load, c);
    load->stats.reconnects++;
    if (load->phase != PHASE_DRAIN) {
        client_open(load, index_of(load, c), bench_now_ns());
    }
}

static void client_on_event(struct load *load, struct source *source, uint32_t events) {
    struct client *c = (struct client *)source;
    if (c->state == CLIENT_HANDSHAKE) {
        handshake_step(load, c);
        return;
    }
    if (c->state == CLIENT_SENDING && (events & EPOLLOUT) != 0) {
        client_send(load, c);
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 || c->state == CLIENT_CLOSED) {
        return;
    }
    if (c->state == CLIENT_IDLE) {
        idle_step(load, c);
        return;
    }
    while (response_step(load, c)) {
        /* bounded: each step consumes what SSL_has_pending() saw */
    }
}

void client_open(struct load *load, uint32_t index, uint64_t start_ns) {
    struct client *c = &load->clients[index];
    uint8_t source = load->opts.fresh ? (uint8_t)(1 + load->total_done % SOURCES) : 0;
    int fd = net_connect(load->opts.proxy_port, source, true);
    if (fd < 0) {
        load_error(load, "client: connect", fd);
        return;
    }
    c->source = (struct source){.on_event = client_on_event, .fd = fd};
    c->wants_out = false;
    c->start_ns = start_ns;
    load->in_flight++;
    load_watch(load, &c->source, EPOLLIN);
    c->state = CLIENT_HANDSHAKE;
    if (load->opts.tls) {
        c->ssl = tls_open(load->tls, fd, &c->session, load->opts.resume);
        handshake_step(load, c);
    } else {
        request_start(load, c);
    }
}

void clients_init(struct load *load) {
    const struct load_opts *o = &load->opts;
    load->clients = calloc(o->connections, sizeof *load->clients);
    load->idle = calloc(o->connections, sizeof *load->idle);
    if (load->clients == NULL || load->idle == NULL) {
        bench_die("calloc");
    }
    int len = snprintf(request.text, sizeof request.text, "%s /bytes/%llu?n=",
                       o->post_bytes > 0 ? "POST" : "GET", (unsigned long long)o->get_bytes);
    request.nonce_at = (uint32_t)len;
    size_t room = sizeof request.text - (size_t)len;
    len += snprintf(request.text + len, room,
                    "00000000 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: weir-bench\r\n"
                    "Accept: */*\r\n");
    room = sizeof request.text - (size_t)len;
    if (o->post_bytes > 0) {
        len += snprintf(request.text + len, room, "Content-Length: %llu\r\n\r\n",
                        (unsigned long long)o->post_bytes);
    } else {
        len += snprintf(request.text + len, room, "\r\n");
    }
    request.len = (uint32_t)len;
}

void clients_fini(struct load *load) {
    for (uint32_t i = 0; i < load->started; i++) {
        client_close(load, &load->clients[i]);
        SSL_SESSION_free(load->clients[i].session);
        free(load->clients[i].part);
    }
    free(load->clients);
    free(load->idle);
}
