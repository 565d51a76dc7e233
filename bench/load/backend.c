/* The origin behind the proxies: answers GET and POST /bytes/<n>[?n=<8 characters>] with n bytes
 * of the pattern, the characters first; reads and compares what is posted. Keepalive, no chunked
 * coding, no pipelining: whatever else comes is an error and ends the connection.
 * Called by run.c through epoll, in the generator's own thread. */
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

enum { HEAD_MAX = 4096, ACCEPT_BATCH = 64 };

struct backend {
    struct source source;
    uint32_t len;
    bool uploading;
    bool wants_out;
    struct body_check upload;
    uint64_t answer_bytes;
    char nonce[NONCE_LEN];
    char head[HEAD_MAX];
    struct message out;
};

/* The response head of the last size asked for: a run asks for one size. */
static struct {
    uint64_t bytes;
    uint32_t len;
    char text[160];
} answer = {.bytes = UINT64_MAX};

static void backend_close(struct backend *b) {
    close(b->source.fd);
    free(b);
}

static void backend_fail(struct load *load, struct backend *b, const char *what, long detail) {
    load->stats.backend_errors++;
    load_error(load, what, detail);
    backend_close(b);
}

static void answer_prepare(uint64_t bytes) {
    if (answer.bytes == bytes) {
        return;
    }
    answer.bytes = bytes;
    answer.len = (uint32_t)snprintf(answer.text, sizeof answer.text,
                                    "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
                                    "Content-Length: %llu\r\n\r\n",
                                    (unsigned long long)bytes);
}

static void want_out(struct load *load, struct backend *b, bool want) {
    if (b->wants_out != want) {
        b->wants_out = want;
        load_rewatch(load, &b->source, want ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

/* Returns 0 or -errno. Bounded by the message's length. */
static int backend_flush(struct load *load, struct backend *b) {
    struct iovec iov[3];
    int count;
    while ((count = message_iov(&b->out, iov)) > 0) {
        struct msghdr msg = {.msg_iov = iov, .msg_iovlen = (size_t)count};
        ssize_t n = count == 1 ? send(b->source.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL)
                               : sendmsg(b->source.fd, &msg, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            want_out(load, b, true);
            return 0;
        }
        if (n < 0) {
            return -errno;
        }
        message_advance(&b->out, (size_t)n);
    }
    want_out(load, b, false);
    return 0;
}

static int backend_answer(struct load *load, struct backend *b) {
    answer_prepare(b->answer_bytes);
    memcpy(b->out.head, answer.text, answer.len);
    b->out.head_len = answer.len;
    message_finish(&b->out, b->nonce, b->answer_bytes);
    serve_answered(load, b->answer_bytes + b->upload.total);
    return backend_flush(load, b);
}

/* Reads "/bytes/<n>[?n=<nonce>]" after the method; false for anything else. */
static bool target_parse(struct backend *b, const char *p, const char *end) {
    static const char prefix[] = "/bytes/";
    size_t prefix_len = sizeof prefix - 1;
    if ((size_t)(end - p) < prefix_len || memcmp(p, prefix, prefix_len) != 0) {
        return false;
    }
    uint64_t bytes = 0;
    for (p += prefix_len; p < end && *p >= '0' && *p <= '9' && bytes < UINT32_MAX; p++) {
        bytes = bytes * 10 + (uint64_t)(*p - '0');
    }
    b->answer_bytes = bytes;
    memset(b->nonce, '0', NONCE_LEN);
    if (end - p >= 3 + NONCE_LEN && memcmp(p, "?n=", 3) == 0) {
        memcpy(b->nonce, p + 3, NONCE_LEN);
    }
    return true;
}

/* One whole head lies in b->head: take it, and what came of its body. */
static int request_begin(struct load *load, struct backend *b, const struct http_head *head) {
    const char *method_end = memchr(b->head, ' ', head->len);
    if (method_end == NULL || message_iov(&b->out, (struct iovec[3]){0}) > 0 ||
        !target_parse(b, method_end + 1, b->head + head->len)) {
        return -EPROTO;
    }
    size_t extra = b->len - head->len;
    b->len = 0;
    if (!head->has_length || head->content_length == 0) {
        return extra == 0 ? backend_answer(load, b) : -EPROTO;
    }
    b->upload = (struct body_check){.total = head->content_length};
    memcpy(b->upload.nonce, b->nonce, NONCE_LEN);
    if (!body_accept(&b->upload, b->head + head->len, extra)) {
        return -EBADMSG;
    }
    b->uploading = b->upload.got < b->upload.total;
    return b->uploading ? 0 : backend_answer(load, b);
}

/* Returns bytes read, 0 at end of stream, -errno. */
static long backend_read(struct load *load, struct backend *b) {
    if (b->uploading) {
        long n = body_receive(&b->upload, b->source.fd);
        if (n > 0 && b->upload.got == b->upload.total) {
            b->uploading = false;
            int rc = backend_answer(load, b);
            return rc == 0 ? n : rc;
        }
        return n == 0 ? -EPIPE : n;
    }
    ssize_t n = recv(b->source.fd, b->head + b->len, HEAD_MAX - b->len, 0);
    if (n <= 0) {
        return n == 0 ? 0 : -errno;
    }
    b->len += (uint32_t)n;
    struct http_head head;
    if (http_head_parse(b->head, b->len, &head) == 0) {
        return b->len < HEAD_MAX ? n : -EMSGSIZE;
    }
    int rc = request_begin(load, b, &head);
    return rc == 0 ? n : rc;
}

static void backend_on_event(struct load *load, struct source *source, uint32_t events) {
    struct backend *b = (struct backend *)source;
    if ((events & EPOLLOUT) != 0) {
        int rc = backend_flush(load, b);
        if (rc != 0) {
            backend_fail(load, b, "backend: send", rc);
            return;
        }
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) {
        return;
    }
    long n = backend_read(load, b);
    if (n == 0 || (n == -ECONNRESET && !b->uploading)) {
        backend_close(b); /* the proxy dropped an idle connection */
    } else if (n < 0 && n != -EAGAIN) {
        backend_fail(load, b, "backend: request", n);
    }
}

static void backend_on_accept(struct load *load, struct source *source, uint32_t events) {
    (void)events;
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        int fd = net_accept(source->fd);
        if (fd < 0) {
            if (fd != -EAGAIN) {
                load_error(load, "backend: accept", fd);
            }
            return;
        }
        struct backend *b = calloc(1, sizeof *b);
        if (b == NULL) {
            bench_die("calloc");
        }
        b->source = (struct source){.on_event = backend_on_event, .fd = fd};
        load_watch(load, &b->source, EPOLLIN);
    }
}

void backend_init(struct load *load) {
    struct net_listen_opts opts = {.port = load->opts.backend_port};
    load->listener = (struct source){.on_event = backend_on_accept, .fd = net_listen(&opts)};
    load_watch(load, &load->listener, EPOLLIN);
}
