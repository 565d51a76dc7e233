/* h2_trace.h: the items of the frame scanner as text, runs of one frame put together, so that two
 * ways to cut the same bytes can be compared. Checks what holds of every item on its way. Used by
 * test_h2_frame.c and fuzz_h2_frame.c. */
#ifndef WEIR_TESTS_H2_TRACE_H
#define WEIR_TESTS_H2_TRACE_H

#include "weir/base/buf.h"
#include "weir/base/hash.h"
#include "weir/http/h2_frame.h"

/* h2_trace is one reading of a connection's bytes. */
struct h2_trace {
  struct h2_scanner scanner;
  struct text text;
  uint32_t run_len; /* bytes of the open frame's runs */
  bool run_open, failed;
  size_t used;
};

static inline void h2_trace_hex(struct text *t, struct span bytes) {
  for (size_t i = 0; i < bytes.len; i++) text_printf(t, "%02x", (unsigned char)bytes.ptr[i]);
}

static inline void h2_trace_run(struct h2_trace *t, char kind, const struct h2_item *item,
                                struct span view) {
  check(item->bytes.len == 0 ||
        (item->bytes.ptr >= view.ptr && item->bytes.ptr + item->bytes.len <= view.ptr + view.len));
  if (!t->run_open) text_printf(&t->text, " %c", kind);
  t->run_open = !item->end;
  t->run_len += (uint32_t)item->bytes.len;
  check(t->run_len <= t->scanner.frame.length);
  h2_trace_hex(&t->text, item->bytes);
  if (!item->end) return;
  uint32_t prefix = t->scanner.frame.flags & H2_FLAG_PRIORITY ? 5 : 0;
  check(t->run_len + t->scanner.frame.padding + prefix == t->scanner.frame.length);
  text_lit(&t->text, ".");
}

static inline void h2_trace_frame(struct h2_trace *t) {
  const struct h2_frame *f = &t->scanner.frame;
  check(!t->run_open && f->length <= t->scanner.max_frame && f->padding <= f->length);
  t->run_len = 0;
  if (t->text.len) text_lit(&t->text, " ");
  if (h2_type_name(f->type).len)
    text_put(&t->text, h2_type_name(f->type));
  else
    text_printf(&t->text, "%02x", f->type);
  text_printf(&t->text, "/%u", f->stream);
  if (f->flags) text_printf(&t->text, " f%02x", f->flags);
  if (f->padding) text_printf(&t->text, " pad%u", f->padding);
}

static inline void h2_trace_error(struct h2_trace *t, bool stream, const struct h2_item *item) {
  if (t->text.len) text_lit(&t->text, " ");
  text_lit(&t->text, "!");
  if (stream) text_lit(&t->text, "stream ");
  text_put(&t->text, h2_error_name(item->error));
  text_lit(&t->text, ": ");
  text_put(&t->text, item->reason);
  check(item->reason.len > 0);
  if (!stream) t->failed = true;
}

static inline void h2_trace_item(struct h2_trace *t, enum h2_event event,
                                 const struct h2_item *item, struct span view) {
  struct text *out = &t->text;
  check(!t->run_open || event == H2_EVENT_DATA || event == H2_EVENT_FRAGMENT);
  switch (event) {
    case H2_EVENT_MORE: check(false); break;
    case H2_EVENT_FRAME: h2_trace_frame(t); break;
    case H2_EVENT_DATA: h2_trace_run(t, '=', item, view); break;
    case H2_EVENT_FRAGMENT: h2_trace_run(t, '#', item, view); break;
    case H2_EVENT_SETTING: text_printf(out, " %u=%u", item->id, item->value); break;
    case H2_EVENT_SETTINGS: text_lit(out, " ."); break;
    case H2_EVENT_PRIORITY: text_lit(out, " ."); break;
    case H2_EVENT_RST_STREAM:
    case H2_EVENT_WINDOW_UPDATE: text_printf(out, " %u", item->value); break;
    case H2_EVENT_PING:
      check(item->bytes.len == 8);
      text_lit(out, " ");
      h2_trace_hex(out, item->bytes);
      break;
    case H2_EVENT_GOAWAY:
      text_printf(out, " %u %u", item->id, item->value);
      if (!item->bytes.len) break;
      text_lit(out, " '");
      text_put(out, item->bytes);
      text_lit(out, "'");
      break;
    case H2_EVENT_PRIORITY_UPDATE:
      text_printf(out, " %u '", item->id);
      text_put(out, item->bytes);
      text_lit(out, "'");
      break;
    case H2_EVENT_STREAM_ERROR: h2_trace_error(t, true, item); break;
    case H2_EVENT_CONNECTION_ERROR: h2_trace_error(t, false, item); break;
  }
}

/* h2_trace_read reads in by pieces of at most `piece` bytes (0: random, by *seed). The text is the
 * caller's to free. */
static inline struct h2_trace h2_trace_read(bool server, struct span in, size_t piece,
                                            uint64_t *seed) {
  struct h2_trace t = {.text = {0}};
  uint32_t idle = 0;
  h2_frame_scan_init(&t.scanner, server, H2_FRAME_SIZE_MIN);
  for (bool last = false; !t.failed && !last;) {
    struct span view = span_sub(in, t.used, piece ? piece : 1 + rng_next(seed) % 19);
    size_t consumed = SIZE_MAX;
    struct h2_item item;
    enum h2_event event = h2_frame_scan(&t.scanner, view, &consumed, &item);
    check(consumed <= view.len && (event != H2_EVENT_MORE || consumed == view.len));
    idle = consumed == 0 ? idle + 1 : 0;
    check(idle <= 3); /* an item that takes nothing, or the end of the input */
    t.used += consumed;
    last = event == H2_EVENT_MORE && t.used == in.len;
    if (event != H2_EVENT_MORE) h2_trace_item(&t, event, &item, view);
  }
  return t;
}

#endif
