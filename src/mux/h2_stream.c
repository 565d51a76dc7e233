/* h2_stream.c: streams: made, found, what their conns do (carrier_ops), ended. A stream lives as
 * long as its conn: what it cost is counted until its owner has let go of all of it. */
#include <errno.h>

#include "mux/h2_priv.h"

static const struct carrier_ops stream_ops;

static struct h2_stream *stream_of(struct carried *what) {
  return container_of(what, struct h2_stream, what);
}

/* ---- the table ---- */

/* Numbers of one side are odd or even throughout. */
static struct h2_stream **bucket(struct h2 *h, uint32_t id) {
  return &h->buckets[(id >> 1) % H2_BUCKETS];
}

struct h2_stream *h2_stream_find(const struct h2 *h, uint32_t id) {
  if (h->server && id > h->last) return NULL;
  struct h2_stream *st = h->buckets[(id >> 1) % H2_BUCKETS];
  while (st && st->id != id) st = st->next;
  return st;
}

static void enter(struct h2_stream *st) {
  struct h2_stream **head = bucket(st->h2, st->id);
  st->next = *head;
  st->at = head;
  if (st->next) st->next->at = &st->next;
  *head = st;
}

/* leave looks at no other stream: each would be a wait for its memory. */
static void leave(struct h2_stream *st) {
  *st->at = st->next;
  if (st->next) st->next->at = st->at;
}

struct h2_stream *h2_stream_open(struct h2 *h, uint32_t id, bool open) {
  struct h2_stream *st = slab_new(&h->pool->streams);
  if (!st) return NULL;
  st->what.ops = &stream_ops;
  st->what.carrier = h->conn;
  if (!conn_carry(h->pool->loop, &st->what, open)) {
    slab_free(&h->pool->streams, st);
    return NULL;
  }
  st->h2 = h;
  st->id = id;
  st->send_window = (int32_t)h->window_in_force;
  st->recv_size = h->limits.stream_window;
  st->recv_window = (int32_t)h2_window_told(h);
  st->promise = UINT64_MAX;
  st->begun_ms = h->pool->loop->now_ms;
  st->long_ms = H2_LONG_MS;
  st->urgency = HTTP_PRIORITY_DEFAULT.urgency;
  arena_init(&st->kept, &h->pool->blocks, H2_KEPT_MAX);
  list_init(&st->ready);
  list_push_tail(&h->streams, &st->link);
  if (id) enter(st);
  h->count++;
  return st;
}

/* NUMBERS_SPARE are left when a connection takes no more streams. */
#define NUMBERS_SPARE 65536u

uint32_t h2_room(const struct h2 *h) {
  if (h2_any(h, H2_PEER_DONE | H2_OVER | H2_ENDED | H2_DRAINING)) return 0;
  if (h->next_id > H2_STREAM_MAX - NUMBERS_SPARE) return 0;
  uint32_t most = h->theirs.max_concurrent_streams;
  return most > h->count ? most - h->count : 0;
}

bool h2_silent(const struct h2 *h, uint64_t since_ms) { return h->heard_ms <= since_ms; }

uint32_t h2_streams_most(const struct h2 *h) {
  return h2_any(h, H2_PREFACED) ? h->theirs.max_concurrent_streams : 0;
}

bool h2_ready_for(const struct h2 *h, bool settled) {
  return h->conn->flags & CONN_OPEN && (!settled || h2_any(h, H2_PREFACED));
}

struct h2_stream *h2_open(struct h2 *h, bool settled) {
  struct h2_stream *st = h2_room(h) ? h2_stream_open(h, 0, h2_ready_for(h, settled)) : NULL;
  if (st && settled) st->marks |= H2_SETTLES;
  return st;
}

void h2_stream_number(struct h2_stream *st) {
  st->id = st->h2->next_id;
  st->h2->next_id += 2;
  enter(st);
}

void h2_stream_unnumber(struct h2_stream *st) {
  check(st->at == bucket(st->h2, st->id));
  leave(st);
  st->h2->next_id -= 2;
  st->id = 0;
}

static void forget(struct h2_stream *st) {
  struct h2 *h = st->h2;
  if (st->id) leave(st);
  list_remove(&st->link);
  list_remove(&st->ready);
  if (h->section_of == st) h2_section_orphan(h);
  h->count--;
  if (st->id && !stream_any(st, H2_TOLD_WHY)) h->budget.finished++;
  h->heads_bytes -= st->head_bytes;
  h->grown -= st->recv_size - h->limits.stream_window;
  arena_reset(&st->kept);
  slab_free(&h->pool->streams, st);
  if (h->count) return;
  if (!h2_any(h, H2_ENDED)) h->events->on_idle(h);
  else if (h2_any(h, H2_LEFT) && !h2_any(h, H2_BUSY)) h2_finish(h); /* else h2_leave does */
}

uint32_t h2_window_told(const struct h2 *h) {
  uint32_t first = h2_settings_default.initial_window_size, size = h->limits.stream_window;
  return h2_any(h, H2_SETTLED) || size > first ? size : first;
}

void h2_windows_settle(struct h2 *h) {
  uint32_t before = h2_window_told(h);
  h->marks |= H2_SETTLED;
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next) {
    struct h2_stream *st = container_of(l, struct h2_stream, link);
    check(h2_window_shift(&st->recv_window, before, h2_window_told(h)));
  }
}

/* ---- resets ---- */

bool h2_is_forgotten(const struct h2 *h, uint32_t id) {
  if (id <= h->forgotten_to) return true;
  for (uint32_t i = 0; i < H2_FORGOTTEN; i++)
    if (h->forgotten[i] == id) return true;
  return false;
}

bool h2_is_ignored(const struct h2 *h, uint32_t id) {
  return h2_is_theirs(h, id) && id > h->served && id <= h->last;
}

void h2_write_reset(struct h2 *h, uint32_t id, enum h2_error error) {
  uint32_t *slot = &h->forgotten[h->forgotten_at++ % H2_FORGOTTEN];
  if (*slot > h->forgotten_to) h->forgotten_to = *slot;
  *slot = id;
  h2_cancelled(h);
  struct buf *out = h2_out_small(h, H2_HEAD_LEN + 4);
  if (out) h2_write_rst_stream(out, id, error);
}

void h2_stream_reset(struct h2_stream *st, enum h2_error error, enum end end) {
  if (!st->id) st->marks |= H2_UNTOUCHED; /* the peer has not seen it */
  else if (!stream_any(st, H2_RESET)) h2_write_reset(st->h2, st->id, error);
  st->marks |= H2_RESET | H2_REMOTE_END | H2_LOCAL_END;
  st->end = end;
  list_remove(&st->ready);
  if (st->what.conn) conn_carried_fail(st->what.conn, -ECONNRESET);
}

void h2_stream_drop(struct h2_stream *st) {
  st->marks |= H2_RESET | H2_REMOTE_END | H2_LOCAL_END;
  conn_close(st->what.conn);
}

void h2_stream_fail(struct h2_stream *st, enum end end) {
  struct h2 *h = st->h2;
  h2_stream_reset(st, (enum h2_error)end_get(end)->h2_error, end);
  if (h->server && !h2_count_reset(h)) h2_over(h, END_CLIENT_H2_RESETS);
}

void h2_stream_peer_end(struct h2_stream *st) {
  st->marks |= H2_REMOTE_END;
  enum end why;
  if (!h2_length_end(&st->length, &why)) {
    h2_stream_fail(st, why);
    return;
  }
  conn_carried_eof(st->what.conn);
}

/* The owner of one may close others: each turn looks from the first one on. */
static struct h2_stream *above(const struct h2 *h, uint32_t last) {
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next) {
    struct h2_stream *st = container_of(l, struct h2_stream, link);
    if (!stream_any(st, H2_RESET) && (st->id > last || !st->id)) return st;
  }
  return NULL;
}

void h2_streams_above(struct h2 *h, uint32_t last) {
  for (struct h2_stream *st = above(h, last); st; st = above(h, last)) {
    st->marks |= H2_RESET | H2_REMOTE_END | H2_LOCAL_END | H2_UNTOUCHED;
    if (last) st->marks |= H2_TOGETHER;
    st->end = END_UPSTREAM_H2_GOAWAY;
    conn_carried_fail(st->what.conn, -ECONNRESET);
  }
}

void h2_streams_untouched(struct h2 *h) {
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next)
    container_of(l, struct h2_stream, link)->marks |= H2_UNTOUCHED;
}

/* to_open is the next one that is to hear of it. */
static struct conn *to_open(const struct h2 *h, int err) {
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next) {
    struct h2_stream *st = container_of(l, struct h2_stream, link);
    bool now = err || h2_ready_for(h, stream_any(st, H2_SETTLES));
    if (now && !(st->what.conn->flags & (CONN_OPEN | CONN_FAILED))) return st->what.conn;
  }
  return NULL;
}

/* is_full: as many streams as the peer takes are open. One that takes none is asked all the same:
 * it would say so on every other connection, too. */
static bool is_full(const struct h2 *h) {
  uint32_t open = 0;
  for (const struct list *l = h->streams.next; l != &h->streams; l = l->next)
    open += (container_of(l, struct h2_stream, link)->what.conn->flags & CONN_OPEN) != 0;
  return open >= h->theirs.max_concurrent_streams && h->theirs.max_concurrent_streams;
}

void h2_streams_opened(struct h2 *h, int err) {
  for (struct conn *c = to_open(h, err); c; c = to_open(h, err)) {
    bool waited = !err && stream_any(h2_stream_of(c), H2_SETTLES); /* for the limit, too */
    conn_carried_open(c, waited && is_full(h) ? -(int)H2_ANEW_FULL : err);
  }
}

/* Each goes to the end of the list before it hears of it: it may end then. */
void h2_streams_secure(struct h2 *h) {
  for (uint32_t i = h->count; i > 0 && !list_empty(&h->streams); i--) {
    struct list *link = list_pop_head(&h->streams);
    list_push_tail(&h->streams, link);
    struct conn *c = container_of(link, struct h2_stream, link)->what.conn;
    if (!(c->flags & (CONN_CLOSING | CONN_FAILED))) conn_secure(c);
  }
}

/* is_whole: all of its response is here, to be read: the connection's end is nothing to it. */
static bool is_whole(const struct h2_stream *st) {
  if (st->h2->server) return false;
  return stream_any(st, H2_WHOLE) ||
         (stream_any(st, H2_REMOTE_END) && !stream_any(st, H2_RESET));
}

static void fail_mark(struct h2_stream *st, enum end end, bool together) {
  if (is_whole(st)) { /* what is left of its request goes nowhere */
    st->marks |= H2_RESET | H2_LOCAL_END | H2_TOLD;
    list_remove(&st->ready);
    return;
  }
  st->marks |= H2_RESET | H2_REMOTE_END | H2_LOCAL_END | (st->id ? 0u : H2_UNTOUCHED);
  if (together) st->marks |= H2_TOGETHER;
  st->end = end;
}

static struct h2_stream *untold(const struct h2 *h) {
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next) {
    struct h2_stream *st = container_of(l, struct h2_stream, link);
    if (!stream_any(st, H2_TOLD)) return st;
  }
  return NULL;
}

void h2_streams_doom(struct h2 *h, enum end end) {
  bool together = h->count > 1;
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next)
    fail_mark(container_of(l, struct h2_stream, link), end, together);
}

/* The owner of one may close others: each turn looks anew; who was told stands last. */
bool h2_streams_tell(struct h2 *h, uint32_t most) {
  struct h2_stream *st = untold(h);
  for (; st && most > 0; st = untold(h), most--) {
    st->marks |= H2_TOLD;
    list_remove(&st->link);
    list_push_tail(&h->streams, &st->link);
    conn_carried_fail(st->what.conn, -ECONNRESET);
  }
  return !st;
}

/* ---- what the conn does ---- */

static void on_send(struct carried *what, struct span bytes, bool fin) {
  struct h2_stream *st = stream_of(what);
  st->offered = bytes;
  st->offered_fin = fin;
  h2_ready(st);
}

/* on_send_now: what a response has brought before it broke off. */
static bool on_send_now(struct carried *what, struct span bytes) {
  struct h2_stream *st = stream_of(what);
  bool open = st->h2->server && !h2_any(st->h2, H2_OVER | H2_ENDED) &&
              !stream_any(st, H2_RESET | H2_LOCAL_END | H2_HEAD_WAITS);
  st->offered = SPAN_EMPTY;
  return open && h2_send_now(st, bytes);
}

static void on_finish(struct carried *what) {
  struct h2_stream *st = stream_of(what);
  st->marks |= H2_FINISH;
  h2_ready(st);
}

static void on_read(struct carried *what, size_t n) {
  struct h2_stream *st = stream_of(what);
  st->read += n;
  h2_read_back(st->h2, st, n);
}

/* error_of: what the peer is told of a stream that is given up. A server that has answered and
 * does not read the rest says NO_ERROR (RFC 9113 section 8.1); so does a client that has the whole
 * response, and does not send the rest. unread: its window let out no more. */
static enum h2_error error_of(const struct h2_stream *st, enum carried_end how, bool unread) {
  if (st->end != END_OK) return (enum h2_error)end_get(st->end)->h2_error;
  if (!st->h2->server) return stream_any(st, H2_REMOTE_END) ? H2_NO_ERROR : H2_CANCEL;
  if (how == CARRIED_FINISHED) return H2_NO_ERROR;
  return unread ? (enum h2_error)end_get(END_CLIENT_TIMEOUT_SEND)->h2_error : H2_INTERNAL_ERROR;
}

static void on_gone(struct carried *what, enum carried_end how) {
  struct h2_stream *st = stream_of(what);
  struct h2 *h = st->h2;
  bool left = st->offered.len && how == CARRIED_CLOSED;
  st->offered = SPAN_EMPTY;
  /* FINISHED, but END_STREAM waits for its turn: nothing is in its way, so it goes now. */
  bool owed = how == CARRIED_FINISHED && st->id && !stream_any(st, H2_LOCAL_END | H2_RESET);
  if (owed && !h2_send_end(h, st)) st->end = END_LIMIT_MEMORY; /* its head, if that waits, too */
  bool over = (st->marks & (H2_LOCAL_END | H2_REMOTE_END)) == (H2_LOCAL_END | H2_REMOTE_END);
  bool told = over || stream_any(st, H2_RESET) || !st->id || h2_any(h, H2_ENDED);
  if (!told) h2_write_reset(h, st->id, error_of(st, how, left));
  uint64_t unread = st->received - st->read;
  if (unread) h2_read_back(h, NULL, (size_t)unread);
  forget(st);
}

/* TAKEN_LEAST is what has to go through a window in the time that a reader has: who opens it by a
 * byte now and then does not read (THREATS.md row 6). */
#define TAKEN_LEAST 1024u

/* on_taken: what waits for a window has not moved, whatever else the peer reads. */
static uint64_t on_taken(struct carried *what) {
  struct h2_stream *st = stream_of(what);
  bool shut = st->send_window <= 0 || st->h2->send_window <= 0;
  if (st->offered.len && shut) return st->sent / TAKEN_LEAST * TAKEN_LEAST;
  return st->sent + conn_taken(st->h2->conn);
}

static const struct carrier_ops stream_ops = {
    .send = on_send,
    .send_now = on_send_now,
    .finish = on_finish,
    .read = on_read,
    .gone = on_gone,
    .taken = on_taken,
};

/* ---- for the owner ---- */

struct conn *h2_stream_conn(const struct h2_stream *st) { return st->what.conn; }
struct h2 *h2_stream_h2(const struct h2_stream *st) { return st->h2; }
struct h2_stream *h2_stream_of(const struct conn *c) { return stream_of(c->carried); }
void h2_stream_blame(struct h2_stream *st, enum end end) { st->end = end; }
enum end h2_stream_end_word(const struct h2_stream *st) { return st->end; }
bool h2_stream_lost(const struct h2_stream *st) { return stream_any(st, H2_RESET); }
struct h2_told h2_stream_told(const struct h2_stream *st) {
  if (stream_any(st, H2_TOLD_WHY)) return (struct h2_told){H2_RST_STREAM, st->told};
  if (!h2_any(st->h2, H2_BLAMED) && st->end != END_UPSTREAM_H2_GOAWAY) return (struct h2_told){0};
  return (struct h2_told){H2_GOAWAY, st->h2->their_code};
}

bool h2_stream_headed(const struct h2_stream *st) { return stream_any(st, H2_HEADED); }
bool h2_stream_refused(const struct h2_stream *st) { return stream_any(st, H2_UNTOUCHED); }

bool h2_stream_together(const struct h2_stream *st) { return stream_any(st, H2_TOGETHER); }
bool h2_stream_accused(const struct h2_stream *st) {
  return h2_any(st->h2, H2_BLAMED) && st->id >= st->h2->their_last;
}

void h2_stream_section(struct h2_stream *st, struct h2_section *section, struct arena *arena) {
  st->section = section;
  st->arena = arena;
}

void h2_stream_expect(struct h2_stream *st, enum http_body body, uint64_t content_length) {
  st->marks |= H2_HEADED;
  h2_length_init(&st->length, st->h2->server, body, content_length);
}

void h2_stream_priority(struct h2_stream *st, struct http_priority priority) {
  st->urgency = priority.urgency;
  st->incremental = priority.incremental;
  if (list_empty(&st->ready) || stream_any(st, H2_HEAD_WAITS)) return;
  list_remove(&st->ready);
  h2_ready(st);
}
