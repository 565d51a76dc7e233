/* room.c: a client that comes when its worker has all the connections that it may have
 * (max_connections): another one ends for it, in this order:
 *   1. who has owed a whole request head for OWES_MS: since accept (a PROXY header, a handshake, a
 *      ClientHello are on its way to one), or since the first byte of it; or what is left of a
 *      request that was answered (rest.c), since its answer;
 *   2. who has been idle for longest, as by timeouts.idle;
 *   3. who has owed its head for OWES_MIN_MS, for then the newcomer would have to be refused.
 * So who holds connections and asks for nothing (Slowloris) makes room before those that did ask,
 * and never one with a request does. Each kind stands in a line, in the order of time, by which
 * the choice is exact and costs the same however many there are. Those beyond the limit take none
 * of its places; when there are OVER_RESERVE of them nobody is accepted, until one could end for
 * who waits: that is looked for now and then. Called by serve.c at accept, and by whoever knows
 * that a connection owes, is idle or is busy. */
#include "proxy_priv.h"

#define OWES_MS 3000u     /* a segment of the head may be lost twice */
#define OWES_MIN_MS 1000u /* the turns of a handshake, and one loss */
#define IDLE_MIN_MS 100u  /* the next request of a page may be on its way */
#define ENDS_MAX 4u       /* for one client, of those with a place: a reload may want fewer */
#define LOOK_MS 100u      /* between looks for one who could end, while nobody is accepted */
#define LOOKS 8u          /* at idle ones: those with bytes are passed over, once */

/* ---- the lines ---- */

static struct down *at(const struct worker *w, uint32_t place) {
  return place ? slab_at(&w->downs, place - 1) : NULL;
}

static void put_last(struct down *d, struct room_line *line) {
  struct worker *w = d->serving->w;
  struct down *last = at(w, line->last);
  uint32_t me = d->head.slot + 1;
  d->place = (struct room_place){.ahead = line->last, .since = (uint32_t)now_ms(w)};
  line->last = me;
  if (last) last->place.behind = me;
  else line->first = me;
}

void room_leave(struct down *d) {
  struct worker *w = d->serving->w;
  if (!(d->flags & (DOWN_OWING | DOWN_IDLE))) return;
  struct room_line *line = d->flags & DOWN_OWING ? &w->owing : &w->idle;
  struct down *ahead = at(w, d->place.ahead), *behind = at(w, d->place.behind);
  if (ahead) ahead->place.behind = d->place.behind;
  else line->first = d->place.behind;
  if (behind) behind->place.ahead = d->place.ahead;
  else line->last = d->place.ahead;
  d->flags &= (uint16_t) ~(DOWN_OWING | DOWN_IDLE | DOWN_SPARED);
}

void room_owes(struct down *d) {
  if (d->flags & DOWN_OWING) return;
  room_leave(d);
  put_last(d, &d->serving->w->owing);
  d->flags |= DOWN_OWING;
}

void room_idle(struct down *d) {
  room_leave(d);
  put_last(d, &d->serving->w->idle);
  d->flags |= DOWN_IDLE;
}

/* ---- the choice ---- */

static uint32_t for_ms(const struct down *d) {
  return (uint32_t)now_ms(d->serving->w) - d->place.since;
}

/* has_bytes: of the next request, perhaps. */
static bool has_bytes(const struct conn *c) {
  return c->rx || c->plain || conn_held(c) || conn_tls_partial(c);
}

/* longest_idle: who has bytes goes to the end of the line, the first time. */
static struct down *longest_idle(struct worker *w) {
  for (uint32_t i = 0; i < LOOKS; i++) {
    struct down *d = at(w, w->idle.first);
    if (!d || for_ms(d) < IDLE_MIN_MS) return NULL;
    if (!has_bytes(d->conn) || d->flags & DOWN_SPARED) return d;
    room_idle(d);
    d->flags |= DOWN_SPARED;
  }
  return NULL;
}

static struct down *choose(struct worker *w) {
  struct down *owing = at(w, w->owing.first);
  if (owing && for_ms(owing) >= OWES_MS) return owing;
  struct down *idle = longest_idle(w);
  if (idle) return idle;
  return owing && for_ms(owing) >= OWES_MIN_MS ? owing : NULL;
}

/* ---- the end ---- */

/* tell: who asked for nothing is told of in the log, as at its timeout. */
static void tell(struct down *d) {
  struct worker *w = d->serving->w;
  if (d->flags & DOWN_TLS && !(d->conn->flags & CONN_OPEN)) down_count_unshaken(d);
  if (gate_may_log(w)) access_connection(d, END_LIMIT_CONNECTIONS, 0);
  else stat_add(&w->stats.ends[END_LIMIT_CONNECTIONS], 1);
}

static void end(struct down *d) {
  bool owed = d->flags & DOWN_OWING;
  room_leave(d);
  if (d->stream) {
    stream_fail(d->stream, END_LIMIT_CONNECTIONS);
    return;
  }
  if (owed) tell(d);
  if (d->h2) front_h2_end(d, END_OK);
  else down_close(d, conn_pending(d->conn) > 0 || down_has_rest(d));
}

bool room_left(const struct worker *w) { return worker_conns(w) - w->down_over < w->conns_share; }

void room_make(struct worker *w) {
  uint32_t ends = 0;
  while (ends < ENDS_MAX && !room_left(w) && !w->draining) {
    struct down *d = choose(w);
    if (!d) return;
    if (!(d->flags & DOWN_OVER_LIMIT)) ends++;
    stat_add(&w->stats.downstream_displaced, 1);
    end(d);
  }
}

/* ---- when nobody is accepted ---- */

/* could: who comes now has a place, or is given one. */
static bool could(struct worker *w) { return room_left(w) || choose(w); }

void room_watch(struct worker *w) {
  if (w->draining || could(w)) return;
  serve_pause(w, PAUSE_FULL, true);
  timer_set(&w->loop->wheel, &w->room_timer, now_ms(w) + LOOK_MS);
}

void room_on_timer(struct timer *timer, uint64_t now) {
  struct worker *w = container_of(timer, struct worker, room_timer);
  if (!(w->paused & PAUSE_FULL) || w->draining) return;
  if (could(w)) serve_pause(w, PAUSE_FULL, false);
  else timer_set(&w->loop->wheel, timer, now + LOOK_MS);
}
