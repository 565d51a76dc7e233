/* room.c: a client that comes when its worker has all the connections that it may have
 * (max_connections): one that has been idle ends for it, as by timeouts.idle. The one that has
 * been so for longest is looked for among some, in turn, so that a flood of clients costs no walk
 * over all; never one with a request, or bytes of one, or that had one just now. Where none is
 * found the new client is refused. Called by serve.c at accept. */
#include "proxy_priv.h"

#define LOOKS 16u     /* to choose among; until one is found, at up to: */
#define LOOKS_MAX 64u /* connections of the listener that the client comes to, */
#define LOOKS_ELSE 8u /* and of each other listener */
#define LISTENERS_ELSE 8u
#define ENDS_MAX 4u /* for one client: those beyond the limit have to be made up for */
#define IDLE_MIN_MS 100u /* the next request of a page may be on its way */

/* idle_ms is how long d has been idle; 0: it is not, or not for long enough. */
static uint32_t idle_ms(const struct worker *w, const struct down *d) {
  const struct conn *c = d->conn;
  if (d->stream || d->flags & (DOWN_BUSY | DOWN_BLOCKED | DOWN_TCP) || !d->requests) return 0;
  if (d->rest || (d->h2 && h2_draining(d->h2))) return 0;
  if (c->rx || c->plain || conn_held(c) || conn_pending(c)) return 0;
  uint32_t ms = (uint32_t)now_ms(w) - d->idle_at;
  return ms < IDLE_MIN_MS ? 0 : ms;
}

/* longest_idle looks at connections of sv, and puts them last. */
static struct down *longest_idle(struct serving *sv, uint32_t most) {
  struct down *best = NULL;
  uint32_t best_ms = 0;
  if (most > sv->down_count) most = sv->down_count;
  for (uint32_t i = 0; i < (best ? LOOKS : most) && i < most && !list_empty(&sv->downs); i++) {
    struct down *d = container_of(sv->downs.next, struct down, link);
    list_remove(&d->link);
    list_push_tail(&sv->downs, &d->link);
    uint32_t ms = idle_ms(sv->w, d);
    if (ms <= best_ms) continue;
    best = d;
    best_ms = ms;
  }
  return best;
}

/* find looks at the other listeners, too; those that were removed end by themselves. */
static struct down *find(struct serving *sv) {
  struct worker *w = sv->w;
  uint32_t more = LISTENERS_ELSE;
  struct down *d = longest_idle(sv, LOOKS_MAX);
  for (struct list *l = w->servings.next; !d && l != &w->servings && more; l = l->next) {
    struct serving *other = container_of(l, struct serving, link);
    if (other == sv || !other->conn) continue;
    d = longest_idle(other, LOOKS_ELSE);
    more--;
  }
  return d;
}

void room_make(struct serving *sv) {
  struct worker *w = sv->w;
  if (w->draining) return;
  for (uint32_t i = 0; i < ENDS_MAX && worker_conns(w) >= w->conns_share; i++) {
    struct down *d = find(sv);
    if (!d) return;
    stat_add(&w->stats.downstream_displaced, 1);
    if (d->h2) front_h2_end(d, END_OK);
    else down_close(d, false);
  }
}
