/* fuzz_h2_frame.c: the frame scanner and writers (http/h2_frame.c, h2_frame_write.c). Byte 0 picks
 * the side, whether preface and SETTINGS are put before the rest, and how it is cut. Checked: the
 * invariants of h2_trace.h, cutting changes nothing, and what was understood reads back the same
 * when the writers write it. Also feeds SETTINGS rows and windows. */
#include "../tests/support/h2_trace.h"
#include "weir/http/h2_settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { ROOM = 1 << 16, ROWS_MAX = 64 };

/* copy is what a reading of frames meant, and the same written anew. */
struct copy {
  struct text meaning;
  struct buf out;
  struct text block; /* fragments of the open field block */
  struct h2_row rows[ROWS_MAX];
  size_t row_count;
  bool server, end_stream;
  struct h2_settings settings;
  int32_t window;
};

static void copy_fragment(struct copy *c, const struct h2_frame *f, const struct h2_item *item) {
  if (f->type == H2_HEADERS) c->end_stream = f->flags & H2_FLAG_END_STREAM;
  text_put(&c->block, item->bytes);
  if (!item->end || !(f->flags & H2_FLAG_END_HEADERS)) return;
  text_printf(&c->meaning, "H%u,%d,", f->stream, c->end_stream);
  h2_trace_hex(&c->meaning, text_span(&c->block));
  h2_write_block(&c->out, f->stream, c->end_stream, text_span(&c->block), H2_FRAME_SIZE_MIN);
  c->block.len = 0;
}

static void copy_data(struct copy *c, const struct h2_frame *f, const struct h2_item *item) {
  bool end = f->flags & H2_FLAG_END_STREAM && item->end;
  text_printf(&c->meaning, "D%u,%d,", f->stream, end);
  h2_trace_hex(&c->meaning, item->bytes);
  h2_write_data_head(&c->out, f->stream, end, (uint32_t)item->bytes.len);
  buf_put(&c->out, item->bytes);
}

static void copy_setting(struct copy *c, const struct h2_item *item) {
  struct h2_settings before = c->settings;
  struct h2_refusal why = {.error = H2_NO_ERROR, .reason = SPAN_EMPTY};
  if (!h2_settings_set(&c->settings, !c->server, item->id, item->value, &why)) {
    check(why.reason.len > 0 && why.error != H2_NO_ERROR);
    check(memcmp(&before, &c->settings, sizeof(before)) == 0);
  }
  check(c->settings.max_frame_size >= H2_FRAME_SIZE_MIN);
  check(c->settings.max_frame_size <= H2_FRAME_SIZE_MAX);
  int64_t moved =
      (int64_t)c->window - before.initial_window_size + c->settings.initial_window_size;
  bool fits = moved >= INT32_MIN && moved <= INT32_MAX;
  check(h2_window_shift(&c->window, before.initial_window_size, c->settings.initial_window_size) ==
        fits);
  check(!fits || c->window == moved);
  if (c->row_count == ROWS_MAX) return;
  c->rows[c->row_count++] = (struct h2_row){(enum h2_setting)item->id, item->value};
}

static void copy_settings(struct copy *c, const struct h2_frame *f) {
  bool ack = f->flags & H2_FLAG_ACK;
  text_printf(&c->meaning, "S%d", ack);
  for (size_t i = 0; i < c->row_count; i++)
    text_printf(&c->meaning, "%u=%u,", c->rows[i].id, c->rows[i].value);
  if (ack)
    h2_write_settings_ack(&c->out);
  else
    h2_write_settings(&c->out, c->rows, c->row_count);
  c->row_count = 0;
}

static void copy_value(struct copy *c, const struct h2_frame *f, enum h2_event event,
                       const struct h2_item *item) {
  if (event == H2_EVENT_RST_STREAM)
    h2_write_rst_stream(&c->out, f->stream, item->value);
  else if (event == H2_EVENT_PING)
    h2_write_ping(&c->out, f->flags & H2_FLAG_ACK, item->bytes);
  else if (event == H2_EVENT_WINDOW_UPDATE)
    h2_write_window_update(&c->out, f->stream, item->value);
  else if (event == H2_EVENT_GOAWAY)
    h2_write_goaway(&c->out, item->id, item->value, item->bytes);
  else
    return;
  text_printf(&c->meaning, "V%d,%u,%u,%u,%u,", event, f->stream, f->flags, item->id, item->value);
  h2_trace_hex(&c->meaning, item->bytes);
}

static void copy_item(struct copy *c, const struct h2_frame *f, enum h2_event event,
                      const struct h2_item *item) {
  if (event == H2_EVENT_FRAGMENT)
    copy_fragment(c, f, item);
  else if (event == H2_EVENT_DATA)
    copy_data(c, f, item);
  else if (event == H2_EVENT_SETTING)
    copy_setting(c, item);
  else if (event == H2_EVENT_SETTINGS)
    copy_settings(c, f);
  else
    copy_value(c, f, event, item);
}

/* copy_of reads in, which is whole, and writes what it said into room. */
static struct copy copy_of(bool server, struct span in, char *room) {
  struct copy c = {.settings = h2_settings_default, .window = 65535, .server = server};
  struct h2_scanner s;
  enum h2_event event = H2_EVENT_FRAME;
  c.out = buf_of(room, ROOM);
  if (server) buf_put(&c.out, H2_PREFACE);
  h2_frame_scan_init(&s, server, H2_FRAME_SIZE_MIN);
  while (event != H2_EVENT_MORE && event != H2_EVENT_CONNECTION_ERROR) {
    struct h2_item item;
    size_t consumed;
    event = h2_frame_scan(&s, in, &consumed, &item);
    in = span_from(in, consumed);
    copy_item(&c, &s.frame, event, &item);
  }
  return c;
}

static void copy_fini(struct copy *c) {
  text_fini(&c->meaning);
  text_fini(&c->block);
}

static void check_round_trip(bool server, struct span in) {
  static char room[2][ROOM];
  struct copy once = copy_of(server, in, room[0]);
  if (!once.out.full) {
    struct copy again = copy_of(server, buf_span(&once.out), room[1]);
    check(span_eq(text_span(&once.meaning), text_span(&again.meaning)));
    check(span_eq(buf_span(&once.out), buf_span(&again.out)));
    copy_fini(&again);
  }
  copy_fini(&once);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  if (len == 0) return 0;
  bool server = data[0] & 1, started = data[0] & 2;
  uint64_t seed = data[0];
  struct text in = {0};
  if (started && server) text_put(&in, H2_PREFACE);
  if (started) text_put(&in, SPAN_LIT("\0\0\0\4\0\0\0\0\0"));
  text_put(&in, span_of((const char *)data + 1, len - 1));
  struct h2_trace whole = h2_trace_read(server, text_span(&in), SIZE_MAX, &seed);
  const size_t pieces[] = {1, 0, (size_t)(data[0] >> 2) + 2};
  for (size_t i = 0; i < array_count(pieces); i++) {
    struct h2_trace cut = h2_trace_read(server, text_span(&in), pieces[i], &seed);
    check(span_eq(text_span(&whole.text), text_span(&cut.text)) && whole.failed == cut.failed);
    check(whole.failed || whole.used == cut.used);
    text_fini(&cut.text);
  }
  check_round_trip(server, text_span(&in));
  text_fini(&whole.text);
  text_fini(&in);
  return 0;
}
