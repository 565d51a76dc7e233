/* stale.c: client connections whose listener now asks clients for something else than was asked of
 * them (another CA, other CRLs, now a certificate at all, now TLS): they end as in a drain. Until
 * then they take requests for which what the client has shown is enough now (conn_tls_covers, 421
 * else); what still runs on them ends after the drain time. DESIGN.md "Reload". A connection that
 * is still shaking hands is looked at when it is done. Called by serve.c and the fronts. */
#include "proxy_priv.h"
#include "weir/io/tls_client_auth.h"

/* due makes those that are stale the ones that the timer ends; false: there are none. */
static bool due(struct worker *w) {
  bool some = false;
  for (struct list *l = w->servings.next; l != &w->servings; l = l->next) {
    struct serving *sv = container_of(l, struct serving, link);
    for (struct list *k = sv->downs.next; k != &sv->downs; k = k->next) {
      struct down *d = container_of(k, struct down, link);
      if (!(d->flags & DOWN_STALE)) continue;
      d->flags |= DOWN_STALE_DUE;
      some = true;
    }
  }
  return some;
}

/* arm: connections that went stale while the timer runs have one of their own after it. */
static void arm(struct worker *w) {
  w->stale_ms = now_ms(w) + w->snapshot->drain_ms;
  if (!timer_armed(&w->stale_timer) && due(w))
    timer_set(&w->loop->wheel, &w->stale_timer, w->stale_ms);
}

static void end_now(struct down *d) {
  if (d->h2)
    front_h2_end(d, END_DRAIN);
  else if (!d->stream)
    down_close(d, true);
  else if (d->stream->step == STEP_TUNNEL)
    stream_fail(d->stream, END_DRAIN_TUNNEL);
  else
    stream_fail(d->stream, END_DRAIN);
}

static struct down *first_due(struct serving *sv) {
  for (struct list *l = sv->downs.next; l != &sv->downs; l = l->next) {
    struct down *d = container_of(l, struct down, link);
    if (d->flags & DOWN_STALE_DUE) return d;
  }
  return NULL;
}

/* end_due: one that ends may take others along, and its serving when that was removed. */
static void end_due(struct serving *sv) {
  sv->down_count++;
  for (struct down *d; (d = first_due(sv)) != NULL;) {
    d->flags &= (uint16_t) ~(DOWN_STALE_DUE | DOWN_STALE);
    d->flags |= DOWN_CLOSE;
    end_now(d);
  }
  sv->down_count--;
}

void stale_on_timer(struct timer *timer, uint64_t now) {
  (void)now;
  struct worker *w = container_of(timer, struct worker, stale_timer);
  for (struct list *l = w->servings.next, *next; l != &w->servings; l = next) {
    next = l->next;
    struct serving *sv = container_of(l, struct serving, link);
    end_due(sv);
    serving_free_if_done(sv);
  }
  if (due(w)) timer_set(&w->loop->wheel, &w->stale_timer, w->stale_ms);
}

/* mark lets a connection end as in a drain: HTTP/2 by GOAWAY, HTTP/1 with its next response. */
static void mark(struct down *d) {
  uint64_t soon_ms = now_ms(d->serving->w) + DRAIN_IDLE_MS;
  d->flags |= DOWN_STALE;
  if (d->h2) {
    h2_drain(d->h2);
    return;
  }
  d->flags |= DOWN_CLOSE;
  if (!d->stream && d->conn->timer.due_ms > soon_ms) conn_timer(d->conn, soon_ms);
}

/* is_stale: one that has not begun (a PROXY header is waited for) begins as its listener is then.
 */
static bool is_stale(const struct down *d) {
  const struct snapshot_listener *now = d->serving->current;
  bool shaken = d->flags & DOWN_TLS && d->conn->flags & CONN_OPEN;
  if (!now || d->flags & DOWN_STALE) return false;
  if (d->flags & DOWN_PLAIN) return now->listener->tls != NULL;
  return shaken && conn_tls_stale(d->conn, now->listener->tls);
}

void stale_check(struct down *d) {
  if (!is_stale(d)) return;
  mark(d);
  arm(d->serving->w);
}

void stale_install(struct serving *sv) {
  bool some = false;
  for (struct list *l = sv->downs.next, *next; l != &sv->downs; l = next) {
    next = l->next;
    struct down *d = container_of(l, struct down, link);
    if (!is_stale(d)) continue;
    mark(d);
    some = true;
  }
  if (some) arm(sv->w);
}
