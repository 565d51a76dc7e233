/* h2_send.c: what goes out: heads at once (those that find no room, as soon as there is some),
 * DATA when the connection is flushed at the end of a turn, by urgency (RFC 9218), as far as
 * windows (RFC 9113 section 5.2) and the socket let it. */
#include "mux/h2_priv.h"
#include "weir/base/warm.h"

/* FRAME_MOST: larger frames would keep more urgent streams waiting. */
#define FRAME_MOST 16384u

/* ---- who may send ---- */

static bool has_end(const struct h2_stream *st) {
  return stream_any(st, H2_FINISH) && !stream_any(st, H2_LOCAL_END) && !st->offered.len;
}

void h2_ready(struct h2_stream *st) {
  struct h2 *h = st->h2;
  bool data = st->offered.len && st->send_window > 0, end = has_end(st);
  if (!list_empty(&st->ready) || stream_any(st, H2_RESET | H2_HEAD_WAITS)) return;
  if (!data && !end) return;
  check(end || !stream_any(st, H2_LOCAL_END)); /* more than was promised */
  /* In turn where the client can use parts; else one after another, so that each is soon whole. */
  list_push_tail(end ? &h->ends : &h->ready[st->urgency], &st->ready);
  conn_flush(h->conn);
}

/* go_on lists a stream that has just sent: again as the first one where it is not incremental. */
static void go_on(struct h2_stream *st) {
  h2_ready(st);
  if (st->incremental || list_empty(&st->ready) || has_end(st)) return;
  list_remove(&st->ready);
  list_push_head(&st->h2->ready[st->urgency], &st->ready);
}

bool h2_windows_shift(struct h2 *h) {
  uint32_t from = h->window_in_force, to = h->theirs.initial_window_size;
  h->window_in_force = to;
  if (from == to) return true;
  for (struct list *l = h->streams.next; l != &h->streams; l = l->next) {
    struct h2_stream *st = container_of(l, struct h2_stream, link);
    if (!h2_window_shift(&st->send_window, from, to)) return false;
    h2_ready(st);
  }
  return true;
}

static struct h2_stream *first_ready(struct h2 *h) {
  if (!list_empty(&h->heads)) return container_of(h->heads.next, struct h2_stream, ready);
  if (!list_empty(&h->ends)) return container_of(h->ends.next, struct h2_stream, ready);
  for (unsigned u = 0; u < H2_URGENCIES; u++)
    if (!list_empty(&h->ready[u])) return container_of(h->ready[u].next, struct h2_stream, ready);
  return NULL;
}

/* ---- DATA ---- */

static uint32_t least(uint64_t a, uint64_t b) { return (uint32_t)(a < b ? a : b); }

/* share is how much of what a stream offers may go in one frame now. */
static uint32_t share(const struct h2 *h, const struct h2_stream *st) {
  if (st->send_window <= 0 || h->send_window <= 0) return 0;
  uint32_t window = least((uint32_t)st->send_window, (uint32_t)h->send_window);
  uint32_t most = least(h->theirs.max_frame_size, FRAME_MOST);
  return least(st->offered.len, least(window, most));
}

/* is_last: nothing follows these bytes: by what the conn said, or by the length of the body. */
static bool is_last(const struct h2_stream *st, uint32_t len) {
  if (st->trailers.count) return false;
  return (len == st->offered.len && st->offered_fin) || st->sent + len == st->promise;
}

/* write_data writes one frame of what is offered; false: no room. */
static bool write_data(struct h2_stream *st, uint32_t len, bool last) {
  struct h2 *h = st->h2;
  struct buf *out = h2_out(h, H2_HEAD_LEN + len);
  if (!out) return false;
  h2_write_data_head(out, st->id, last, len);
  buf_put(out, span_sub(st->offered, 0, len));
  st->send_window -= (int32_t)len;
  h->send_window -= (int32_t)len;
  st->sent += len;
  h2_went(&h->budget, len);
  return true;
}

bool h2_stream_leaves(struct h2_stream *st, size_t rest) {
  struct h2 *h = st->h2;
  if (!rest || stream_any(st, H2_RESET)) return true;
  if (st->send_window <= 0 || rest > (size_t)st->send_window) return false;
  if (h->send_window <= 0 || h->leaving + rest > (size_t)h->send_window) return false;
  if (conn_pending(h->conn) >= H2_OUT_MOST) return false;
  h->leaving += (uint32_t)rest;
  return true;
}

bool h2_send_now(struct h2_stream *st, struct span bytes) {
  st->offered = bytes;
  while (st->offered.len) {
    uint32_t len = conn_pending(st->h2->conn) < H2_OUT_MOST ? share(st->h2, st) : 0;
    if (!len || !write_data(st, len, false)) break;
    st->offered = span_from(st->offered, len);
  }
  bool all = st->offered.len == 0;
  st->offered = SPAN_EMPTY;
  return all;
}

/* send_data sends one frame; false: no room. The stream may be gone. */
static bool send_data(struct h2 *h, struct h2_stream *st, uint32_t len) {
  bool last = is_last(st, len);
  if (!write_data(st, len, last)) return false;
  if (last) st->marks |= H2_LOCAL_END;
  st->offered = SPAN_EMPTY; /* what is left is offered again */
  list_remove(&st->ready);
  struct slab_head was = st->head;
  conn_carried_sent(st->what.conn, len);
  st = slab_find(&h->pool->streams, was.slot, was.generation);
  if (st) go_on(st);
  return true;
}

/* ---- heads and ends ---- */

struct encoding {
  struct hpack_encoder *encoder;
  struct buf *out;
};

static bool put(void *ctx, const struct h2_field *field) {
  struct encoding *e = ctx;
  if (field->pseudo < H2_PSEUDO_COUNT) {
    hpack_encode_pseudo(e->encoder, (enum hpack_pseudo)field->pseudo, field->value,
                        field->secret, e->out);
  } else {
    const struct http_field row = {.name = field->name, .value = field->value, .id = field->id,
                                   .secret = field->secret};
    hpack_encode_field(e->encoder, &row, e->out);
  }
  return !e->out->full;
}

/* message is what is encoded: one of them. */
struct message {
  const struct h2_request_head *request;
  const struct http_response *response;
  const struct http_fields *trailers;
  struct arena *scratch;
};

static bool each(const struct message *m, struct encoding *e) {
  if (m->request) return h2_each_request(m->request, m->scratch, put, e);
  if (m->response) return h2_each_response(m->response, m->scratch, put, e);
  return h2_each_trailer(m->trailers, m->scratch, put, e);
}

/* encode writes a block behind room for the head of its frame; false: out is as it was. */
static bool encode(struct h2 *h, const struct message *m, struct buf *out) {
  static const struct h2_frame blank = {.type = H2_HEADERS};
  struct encoding e = {&h->encoder, out};
  size_t before = out->len;
  h2_write_head(out, &blank);
  hpack_encode_begin(&h->encoder, out);
  bool whole = each(m, &e);
  if (!whole) out->full = true;
  if (hpack_encode_end(&h->encoder, out) && whole) return true;
  out->len = before;
  out->full = false;
  return false;
}

static const size_t head_rooms[] = {2048, 16384, 65536, 131072};

/* frames_of is how many frames a block takes. */
static size_t frames_of(const struct h2 *h, size_t len) {
  size_t most = h->theirs.max_frame_size;
  return len ? (len + most - 1) / most : 1;
}

/* frame_block writes the heads of the frames of a block that stands behind room for the first one,
 * with room behind it for the others: pieces move up from the last one on. */
static void frame_block(struct h2_stream *st, struct buf *out, size_t at, bool end) {
  size_t len = out->len - at - H2_HEAD_LEN, most = st->h2->theirs.max_frame_size;
  size_t count = frames_of(st->h2, len);
  out->len += (count - 1) * H2_HEAD_LEN;
  for (size_t i = count; i-- > 0;) {
    size_t from = i * most, part = i + 1 < count ? most : len - from;
    char *block = out->ptr + at + H2_HEAD_LEN;
    memmove(block + from + i * H2_HEAD_LEN, block + from, part);
    unsigned flags = (i + 1 == count ? H2_FLAG_END_HEADERS : 0u) |
                     (i == 0 && end ? H2_FLAG_END_STREAM : 0u);
    const struct h2_frame head = {.length = (uint32_t)part,
                                  .stream = st->id,
                                  .type = i ? H2_CONTINUATION : H2_HEADERS,
                                  .flags = (uint8_t)flags};
    h2_fill_head(out, at + from + i * H2_HEAD_LEN, &head);
  }
}

/* send_block: no more than `most` may wait with it: the small frames need the rest. */
static bool send_block(struct h2_stream *st, const struct message *m, bool end, size_t most) {
  struct h2 *h = st->h2;
  for (size_t i = 0; i < array_count(head_rooms); i++) {
    size_t room = head_rooms[i] + frames_of(h, head_rooms[i]) * H2_HEAD_LEN;
    struct buf *out = conn_pending(h->conn) + room > most ? NULL : h2_out(h, room);
    if (!out) return false;
    size_t at = out->len, more = frames_of(h, buf_room(out)) * H2_HEAD_LEN; /* it may have more */
    out->cap -= more;
    bool whole = encode(h, m, out);
    out->cap += more;
    if (!whole) continue;
    frame_block(st, out, at, end);
    if (end) st->marks |= H2_LOCAL_END;
    return true;
  }
  return false;
}

/* send_request: numbers are used in order, so it has one only when it goes. */
static bool send_request(struct h2_stream *st, const struct h2_request_head *head,
                         struct arena *scratch, bool end, size_t most) {
  const struct message m = {.request = head, .scratch = scratch};
  const struct http_request *r = head->request;
  /* Behind what came by HTTP/2 trailers may follow. */
  if (r->body == HTTP_BODY_LENGTH && !http_request_open(r)) st->promise = r->content_length;
  h2_stream_number(st);
  bool sent = send_block(st, &m, end, most);
  if (sent) h2_began(&st->h2->budget);
  else h2_stream_unnumber(st);
  return sent;
}

/* wait lists a stream whose head is to be sent later. */
static void wait(struct h2_stream *st, bool end) {
  st->marks |= H2_HEAD_WAITS | (end ? H2_HEAD_ENDS : 0u);
  list_remove(&st->ready);
  list_push_tail(&st->h2->heads, &st->ready);
  conn_flush(st->h2->conn);
}

bool h2_send_request(struct h2_stream *st, const struct h2_request_head *head,
                     struct arena *scratch, bool end) {
  struct h2 *h = st->h2;
  if (list_empty(&h->heads) && send_request(st, head, scratch, end, H2_HEADS_MOST)) return true;
  if (list_empty(&h->heads) && conn_pending(h->conn) < H2_OUT_MOST) return false; /* not that */
  struct h2_request_head *late = arena_zalloc(&st->kept, sizeof *late);
  if (!late) return false;
  *late = *head;
  st->late_request = late;
  wait(st, end);
  return true;
}

/* keep_row copies one row of a section, its name in lower case. */
static bool keep_row(struct h2_stream *st, struct http_fields *to, const struct h2_field *field) {
  bool name_ok, value_ok;
  struct span name = arena_copy(&st->kept, field->name, &name_ok);
  struct span value = arena_copy(&st->kept, field->value, &value_ok);
  if (!name_ok || !value_ok || !http_fields_add(to, &st->kept, name, value)) return false;
  to->rows[to->count - 1].secret = field->secret;
  return true;
}

/* put_off copies a head that finds no room: what its owner has of it may go. */
static bool put_off(struct h2_stream *st, const struct http_response *response, bool end) {
  struct http_response *head = arena_zalloc(&st->kept, sizeof *head);
  if (!head) return false;
  *head = *response;
  head->fields = (struct http_fields){0};
  for (uint32_t i = 0; i < response->fields.count; i++) {
    const struct http_field *row = &response->fields.rows[i];
    const struct h2_field field = {.name = row->name, .value = row->value, .secret = row->secret};
    if (http_field_written(row) && !keep_row(st, &head->fields, &field)) return false;
  }
  st->late = head;
  wait(st, end);
  return true;
}

static bool send_put_off(struct h2_stream *st, size_t most) {
  const struct message m = {.response = st->late, .scratch = &st->kept};
  bool end = stream_any(st, H2_HEAD_ENDS);
  bool sent = st->late ? send_block(st, &m, end, most)
                       : send_request(st, st->late_request, &st->kept, end, most);
  if (!sent) return false;
  st->marks &= (uint16_t)~H2_HEAD_WAITS;
  list_remove(&st->ready);
  return true;
}

bool h2_send_response(struct h2_stream *st, const struct http_response *response,
                      struct arena *scratch, bool end) {
  if (stream_any(st, H2_RESET)) return true; /* the conn's owner hears of it */
  const struct message m = {.response = response, .scratch = scratch};
  if (response->body == HTTP_BODY_LENGTH && !response->h2) st->promise = response->content_length;
  bool interim = response->status < 200 && response->status != 101;
  if (send_block(st, &m, end, H2_HEADS_MOST)) return true;
  if (conn_pending(st->h2->conn) < H2_OUT_MOST) return false; /* it is not that */
  return interim || put_off(st, response, end);
}

static bool keep_trailer(void *ctx, const struct h2_field *field) {
  struct h2_stream *st = ctx;
  return keep_row(st, &st->trailers, field);
}

bool h2_send_trailers(struct h2_stream *st, const struct http_fields *trailers) {
  if (stream_any(st, H2_RESET)) return true;
  return h2_each_trailer(trailers, &st->kept, keep_trailer, st);
}

bool h2_send_end(struct h2 *h, struct h2_stream *st) {
  const struct message m = {.trailers = &st->trailers, .scratch = &st->kept};
  if (stream_any(st, H2_HEAD_WAITS) && !send_put_off(st, SIZE_MAX)) return false;
  if (stream_any(st, H2_LOCAL_END)) return true;
  if (st->trailers.count) {
    if (!send_block(st, &m, true, H2_HEADS_MOST)) return false;
  } else {
    struct buf *out = h2_out(h, H2_HEAD_LEN);
    if (!out) return false;
    h2_write_data_head(out, st->id, true, 0);
  }
  st->marks |= H2_LOCAL_END;
  list_remove(&st->ready);
  return true;
}

/* ---- the end of a turn ---- */

/* send_head_late: with nothing in its way it goes, or never will. */
static bool send_head_late(struct h2 *h, struct h2_stream *st) {
  if (send_put_off(st, H2_HEADS_MOST)) h2_ready(st);
  else if (conn_pending(h->conn)) return false;
  else h2_stream_reset(st, H2_INTERNAL_ERROR, END_LIMIT_MEMORY);
  return true;
}

static bool send_one(struct h2 *h, struct h2_stream *st) {
  if (stream_any(st, H2_HEAD_WAITS)) return send_head_late(h, st);
  if (has_end(st)) return h2_send_end(h, st);
  uint32_t len = share(h, st);
  if (len) return send_data(h, st, len);
  if (h->send_window <= 0) return false;
  list_remove(&st->ready); /* its own window: h2_ready lists it again */
  return true;
}

/* behind is the one after st in its list; NULL: it is the last, before one of the lists' heads. */
static const struct h2_stream *behind(const struct h2 *h, const struct h2_stream *st) {
  const char *next = (const char *)st->ready.next;
  if (next >= (const char *)h && next < (const char *)(h + 1)) return NULL;
  return container_of(st->ready.next, const struct h2_stream, ready);
}

/* warm_behind asks for those that are sent next (weir/base/warm.h). */
static void warm_behind(const struct h2 *h, const struct h2_stream *st) {
  st = behind(h, st);
  if (!st) return;
  warm(st->what.conn, sizeof(*st->what.conn));
  st = behind(h, st);
  if (st) warm(st, sizeof(*st));
}

bool h2_flush(struct h2 *h) {
  h->leaving = 0;
  for (struct h2_stream *st = first_ready(h); st; st = first_ready(h)) {
    warm_behind(h, st);
    if (conn_pending(h->conn) >= H2_OUT_MOST || h2_any(h, H2_OVER)) return true;
    if (!send_one(h, st)) return h->send_window <= 0;
  }
  return true;
}
