/* The load generator and its backend: one thread, one epoll, never sleeping.
 * Shared by the files of bench/load; nothing else includes it. */
#ifndef WEIR_BENCH_LOAD_H
#define WEIR_BENCH_LOAD_H

#include "body.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>

enum { WATCH_MAX = 64, HISTOGRAM_SUB_BITS = 6, HISTOGRAM_SLOTS = 64 << HISTOGRAM_SUB_BITS };

struct load;

/* What epoll hands back: first member of every object that owns a descriptor. */
struct source {
    void (*on_event)(struct load *load, struct source *source, uint32_t events);
    int fd;
};

struct load_opts {
    uint16_t proxy_port;
    uint16_t backend_port;
    uint32_t connections;
    uint32_t opening_max;   /* connections that have not had a response yet, at a time */
    uint64_t get_bytes;
    uint64_t post_bytes;    /* 0: GET */
    uint64_t rate;          /* requests per second; 0: as fast as responses come */
    uint64_t warmup_ms;
    uint64_t measure_ms;
    uint64_t serve;         /* only the backend, of so many requests; 0: the generator too */
    int core;
    bool tls;
    bool resume;            /* offer the session of the connection before */
    bool fresh;             /* a new connection per request */
    bool hold;              /* one request each, then idle until standard input closes */
    uint32_t watch_count;
    int watch[WATCH_MAX];   /* processes whose CPU time counts as the proxy's */
};

enum PHASE { PHASE_OPEN, PHASE_WARMUP, PHASE_MEASURE, PHASE_DRAIN, PHASE_HOLD, PHASE_SERVE,
             PHASE_END };

struct stats {
    uint64_t requests;       /* complete and right, inside the measured window */
    uint64_t body_bytes;
    uint64_t handshakes;
    uint64_t resumed;
    uint64_t reconnects;     /* idle connections that the proxy closed */
    uint64_t errors;         /* from the first connection to the last */
    uint64_t backend_errors;
    uint64_t turns;
    uint64_t empty_turns;
    uint64_t window_ns;
    uint64_t cpu_ns;
    uint64_t self_ns;        /* this program's own CPU time: less than the window when disturbed */
    char first_error[128];
    char tls[80];
    uint32_t latency[HISTOGRAM_SLOTS];
};

struct client;

struct load {
    struct load_opts opts;
    enum PHASE phase;
    int epfd;
    SSL_CTX *tls;
    struct client *clients;
    uint32_t started;     /* clients that were ever opened */
    uint32_t served;      /* clients that had a first response */
    uint32_t in_flight;
    uint32_t idle_head;   /* ring of idle clients, fixed-rate mode only */
    uint32_t idle_count;
    uint32_t *idle;
    uint64_t next_due_ns;
    uint64_t last_done_ns;
    uint64_t total_done;
    uint64_t answered;    /* by the backend, when it is alone */
    bool stop_asked;
    struct source listener;
    struct source input;
    struct stats stats;
};

/* run.c */
void load_run(struct load *load);
void load_watch(struct load *load, struct source *source, uint32_t events);
void load_rewatch(struct load *load, struct source *source, uint32_t events);

/* load_until_input_ends() lets PHASE_HOLD and PHASE_SERVE end with standard input. */
void load_until_input_ends(struct load *load);

/* load_error() counts a fault; the first one is kept as text. */
void load_error(struct load *load, const char *what, long detail);

/* client.c */
void client_open(struct load *load, uint32_t index, uint64_t start_ns);
void client_request(struct load *load, uint32_t index, uint64_t start_ns);
void clients_init(struct load *load);
void clients_fini(struct load *load);

/* backend.c */
void backend_init(struct load *load);

/* serve.c: the backend alone. serve_answered() counts one whole request and its answer. */
void serve_begin(struct load *load);
void serve_answered(struct load *load, uint64_t body_bytes);
void serve_end(struct load *load);

/* tls.c: the client side of TLS, on the descriptor itself. */
SSL_CTX *tls_context_new(void);
SSL *tls_open(SSL_CTX *ctx, int fd, SSL_SESSION **session, bool resume);
/* Returns 1 when done, else -EAGAIN (wants to read), -EINPROGRESS (to write), -EPROTO. */
int tls_handshake(SSL *ssl);
long tls_read(SSL *ssl, void *buf, size_t len);
long tls_write(SSL *ssl, const void *buf, size_t len);
void tls_close(SSL *ssl);
void tls_describe(SSL *ssl, char *out, size_t size);

/* stats.c */
void stats_latency_add(struct stats *stats, uint64_t ns);

/* The counted window: CPU time and clock between the two calls. */
void stats_window_open(struct load *load, uint64_t now_ns);
void stats_window_close(struct load *load, uint64_t now_ns);
void stats_print(const struct stats *stats);

#endif
