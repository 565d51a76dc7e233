/* retry.c: whether a request is sent once more when an attempt failed or brought a status that is
 * worth another one, where to and when. Nothing that may have been acted on is repeated unless the
 * method is idempotent or the pool says so (RFC 9110 section 9.2.2). Apart stands the replay of
 * the keepalive race (DESIGN.md promise 5): the connection was closing when the request was sent,
 * so that costs neither an attempt nor budget. */
#include "proxy_priv.h"
#include "weir/base/hash.h"
#include "weir/http/h2_frame.h"

/* cause_of is the row of retry.def that an end belongs to; 0: never again. */
static uint32_t cause_of(enum end end, bool sent) {
  if (!end_get(end)->retryable) return 0;
  if (!sent) return RETRY_CONNECT;
  return end == END_FIRST_BYTE_TIMEOUT || end == END_TRY_TIMEOUT ? RETRY_FIRST_BYTE : RETRY_RESET;
}

/* resendable: all of the request can be sent again: no byte of a body is gone, but for what is
 * held (held.c). */
static bool resendable(const struct stream *s) {
  return s->up_body.state == PUMP_NONE || !(s->flags & STREAM_BODY_TOUCHED);
}

/* harmless: the endpoint may act on the request a second time, or has seen nothing of it. */
static bool harmless(const struct stream *s) {
  if (!(s->try.flags & ATTEMPT_SENT) || attempt_unsent(s)) return true;
  return http_method_idempotent(s->x->req.method) || s->pool->retry.unsafe;
}

static bool may_send_again(const struct stream *s) {
  return !(s->flags & STREAM_RESPONDED) && resendable(s) && harmless(s);
}

bool retry_left(const struct stream *s) {
  uint32_t spent = s->attempts - (s->flags & STREAM_REPLAYED ? 1u : 0u);
  return spent < s->pool->retry.attempts;
}

/* ---- where to ---- */

/* entry_of a place among those tried; their count: it is not. */
static uint32_t entry_of(const struct pool_tried *tried, uint32_t place) {
  uint32_t i = 0;
  while (i < tried->count && tried->place[i] != place) i++;
  return i;
}

bool retry_tried(const struct stream *s, uint32_t place) {
  return entry_of(&s->x->tried, place) < s->x->tried.count;
}

bool retry_refused(const struct stream *s, uint32_t place) {
  const struct pool_tried *tried = &s->x->tried;
  uint32_t entry = entry_of(tried, place);
  return entry < tried->count && tried->refused >> entry & 1;
}

void retry_remember(struct stream *s, const struct attempt *a, enum end end) {
  struct pool_tried *tried = &s->x->tried;
  bool refused = end != END_OK && !(a->flags & ATTEMPT_SENT) && !own_end(end);
  uint32_t place = 0;
  while (place < s->pool->member_count && s->pool->members[place].endpoint != a->endpoint) place++;
  uint32_t entry = entry_of(tried, place);
  if (place == s->pool->member_count || entry == array_count(tried->place)) return;
  tried->place[entry] = place;
  if (entry == tried->count) tried->count++;
  if (!refused) return;
  tried->refused |= 1u << entry;
  s->x->refused_end = end;
}

/* left is how good an endpoint is for another attempt. */
enum left { LEFT_NOT_DOWN, LEFT_IN_SERVICE, LEFT_READY /* has room, too */ };

static bool is_left(const struct stream *s, const struct endpoint *e, enum left least) {
  uint8_t state = atomic_load_explicit(&e->state, memory_order_relaxed);
  if (state == ENDPOINT_DOWN) return false;
  if (least >= LEFT_IN_SERVICE && !endpoint_in_service(e, now_ms(s->w))) return false;
  return least < LEFT_READY || !endpoint_full(s->pool, e, s->w->config.index);
}

/* another_left: an endpoint that may be chosen has not been asked yet. */
static bool another_left(const struct stream *s, enum left least) {
  for (uint32_t i = 0; i < s->pool->member_count; i++) {
    const struct pool_member *m = &s->pool->members[i];
    if (!retry_tried(s, i) && m->weight && is_left(s, m->endpoint, least)) return true;
  }
  return false;
}

/* backoff_ms is with full jitter: anything up to base times two for each retry before, and max. */
static uint32_t backoff_ms(struct stream *s) {
  const struct pool_retry *r = &s->pool->retry;
  uint64_t most = r->backoff_base_ms;
  for (uint32_t i = 1; i < s->attempts && most < r->backoff_max_ms; i++) most *= 2;
  if (most > r->backoff_max_ms) most = r->backoff_max_ms;
  return most ? (uint32_t)(rng_next(&s->w->rng) % (most + 1)) : 0;
}

/* ---- the decision ---- */

/* code_of is the endpoint's error of HTTP/2 behind the word for it. */
static struct span code_of(const struct attempt *a, enum end end, struct buf *b) {
  struct h2_told told = attempt_told(a, end);
  if (!told.frame) return SPAN_EMPTY;
  buf_char(b, ' ');
  h2_error_write(b, told.code);
  return buf_span(b);
}

void retry_note(struct stream *s, const struct attempt *a, enum end end, uint32_t status) {
  char text[8] = "", room[32];
  struct buf b = buf_of(text, sizeof text), told = buf_of(room, sizeof room);
  buf_u64(&b, status);
  struct span how = end == END_OK ? SPAN_LIT("cancelled") : end_get(end)->word;
  if (status) how = buf_span(&b);
  if (status == 200) how = grpc_status_word(grpc_of(&s->x->resp)); /* who else tries that again */
  struct span code = code_of(a, end, &told);
  struct span comma = s->x->tries.len ? SPAN_LIT(", ") : SPAN_EMPTY;
  s->x->tries = arena_printf(&s->arena, SPAN_FMT SPAN_FMT SPAN_FMT " " SPAN_FMT SPAN_FMT,
                             SPAN_ARG(s->x->tries), SPAN_ARG(comma), SPAN_ARG(a->endpoint->label),
                             SPAN_ARG(how), SPAN_ARG(code));
}

static struct pool_row *own_row(const struct stream *s) {
  return &s->pool->state->rows[s->w->config.index];
}

bool retry_budget(struct stream *s) {
  uint32_t me = s->w->config.index;
  if (budget_take(s->pool->state, me, &s->pool->retry, now_ms(s->w))) return true;
  stat_add(&own_row(s)->retries_refused, 1);
  stat_add(&s->w->stats.retries_refused, 1);
  return false;
}

void retry_unused(struct stream *s) { budget_give(own_row(s), now_ms(s->w)); }

void retry_count(struct stream *s) {
  stat_add(&own_row(s)->retries, 1);
  stat_add(&s->w->stats.retries, 1);
}

/* granted: the request may go on once more, after s->x->again_ms; end is how this attempt failed,
 * END_OK: it brought a response. */
static bool granted(struct stream *s, enum end end) {
  if (!retry_left(s) || !may_send_again(s) || !admit_again(s)) return false;
  retry_remember(s, &s->try, end);
  bool another = another_left(s, s->pool->connections.queue ? LEFT_IN_SERVICE : LEFT_READY);
  /* An endpoint that did not take a connection will not a moment later: only another one may. */
  if (!(s->try.flags & ATTEMPT_SENT) && !another && !another_left(s, LEFT_NOT_DOWN)) return false;
  s->x->again_ms = now_ms(s->w) + (another ? 0 : backoff_ms(s));
  s->x->any_ms = another ? now_ms(s->w) + s->pool->retry.backoff_max_ms : 0;
  if (s->x->again_ms >= s->deadline_ms || !retry_budget(s)) return false;
  retry_count(s);
  return true;
}

bool retry_could_follow(const struct stream *s) {
  bool sent = s->try.flags & ATTEMPT_SENT;
  if (hedged(s) || s->try.flags & ATTEMPT_OVERDUE) return false;
  if (!(s->pool->retry.on & cause_of(END_TRY_TIMEOUT, sent))) return false;
  return retry_left(s) && may_send_again(s);
}

/* again ends the present attempt and begins the next one. */
static void again(struct stream *s, bool clean) {
  uint64_t wait_ms = s->x->again_ms > now_ms(s->w) ? s->x->again_ms - now_ms(s->w) : 0;
  s->earlier_ns += wait_ms * 1000000u;
  if (s->try.t_sent) s->earlier_ns += now_ns(s->w) - s->try.t_sent;
  body_stop(&s->up_body);
  attempt_drop(s, clean);
  s->x->head_up = (struct buf){0};
  s->x->scan = (struct h1_scan){0};
  s->x->spent_ns = 0;
  stream_go(s, wait_ms ? STEP_BACKOFF : STEP_PICK);
}

/* mended_race: the request met the end of a kept connection, and costs the client nothing: it is
 * replayed, or a hedge is under way. Then it is nobody's failure. What cannot be mended counts: an
 * endpoint that resets whatever is sent to it would look well by its POSTs. */
static bool mended_race(const struct stream *s, uint32_t cause) {
  bool lost = !(s->try.flags & ATTEMPT_H2) || attempt_lost_all(attempt_end_word(&s->try, END_OK));
  bool raced = lost && s->try.flags & ATTEMPT_RACES;
  if (cause != RETRY_RESET || !(raced || attempt_unsent(s))) return false;
  return !(s->flags & STREAM_REPLAYED) && (s->x->hedge || may_send_again(s));
}

/* suspected: an HTTP/2 connection ended, perhaps for what this request says: then each further
 * attempt takes a connection away from others. */
static bool suspected(const struct attempt *a, enum end end) {
  if (!a->up || !(a->flags & ATTEMPT_H2)) return false;
  const struct h2_stream *st = h2_stream_of(a->up->conn);
  if (end == END_UPSTREAM_H2_GOAWAY) return h2_stream_accused(st);
  return attempt_lost_all(end) && h2_stream_together(st);
}

/* suspected_again: one more attempt may be made, and none after that ends in the same way. Who is
 * accused alone goes alone. */
static bool suspected_again(struct stream *s, enum end end) {
  if (!suspected(&s->try, end)) return false;
  if (s->flags & STREAM_SUSPECT) return true;
  s->flags |= STREAM_SUSPECT;
  if (end == END_UPSTREAM_H2_GOAWAY && !attempt_unsent(s)) s->flags |= STREAM_ALONE;
  return false;
}

static void replay(struct stream *s) {
  s->flags |= STREAM_REPLAYED | STREAM_REFILL;
  stat_add(&s->w->stats.replays, 1);
  s->x->again_ms = 0;
}

bool retry_after_failure(struct stream *s, enum end end) {
  uint32_t cause = cause_of(end, s->try.flags & ATTEMPT_SENT);
  bool race = mended_race(s, cause);
  bool enough = suspected_again(s, end);
  if ((!race || enough) && !own_end(end)) attempt_outcome(s, &s->try, end, 0);
  if (s->x->hedge) {
    retry_note(s, &s->try, end, 0);
    retry_remember(s, &s->try, end);
    hedge_takes_over(s);
    return true;
  }
  if (enough) return false;
  if (race) replay(s);
  else if (!(s->pool->retry.on & cause && granted(s, end))) return false;
  retry_note(s, &s->try, end, 0);
  again(s, false);
  return true;
}

bool retry_overdue(struct stream *s) {
  if (!granted(s, END_TRY_TIMEOUT)) return false;
  attempt_outcome(s, &s->try, END_TRY_TIMEOUT, 0);
  retry_note(s, &s->try, END_TRY_TIMEOUT, 0);
  again(s, false);
  return true;
}

/* stays_away: the response says not to ask its endpoint again so soon (RFC 9110 section 10.2.3),
 * and there is no other one. A date is taken for later. */
static bool stays_away(struct stream *s) {
  const struct http_field *row = http_fields_find(&s->x->resp.fields, HTTP_NAME_RETRY_AFTER);
  if (!row || span_eq(row->value, SPAN_LIT("0"))) return false;
  retry_remember(s, &s->try, END_OK);
  return !another_left(s, LEFT_IN_SERVICE);
}

/* The outcome is told before it is asked whether another attempt may be made: this one may have
 * opened the breaker, and then its response is the last. */
bool retry_wanted(struct stream *s) {
  bool too_early = s->x->resp.status == 425 && s->flags & STREAM_EARLY;
  if (too_early) return false; /* its client may ask again (RFC 8470 section 5.2) */
  if (!retry_on_status(&s->pool->retry, s->x->resp.status) && !grpc_retry(s)) return false;
  attempt_answered(s);
  return s->x->hedge || (!stays_away(s) && granted(s, END_OK));
}

void retry_after_status(struct stream *s, struct span rest) {
  bool owed = s->up_body.state == PUMP_RUN || s->up_body.state == PUMP_READY;
  bool clean = s->x->resp.keepalive && !owed && response_whole(s, rest);
  attempt_answered(s);
  retry_note(s, &s->try, END_OK, s->x->resp.status);
  if (s->x->hedge) hedge_takes_over(s);
  else again(s, clean);
}
