/* worker_priv.h: a worker is one thread with one loop; it owns its connections, streams and
 * counters, and no other thread writes them. */
#ifndef WEIR_PROXY_WORKER_PRIV_H
#define WEIR_PROXY_WORKER_PRIV_H

#include "proxy/room_priv.h"
#include "weir/proxy/worker.h"
#include "weir/upstream/upstream.h"

/* Bounds that are not options. */
#define INTERIM_MAX 16u               /* 1xx responses before a final one */
#define STREAM_ARENA_LIMIT (256u << 10) /* and 4 times the head limits */
#define STREAM_BLOCK 2048u            /* bytes of an arena block */
#define OUT_HIGH 65536u               /* pending output from which a pump waits */
#define LINGER_MS 2000u
#define TRIM_MS 1000u /* between looks for memory to give back, while there is traffic */
#define NEVER_NS UINT64_MAX

/* pause_cause: why a worker accepts nothing for now. */
enum pause_cause {
  PAUSE_FULL = 1, /* max_connections is reached */
  PAUSE_SLOW = 2, /* connections are short: until the next tick (overload.c) */
};

/* shedding is one cause of overload. */
struct shedding {
  uint8_t level;    /* how many priorities are refused, the lowest first */
  uint64_t hold_ms; /* it may go down from here on */
};

/* overload is what a worker knows of its load (overload.c). */
struct overload {
  struct overload_settings settings;
  struct shedding causes[OVERLOAD_CAUSES];
  struct timer tick; /* runs only while there is work */
  uint64_t due_ms;   /* of the tick */
  uint64_t lag_ms;   /* by how much ticks were late; halves from one to the next */
  uint64_t finished; /* stats.proxied and udp_in at the last tick */
  uint32_t accepts;  /* since the last tick */
};

/* BEGIN_ROUNDS: so many requests of one connection wait in order; those beyond share the last. */
#define BEGIN_ROUNDS 128u

/* begin is what waits to begin (begin.c). */
struct begin {
  struct list alone;                /* the only streams of their connections */
  struct list rounds[BEGIN_ROUNDS]; /* further ones: one of each connection in a round */
  uint32_t round, last; /* whose turn it is; the last that has some */
  struct list unruly;   /* those of connections that are unruly (h2_unruly) */
  struct timer unruly_timer; /* stopped: some of them may begin */
  uint64_t unruly_ms;        /* when some last did */
  uint32_t unruly_count;
  bool small;           /* the turn is a small one */
  uint32_t left;        /* of the further ones, how many may begin in this turn of the loop */
  uint64_t alone_ms;    /* when a request last came that was alone on its connection */
};

struct worker {
  struct worker_config config;
  struct loop *loop;
  struct stats stats;
  struct upstream upstream;
  struct slab downs, streams, exchanges, mirrors;
  struct udp_front *udp; /* udp_priv.h; NULL before the first listener of UDP */
  struct h2_pool *h2; /* of clients */
  struct slab kept; /* of tunnels */
  struct slab proxied, proxied_ids;
  struct slab rests;
  struct arena_blocks blocks; /* of streams */
  struct list mirrors_live;
  size_t mirror_bytes;
  struct list servings;
  struct room_line owing, idle; /* connections: those that owe a request, those between two */
  uint32_t down_over;           /* those beyond the limit (DOWN_OVER_LIMIT) */
  struct list tunnels;
  struct list waiting;   /* pools with streams of this worker in their queue (pool_row) */
  struct begin begin; /* HTTP/2 requests whose head came */
  struct list displaced; /* streams that lost their place in a full queue, to be ended */
  uint64_t queue_order;
  const struct snapshot *snapshot;
  struct regex_scratch *regex; /* for the matching of routes */
  uint64_t conns_share; /* client connections that this worker may hold */
  uint64_t drain_deadline_ms;
  bool draining, stopped, access_log, wake_pending;
  uint8_t paused; /* enum pause_cause */
  struct overload overload;
  uint32_t sample_ppm;
  uint64_t rng;
  uint64_t date_sec;
  char date[32];
  struct timer drain_timer, trim_timer;
  struct timer queue_timer; /* runs while streams wait in queues (queue_watch.c) */
  struct timer room_timer;  /* runs during PAUSE_FULL (room.c) */
  struct timer stale_timer; /* ends connections of DOWN_STALE_DUE */
  uint64_t stale_ms;        /* when those that went stale last are to end */
  uint64_t trim_seen;  /* stats.proxied at the last tick */
  uint32_t trim_quiet; /* ticks without a finished request */
  uint64_t refused_second; /* of the last connection refused at accept */
  uint32_t refused_lines;  /* of them, logged in that second */
  uint32_t streams_further;  /* open beside others of their connection (slots.c) */
  uint64_t slots_told_ms;    /* when it was last said that there are too many */
  _Atomic(struct worker_msg *) inbox;
  _Atomic uint32_t signals; /* enum signal, of other workers */
  _Atomic uint64_t seq;
  _Atomic bool has_stopped;
  _Atomic uint32_t down_count, stream_count; /* written by the worker (worker_count) */
};

/* worker_count adds to a counter that others only read: a locked instruction would wait until all
 * that was written to a new stream is in the cache. */
static inline void worker_count(_Atomic uint32_t *count, int32_t by) {
  uint32_t now = atomic_load_explicit(count, memory_order_relaxed);
  atomic_store_explicit(count, now + (uint32_t)by, memory_order_relaxed);
}

struct span worker_date(struct worker *w); /* IMF-fixdate, remade once a second */
void worker_event(struct worker *w, enum end_level level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* worker_log_room is room for a record of the log; NULL: none, which is counted. worker_log_done
 * gives it to the log thread. */
static inline char *worker_log_room(struct worker *w, size_t len) {
  char *to = spsc_reserve(w->config.log, (uint32_t)len);
  if (!to) stat_add(&w->stats.log_dropped, 1);
  return to;
}
static inline void worker_log_done(struct worker *w, size_t len) {
  spsc_commit(w->config.log, (uint32_t)len);
  if (w->config.wake_log) w->config.wake_log(w->config.ctx);
}

static inline uint64_t now_ms(const struct worker *w) { return w->loop->now_ms; }
static inline uint64_t now_ns(const struct worker *w) { return w->loop->now_ns; }

#endif
