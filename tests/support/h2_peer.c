/* h2_peer.c: see h2_peer.h. */
#include "h2_peer.h"

#include <stdio.h>

#include "weir/base/mem.h"

static const struct hpack_limits wide = {
    .fields = 1000, .list_bytes = 1 << 20, .hard_list_bytes = 1 << 24, .block_bytes = 1 << 20};

static void fault(struct h2_peer *p, const char *what, uint32_t id) {
  if (p->fault[0]) return;
  (void)snprintf(p->fault, sizeof(p->fault), "stream %u: %s", id, what);
}

void h2_peer_init(struct h2_peer *p) {
  *p = (struct h2_peer){.theirs = h2_settings_default};
  p->send_window = p->recv_window = h2_settings_default.initial_window_size;
  p->window = h2_settings_default.initial_window_size;
  p->max_frame = H2_FRAME_SIZE_MIN;
  p->next_id = 1;
  p->goaway_last = H2_STREAM_MAX;
  arena_init(&p->arena, NULL, 0);
  h2_frame_scan_init(&p->scanner, false, H2_FRAME_SIZE_MIN);
  hpack_decoder_init(&p->decoder, HPACK_TABLE_DEFAULT);
  hpack_encoder_init(&p->encoder, HPACK_TABLE_DEFAULT);
}

void h2_peer_fini(struct h2_peer *p) {
  hpack_decoder_fini(&p->decoder);
  hpack_encoder_fini(&p->encoder);
  arena_reset(&p->arena);
  text_fini(&p->out);
  mem_free(p->streams);
}

struct h2_peer_stream *h2_peer_find(struct h2_peer *p, uint32_t id) {
  return id % 2 && id < p->next_id ? &p->streams[id / 2] : NULL;
}

/* ---- what we send ---- */

static void put(struct h2_peer *p, const struct buf *b) {
  check(!b->full);
  text_put(&p->out, buf_span(b));
}

void h2_peer_hello(struct h2_peer *p, const struct h2_row *rows, size_t count) {
  text_put(&p->out, H2_PREFACE);
  h2_peer_settings(p, rows, count);
}

void h2_peer_settings(struct h2_peer *p, const struct h2_row *rows, size_t count) {
  char room[1024];
  struct buf b = buf_of(room, sizeof(room));
  struct h2_peer_change c = {UINT32_MAX, UINT32_MAX, UINT32_MAX};
  for (size_t i = 0; i < count; i++) {
    if (rows[i].id == H2_SETTING_INITIAL_WINDOW_SIZE) c.window = rows[i].value;
    if (rows[i].id == H2_SETTING_MAX_FRAME_SIZE) c.max_frame = rows[i].value;
    if (rows[i].id == H2_SETTING_HEADER_TABLE_SIZE) c.table = rows[i].value;
  }
  if (c.max_frame != UINT32_MAX && c.max_frame > p->scanner.max_frame)
    p->scanner.max_frame = c.max_frame;
  check(p->change_count < H2_PEER_CHANGES);
  p->changes[(p->change_first + p->change_count++) % H2_PEER_CHANGES] = c;
  h2_write_settings(&b, rows, count);
  put(p, &b);
}

struct h2_peer_stream *h2_peer_open(struct h2_peer *p) {
  uint32_t at = p->next_id / 2;
  if (at == p->stream_cap) {
    uint32_t cap = p->stream_cap ? p->stream_cap * 2 : 64;
    struct h2_peer_stream *more = mem_array(cap, sizeof(*more));
    if (at) memcpy(more, p->streams, at * sizeof(*more));
    mem_free(p->streams);
    p->streams = more;
    p->stream_cap = cap;
  }
  struct h2_peer_stream *st = &p->streams[at];
  *st = (struct h2_peer_stream){.id = p->next_id};
  st->send_window = p->theirs.initial_window_size;
  st->recv_window = p->window;
  p->next_id += 2;
  return st;
}

static enum hpack_pseudo pseudo_of(struct span name) {
  static const char *const names[] = {
#define HPACK_PSEUDO(id, name, first, count, policy) name,
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  };
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++)
    if (span_eq(name, span_str(names[i]))) return (enum hpack_pseudo)i;
  return HPACK_PSEUDO_COUNT;
}

struct span h2_peer_block(struct h2_peer *p, const char *lines) {
  static char room[1 << 18];
  struct buf b = buf_of(room, sizeof(room));
  struct span text = span_str(lines);
  hpack_encode_begin(&p->encoder, &b);
  while (text.len) {
    size_t end = span_find_char(text, '\n', 0);
    struct span line = span_sub(text, 0, end);
    text = end == SIZE_MAX ? SPAN_EMPTY : span_from(text, end + 1);
    size_t colon = span_find_char(line, ':', 1);
    struct span name = span_sub(line, 0, colon), value = span_trim(span_from(line, colon + 1));
    enum hpack_pseudo which = pseudo_of(name);
    struct http_field row = {.name = name, .value = value, .id = (uint16_t)http_name_find(name)};
    if (which != HPACK_PSEUDO_COUNT) hpack_encode_pseudo(&p->encoder, which, value, false, &b);
    else hpack_encode_field(&p->encoder, &row, &b);
  }
  check(hpack_encode_end(&p->encoder, &b));
  return buf_span(&b);
}

void h2_peer_raw(struct h2_peer *p, const struct h2_frame *frame, struct span payload) {
  char room[H2_HEAD_LEN];
  struct buf b = buf_of(room, sizeof(room));
  struct h2_frame f = *frame;
  f.length = (uint32_t)payload.len;
  h2_write_head(&b, &f);
  put(p, &b);
  text_put(&p->out, payload);
}

void h2_peer_headers(struct h2_peer *p, uint32_t id, struct span block, bool end, size_t piece) {
  struct h2_frame f = {.type = H2_HEADERS, .stream = id, .flags = end ? H2_FLAG_END_STREAM : 0};
  struct h2_peer_stream *st = h2_peer_find(p, id);
  if (st && end) st->done = true;
  do { /* each turn but the last sends a piece */
    struct span part = span_sub(block, 0, piece ? piece : block.len);
    block = span_from(block, part.len);
    if (block.len == 0) f.flags |= H2_FLAG_END_HEADERS;
    h2_peer_raw(p, &f, part);
    f.type = H2_CONTINUATION;
    f.flags = 0;
  } while (block.len > 0);
}

struct h2_peer_stream *h2_peer_request(struct h2_peer *p, const char *lines, bool end) {
  struct h2_peer_stream *st = h2_peer_open(p);
  h2_peer_headers(p, st->id, h2_peer_block(p, lines), end, 0);
  return st;
}

void h2_peer_padded(struct h2_peer *p, uint32_t id, struct span bytes, uint8_t padding, bool end) {
  struct text payload = {0};
  char zeros[256] = {0};
  text_put(&payload, span_of((const char *)&padding, 1));
  text_put(&payload, bytes);
  text_put(&payload, span_of(zeros, padding));
  struct h2_frame f = {.type = H2_DATA, .stream = id, .flags = H2_FLAG_PADDED};
  if (end) f.flags |= H2_FLAG_END_STREAM;
  h2_peer_raw(p, &f, text_span(&payload));
  struct h2_peer_stream *st = h2_peer_find(p, id);
  p->send_window -= (int64_t)payload.len;
  if (st) {
    st->send_window -= (int64_t)payload.len;
    st->sent += bytes.len;
    st->done |= end;
  }
  text_fini(&payload);
}

void h2_peer_data(struct h2_peer *p, uint32_t id, struct span bytes, bool end) {
  struct h2_frame f = {.type = H2_DATA, .stream = id, .flags = end ? H2_FLAG_END_STREAM : 0};
  struct h2_peer_stream *st = h2_peer_find(p, id);
  h2_peer_raw(p, &f, bytes);
  p->send_window -= (int64_t)bytes.len;
  if (!st) return;
  st->send_window -= (int64_t)bytes.len;
  st->sent += bytes.len;
  st->done |= end;
}

size_t h2_peer_may(const struct h2_peer *p, const struct h2_peer_stream *st) {
  int64_t n = p->send_window < st->send_window ? p->send_window : st->send_window;
  if (n > H2_FRAME_SIZE_MIN) n = H2_FRAME_SIZE_MIN;
  return n > 0 && !st->done && !st->cancelled && !st->reset ? (size_t)n : 0;
}

void h2_peer_reset(struct h2_peer *p, uint32_t id, enum h2_error code) {
  char room[32];
  struct buf b = buf_of(room, sizeof(room));
  struct h2_peer_stream *st = h2_peer_find(p, id);
  h2_write_rst_stream(&b, id, code);
  put(p, &b);
  if (st) st->cancelled = true;
}

void h2_peer_window(struct h2_peer *p, uint32_t id, uint32_t n) {
  char room[32];
  struct buf b = buf_of(room, sizeof(room));
  struct h2_peer_stream *st = h2_peer_find(p, id);
  h2_write_window_update(&b, id, n);
  put(p, &b);
  if (id == 0) p->recv_window += n;
  else if (st) st->recv_window += n;
}

void h2_peer_ping(struct h2_peer *p) {
  char room[32];
  struct buf b = buf_of(room, sizeof(room));
  h2_write_ping(&b, false, SPAN_LIT("12345678"));
  put(p, &b);
}

/* ---- what weir sends ---- */

/* acknowledged: from here on weir goes by the oldest SETTINGS that it has not answered. */
static void acknowledged(struct h2_peer *p) {
  if (p->change_count == 0) {
    if (!p->wild) fault(p, "SETTINGS ACK for nothing", 0);
    return;
  }
  struct h2_peer_change c = p->changes[p->change_first++ % H2_PEER_CHANGES];
  p->change_count--;
  if (c.max_frame != UINT32_MAX) p->max_frame = c.max_frame;
  if (c.table != UINT32_MAX)
    hpack_decoder_set(&p->decoder, c.table < HPACK_TABLE_MAX ? c.table : HPACK_TABLE_MAX);
  if (c.window == UINT32_MAX) return;
  for (uint32_t id = 1; id < p->next_id; id += 2)
    h2_peer_find(p, id)->recv_window += (int64_t)c.window - p->window;
  p->window = c.window;
}

static void on_setting(struct h2_peer *p, const struct h2_item *item) {
  struct h2_refusal why;
  uint32_t before = p->theirs.initial_window_size;
  if (!h2_settings_set(&p->theirs, true, item->id, item->value, &why)) fault(p, "a setting", 0);
  for (uint32_t id = 1; id < p->next_id; id += 2)
    h2_peer_find(p, id)->send_window += (int64_t)p->theirs.initial_window_size - before;
}

static void on_settings(struct h2_peer *p) {
  char room[16];
  struct buf b = buf_of(room, sizeof(room));
  p->settings++;
  if (p->scanner.frame.flags & H2_FLAG_ACK) {
    acknowledged(p);
    return;
  }
  h2_write_settings_ack(&b);
  put(p, &b);
}

static struct h2_peer_stream *live(struct h2_peer *p, const char *what) {
  uint32_t id = p->scanner.frame.stream;
  struct h2_peer_stream *st = h2_peer_find(p, id);
  if (!st) fault(p, what, id);
  else if (st->reset) fault(p, "a frame behind RST_STREAM", id);
  else if (st->ended) fault(p, "a frame behind END_STREAM", id);
  else return st;
  return NULL;
}

static void ended(struct h2_peer *p, struct h2_peer_stream *st) {
  if (!st->headed) fault(p, "END_STREAM without a head", st->id);
  st->ended = true;
  if (p->on_end) p->on_end(p, st);
}

static void data_frame(struct h2_peer *p) {
  const struct h2_frame *f = &p->scanner.frame;
  struct h2_peer_stream *st = live(p, "DATA of a stream that is idle");
  p->recv_window -= f->length;
  if (p->recv_window < 0) fault(p, "beyond the window of the connection", f->stream);
  if (f->length > p->max_frame) fault(p, "larger than the frames that we take", f->stream);
  if (!st) return;
  if (!st->headed) fault(p, "DATA before the head", f->stream);
  st->recv_window -= f->length;
  if (f->length && st->recv_window < 0) fault(p, "beyond the window of the stream", f->stream);
  st->frames++;
  st->order = ++p->data_frames;
}

static void on_data(struct h2_peer *p, const struct h2_item *item) {
  struct h2_peer_stream *st = h2_peer_find(p, p->scanner.frame.stream);
  if (!st) return;
  st->got += item->bytes.len;
  if (p->on_data && item->bytes.len) p->on_data(p, st, item->bytes);
  if (!item->end) return;
  bool end = p->scanner.frame.flags & H2_FLAG_END_STREAM;
  uint32_t len = p->scanner.frame.length;
  if (p->auto_window && len) h2_peer_window(p, 0, len);
  if (p->auto_window && len && !end && !st->cancelled) h2_peer_window(p, st->id, len);
  if (end && !st->ended) ended(p, st);
}

static void on_fragment(struct h2_peer *p, const struct h2_item *item) {
  const struct h2_frame *f = &p->scanner.frame;
  bool last = item->end && f->flags & H2_FLAG_END_HEADERS;
  enum hpack_result r = hpack_decode(&p->decoder, &p->block, item->bytes, last);
  if (r == HPACK_MORE) return;
  struct h2_peer_stream *st = h2_peer_find(p, f->stream);
  if (r != HPACK_DONE) fault(p, "a field section that does not decode", f->stream);
  if (r != HPACK_DONE || !st) return;
  uint64_t status = 0;
  if (st->headed) {
    st->trailers = true;
    if (!p->block_end || p->block.present) fault(p, "trailers", f->stream);
  } else if (!span_u64(p->block.pseudo[HPACK_PSEUDO_STATUS], &status) || status < 100) {
    fault(p, "a head without :status", f->stream);
  } else if (status < 200) {
    st->interims++;
    if (p->block_end) fault(p, "an interim head that ends the stream", f->stream);
  } else {
    st->status = (uint32_t)status;
    st->headed = true;
  }
  if (p->on_head) p->on_head(p, st);
  if (p->block_end) ended(p, st);
}

static void frame(struct h2_peer *p) {
  const struct h2_frame *f = &p->scanner.frame;
  if (p->settings == 0 && f->type != H2_SETTINGS) fault(p, "not SETTINGS at first", f->stream);
  if (f->length > p->max_frame) fault(p, "a frame that is too long", f->stream);
  if (f->type == H2_DATA) data_frame(p);
  if (f->type != H2_HEADERS) return;
  (void)live(p, "a head of a stream that is idle");
  arena_reset(&p->arena);
  hpack_block_init(&p->block, &wide, &p->arena);
  p->block_end = f->flags & H2_FLAG_END_STREAM;
}

static void on_reset(struct h2_peer *p, const struct h2_item *item) {
  uint32_t id = p->scanner.frame.stream;
  struct h2_peer_stream *st = h2_peer_find(p, id);
  p->resets++;
  if (!st) {
    if (!p->wild) fault(p, "RST_STREAM of a stream that is idle", id);
    return;
  }
  bool again = st->reset;
  st->reset = true;
  st->reset_code = item->value;
  if (p->on_end && !again && !st->ended) p->on_end(p, st);
}

static void on_window_update(struct h2_peer *p, const struct h2_item *item) {
  uint32_t id = p->scanner.frame.stream;
  struct h2_peer_stream *st = h2_peer_find(p, id);
  int64_t *window = id ? st ? &st->send_window : NULL : &p->send_window;
  p->window_updates++;
  if (!window) {
    fault(p, "WINDOW_UPDATE of a stream that is idle", id);
    return;
  }
  *window += item->value;
  if (*window > INT32_MAX) fault(p, "a window that is too large", id);
}

static void on_goaway(struct h2_peer *p, const struct h2_item *item) {
  if (p->goaways && item->id > p->goaway_last) fault(p, "GOAWAY with a higher number", item->id);
  p->goaways++;
  p->goaway_last = item->id;
  p->goaway_code = item->value;
}

static void on_ping(struct h2_peer *p, const struct h2_item *item) {
  char room[32];
  struct buf b = buf_of(room, sizeof(room));
  if (p->scanner.frame.flags & H2_FLAG_ACK) {
    p->pings++;
    return;
  }
  h2_write_ping(&b, true, item->bytes);
  put(p, &b);
}

static void on_error(struct h2_peer *p, const struct h2_item *item) {
  char text[100];
  (void)snprintf(text, sizeof(text), "frames that do not parse: " SPAN_FMT,
                 SPAN_ARG(item->reason));
  fault(p, text, p->scanner.frame.stream);
}

static void on_item(struct h2_peer *p, enum h2_event event, const struct h2_item *item) {
  switch (event) {
    case H2_EVENT_FRAME: frame(p); break;
    case H2_EVENT_DATA: on_data(p, item); break;
    case H2_EVENT_FRAGMENT: on_fragment(p, item); break;
    case H2_EVENT_SETTING: on_setting(p, item); break;
    case H2_EVENT_SETTINGS: on_settings(p); break;
    case H2_EVENT_RST_STREAM: on_reset(p, item); break;
    case H2_EVENT_PING: on_ping(p, item); break;
    case H2_EVENT_GOAWAY: on_goaway(p, item); break;
    case H2_EVENT_WINDOW_UPDATE: on_window_update(p, item); break;
    case H2_EVENT_STREAM_ERROR:
    case H2_EVENT_CONNECTION_ERROR: on_error(p, item); break;
    case H2_EVENT_PRIORITY:
    case H2_EVENT_PRIORITY_UPDATE: fault(p, "a frame that only clients send", 0); break;
    case H2_EVENT_MORE: break;
  }
}

void h2_peer_read(struct h2_peer *p, struct span bytes) {
  while (!p->fault[0]) {
    struct h2_item item;
    size_t used = 0;
    enum h2_event event = h2_frame_scan(&p->scanner, bytes, &used, &item);
    bytes = span_from(bytes, used);
    if (event == H2_EVENT_MORE) return;
    on_item(p, event, &item);
  }
}
