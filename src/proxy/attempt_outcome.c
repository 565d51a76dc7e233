/* attempt_outcome.c: what the end of an attempt says: the word for its cause, and who is told of
 * it: balancing, circuit breaker and concurrency limit, passive health. Called by whoever ends one
 * (attempt.c, hedge.c, mirror.c, step.c, udp_session.c). */
#include "proxy_priv.h"
#include "weir/http/h2_frame.h"

/* ---- words ---- */

enum end connect_end(int err) {
  switch (-err) {
    case ECONNREFUSED:
    case ENOENT: /* a unix socket that is not there */ return END_CONNECT_REFUSED;
    case ETIMEDOUT: return END_CONNECT_TIMEOUT;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EACCES:
    case EPERM: return END_CONNECT_UNREACHABLE;
    case EMFILE:
    case ENFILE: return END_LIMIT_DESCRIPTORS;
    case ENOMEM:
    case ENOBUFS: return END_LIMIT_MEMORY;
    default: return END_CONNECT_FAILED;
  }
}

enum end open_end(const struct upconn *up, int err, struct span *why) {
  enum end end = up ? upconn_tls_end(up, err == -ETIMEDOUT, why) : END_OK;
  return end == END_OK ? connect_end(err) : end;
}

bool attempt_lost_all(enum end end) {
  bool tls = end == END_UPSTREAM_TLS_RECORD || end == END_UPSTREAM_TLS_RENEGOTIATION ||
             end == END_UPSTREAM_TLS_ALERT;
  return tls || end == END_UPSTREAM_RESET || end == END_UPSTREAM_CLOSED;
}

/* A FIN without close_notify (-ECONNABORTED) is no end that TLS vouches for, but an end. */
enum end attempt_cause(const struct attempt *a, int err, struct span *why) {
  enum end tls = err && a->up ? upconn_tls_end(a->up, false, why) : END_OK;
  if (own_trouble(err)) return END_LIMIT_MEMORY;
  if (tls != END_OK) return tls;
  bool reset = err && err != -ECONNABORTED;
  enum end end = attempt_end_word(a, reset ? END_UPSTREAM_RESET : END_UPSTREAM_CLOSED);
  bool begun = a->flags & ATTEMPT_RESPONSE_BYTE;
  return end == END_UPSTREAM_CLOSED && begun ? END_UPSTREAM_TRUNCATED : end;
}

enum end attempt_end_word(const struct attempt *a, enum end otherwise) {
  bool h2 = a->up && a->flags & ATTEMPT_H2;
  enum end end = h2 ? h2_stream_end_word(h2_stream_of(a->up->conn)) : END_OK;
  return end == END_OK ? otherwise : end;
}

struct h2_told attempt_told(const struct attempt *a, enum end end) {
  if (end != END_UPSTREAM_H2_RST && end != END_UPSTREAM_H2_GOAWAY) return (struct h2_told){0};
  bool live = a->up && a->flags & ATTEMPT_H2;
  return live ? h2_stream_told(h2_stream_of(a->up->conn)) : a->told;
}

/* ---- who is told ---- */

/* observe tells the balancing policy how long the endpoint took. */
static void observe(struct stream *s, const struct attempt *a, bool failed) {
  uint64_t from = a->flags & ATTEMPT_SENT ? a->t_sent : a->t_connect;
  uint64_t to = a->t_first && !failed ? a->t_first : now_ns(s->w);
  struct pool_sample sample = {.now_ms = now_ms(s->w),
                               .latency_ns = from && to > from ? to - from : 0,
                               .failed = failed};
  pool_observe(&s->w->upstream, s->pool, a->endpoint, &sample);
}

void attempt_outrun(struct stream *s, const struct attempt *a) {
  if (!(a->flags & ATTEMPT_SENT)) return;
  struct pool_sample sample = {
      .now_ms = now_ms(s->w), .latency_ns = now_ns(s->w) - a->t_sent, .cut = true};
  pool_observe(&s->w->upstream, s->pool, a->endpoint, &sample);
}

void attempt_ejected(struct worker *w, const struct pool *pool, const struct endpoint *e,
                     enum end last) {
  bool answered = last == END_OK; /* outlier.consecutive_5xx */
  worker_event(w, END_LEVEL_WARN,
               "pool " SPAN_FMT ": endpoint " SPAN_FMT
               ": taken out of service for %u ms or more after consecutive %s" SPAN_FMT
               " (outlier)",
               SPAN_ARG(pool->obj.name), SPAN_ARG(e->label), pool->outlier.eject_ms,
               answered ? "responses of 500 and above" : "failures, the last one ",
               SPAN_ARG(answered ? SPAN_EMPTY : end_get(last)->word));
}

/* quick tells those to whom a head says all: balancing, breaker, concurrency limit. */
static void quick(struct stream *s, struct attempt *a, enum end end, uint16_t status) {
  observe(s, a, end != END_OK || status >= 500);
  admit_outcome(s, a, end, status);
}

/* judge tells passive health, where one good answer clears the bad ones before it. */
static void judge(struct stream *s, const struct attempt *a, enum end end, uint16_t status) {
  struct worker *w = s->w;
  if (endpoint_outcome(&w->upstream, s->pool, a->endpoint, end, status, now_ms(w)))
    attempt_ejected(w, s->pool, a->endpoint, end);
}

/* no_evidence: an HTTP/2 connection with several requests on it went, for what one of them said
 * perhaps. Who sends such requests must not take endpoints away from all others. Nor does one that
 * says GOAWAY now and then, when it has had its share of requests: one that takes none does. */
static bool no_evidence(const struct attempt *a, enum end end) {
  bool passed = end == END_UPSTREAM_H2_GOAWAY;
  if (passed && attempt_told(a, end).code != H2_NO_ERROR) return true;
  if (!a->up || !(a->flags & ATTEMPT_H2)) return false;
  if (!passed && !attempt_lost_all(end) && end != END_UPSTREAM_TRUNCATED) return false;
  return h2_stream_together(h2_stream_of(a->up->conn));
}

void attempt_outcome(struct stream *s, struct attempt *a, enum end end, uint16_t status) {
  if (!s->pool || !a->endpoint) return;
  if (end != END_OK) stat_add(&a->endpoint->rows[s->w->config.index].failures, 1);
  quick(s, a, end, status);
  if (!no_evidence(a, end)) judge(s, a, end, status);
}

void attempt_answered(struct stream *s) {
  if (s->try.flags & ATTEMPT_TOLD) return;
  s->try.flags |= ATTEMPT_TOLD;
  uint16_t status = grpc_counts_as(s);
  if (status) attempt_outcome(s, &s->try, END_OK, status);
  else if (s->pool && s->try.endpoint) quick(s, &s->try, END_OK, 200); /* attempt_judged follows */
}

void attempt_judged(struct stream *s, uint16_t status) {
  if (!s->pool || !s->try.endpoint) return;
  if (status >= 500) quick(s, &s->try, END_OK, status);
  judge(s, &s->try, END_OK, status);
}
