/* h2_frame.c: HTTP/2 frames read as they come (RFC 9113 sections 4 and 6, RFC 9218 section 7.1),
 * by the table h2_frame.def. Payloads that can be long are given in runs of the input; what is
 * read whole is gathered in the scanner. Checks what a frame says of itself and the order of field
 * blocks; knows no stream states, windows or budgets. Called by the h2 connections of proxy/. */
#include "weir/http/h2_frame.h"

enum { ANY = UINT32_MAX, ROW_LEN = 6, PRIORITY_LEN = 5, STREAM_ID_LEN = 4 };
/* GOAWAY_LEN is what is read of one at most. */
enum { GOAWAY_LEN = 2 * STREAM_ID_LEN + H2_GOAWAY_WHY_MAX };

enum stream_rule { ZERO, SOME, EITHER };

/* body is how a payload is read. */
enum body { SKIP, RUNS, ROWS, VALUE };

/* frame_row is a row of h2_frame.def. */
struct frame_row {
  struct span name;
  uint32_t least, most, unit;
  uint8_t stream; /* enum stream_rule */
  uint8_t flags;
  uint8_t body; /* enum body */
};

#define F_ACK H2_FLAG_ACK
#define F_END_STREAM H2_FLAG_END_STREAM
#define F_END_HEADERS H2_FLAG_END_HEADERS
#define F_PADDED H2_FLAG_PADDED
#define F_PRIORITY H2_FLAG_PRIORITY

static const struct frame_row rows[] = {
#define FRAME(id, type, text, low, high, multiple, rule, set, how) \
  [type] = {.name = {text, sizeof(text) - 1}, \
            .least = (low), \
            .most = (high), \
            .unit = (multiple), \
            .stream = (rule), \
            .flags = (set), \
            .body = (how)},
#include "weir/http/h2_frame.def"
#undef FRAME
};

/* unknown is any type that is not in the table: skipped, wherever it stands (section 4.1). */
static const struct frame_row unknown = {
    .most = ANY, .unit = 1, .stream = EITHER, .flags = 0, .body = SKIP};

enum step {
  STEP_PREFACE,
  STEP_HEAD,    /* nine bytes */
  STEP_PREFIX,  /* padding length and priority */
  STEP_FAULT,   /* a stream error to be told */
  STEP_BODY,    /* as the row says */
  STEP_PADDING, /* after the last run */
  STEP_SKIP,
};

/* fault is what can be wrong. Those that name no stream end the connection. */
enum fault {
  FAULT_NONE,
#define FAULT(id, event, error, text) FAULT_##id,
#include "h2_frame_fault.def"
#undef FAULT
};

struct fault_row {
  uint8_t event; /* enum h2_event */
  uint8_t error; /* enum h2_error */
  struct span reason;
};

static const struct fault_row faults[] = {
#define FAULT(id, kind, code, text) \
  [FAULT_## \
      id] = {.event = H2_EVENT_##kind, .error = H2_##code, .reason = {text, sizeof(text) - 1}},
#include "h2_frame_fault.def"
#undef FAULT
};

/* reader is one call. */
struct reader {
  struct h2_scanner *s;
  struct span in;
  size_t at;
  struct h2_item *item;
  enum h2_event event; /* of TURN_ITEM */
};

/* turn is what one step did. */
enum turn {
  TURN_MORE, /* the input is used up */
  TURN_ON,   /* the next step goes on */
  TURN_ITEM, /* an item is made */
};

static const struct frame_row *row_of(unsigned type) {
  if (type >= array_count(rows) || rows[type].name.len == 0) return &unknown;
  return &rows[type];
}

static uint32_t be32(const char *p) {
  const unsigned char *u = (const unsigned char *)p;
  return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static uint32_t be31(const char *p) { return be32(p) & H2_STREAM_MAX; }

static enum turn give(struct reader *r, enum h2_event event) {
  r->event = event;
  return TURN_ITEM;
}

static enum turn refuse(struct reader *r, enum fault fault) {
  r->item->error = (enum h2_error)faults[fault].error;
  r->item->reason = faults[fault].reason;
  return give(r, (enum h2_event)faults[fault].event);
}

/* take cuts at most len bytes off the input. */
static struct span take(struct reader *r, size_t len) {
  struct span bytes = span_sub(r->in, r->at, len);
  r->at += bytes.len;
  return bytes;
}

/* gather collects len bytes in held; false: not all are there yet. */
static bool gather(struct reader *r, size_t len) {
  struct h2_scanner *s = r->s;
  check(len <= sizeof(s->held) && s->held_len <= len);
  struct span bytes = take(r, len - s->held_len);
  if (bytes.len) memcpy(s->held + s->held_len, bytes.ptr, bytes.len);
  s->held_len = (uint8_t)(s->held_len + bytes.len);
  if (s->held_len < len) return false;
  s->held_len = 0;
  return true;
}

static enum turn read_preface(struct reader *r) {
  struct h2_scanner *s = r->s;
  struct span want = span_sub(H2_PREFACE, s->held_len, r->in.len - r->at);
  struct span came = take(r, want.len);
  if (!span_eq(came, want)) return refuse(r, FAULT_PREFACE);
  s->held_len = (uint8_t)(s->held_len + came.len);
  if (s->held_len < H2_PREFACE.len) return TURN_MORE;
  s->held_len = 0;
  s->step = STEP_HEAD;
  return TURN_ON;
}

/* order_fault: what may come here, whatever it is (sections 3.4 and 6.10). */
static enum fault order_fault(const struct h2_scanner *s) {
  const struct h2_frame *f = &s->frame;
  if (!s->settled && (f->type != H2_SETTINGS || f->flags & H2_FLAG_ACK)) return FAULT_FIRST;
  bool continues = f->type == H2_CONTINUATION;
  if (s->block != 0 && (!continues || f->stream != s->block)) return FAULT_BLOCK_BROKEN;
  if (s->block == 0 && continues) return FAULT_NO_BLOCK;
  if (f->type == H2_PUSH_PROMISE) return FAULT_PUSH; /* weir never enables it (section 6.6) */
  if (f->type == H2_PRIORITY_UPDATE && !s->server) return FAULT_PRIORITY_UPDATE_SIDE;
  return FAULT_NONE;
}

/* shape_fault: length and stream, by the table. */
static enum fault shape_fault(const struct h2_scanner *s, const struct frame_row *row) {
  const struct h2_frame *f = &s->frame;
  if (f->length > s->max_frame) return FAULT_LONG;
  if (f->stream == 0 && row->stream == SOME) return FAULT_STREAM_ZERO;
  if (f->stream != 0 && row->stream == ZERO) return FAULT_STREAM_SOME;
  bool fits = f->length >= row->least && f->length <= row->most && f->length % row->unit == 0;
  if (!fits) return f->type == H2_PRIORITY ? FAULT_PRIORITY_LENGTH : FAULT_LENGTH;
  if (f->type == H2_SETTINGS && f->flags & H2_FLAG_ACK && f->length > 0) return FAULT_ACK_LENGTH;
  return FAULT_NONE;
}

/* prefix_len is what stands before the runs of a payload. */
static uint32_t prefix_len(const struct h2_frame *f) {
  bool padded = f->flags & H2_FLAG_PADDED, priority = f->flags & H2_FLAG_PRIORITY;
  return (padded ? 1u : 0u) + (priority ? (uint32_t)PRIORITY_LEN : 0u);
}

static bool is_connection_fault(enum fault fault) {
  return faults[fault].event == H2_EVENT_CONNECTION_ERROR;
}

static enum turn read_head(struct reader *r) {
  struct h2_scanner *s = r->s;
  if (!gather(r, H2_HEAD_LEN)) return TURN_MORE;
  unsigned type = (unsigned char)s->held[3];
  const struct frame_row *row = row_of(type);
  s->frame = (struct h2_frame){.length = be32(s->held) >> 8,
                               .type = (uint8_t)type,
                               .flags = (uint8_t)s->held[4] & row->flags,
                               .stream = be31(s->held + 5)};
  s->left = s->frame.length;
  enum fault fault = order_fault(s);
  if (fault == FAULT_NONE) fault = shape_fault(s, row);
  if (fault == FAULT_NONE && prefix_len(&s->frame) > s->left) fault = FAULT_LENGTH;
  if (is_connection_fault(fault)) return refuse(r, fault);
  s->fault = (uint8_t)fault;
  s->settled = true;
  if (s->frame.type == H2_HEADERS || s->frame.type == H2_CONTINUATION)
    s->block = s->frame.flags & H2_FLAG_END_HEADERS ? 0 : s->frame.stream;
  s->step = STEP_PREFIX;
  return TURN_ON;
}

/* read_prefix ends the head of a frame: padding and priority are known with it. */
static enum turn read_prefix(struct reader *r) {
  struct h2_scanner *s = r->s;
  struct h2_frame *f = &s->frame;
  uint32_t len = prefix_len(f);
  if (!gather(r, len)) return TURN_MORE;
  s->left -= len;
  s->padding = 0;
  if (f->flags & H2_FLAG_PADDED) {
    s->padding = (unsigned char)s->held[0];
    f->padding = (uint16_t)(s->padding + 1);
  }
  if (s->padding > s->left) return refuse(r, FAULT_PADDING);
  s->left -= s->padding;
  if (f->flags & H2_FLAG_PRIORITY && be31(s->held + (len - PRIORITY_LEN)) == f->stream)
    s->fault = FAULT_SELF_DEPENDENCY;
  s->step = s->fault ? STEP_FAULT : STEP_BODY;
  return give(r, H2_EVENT_FRAME);
}

static enum turn tell_fault(struct reader *r) {
  struct h2_scanner *s = r->s;
  enum fault fault = (enum fault)s->fault;
  s->fault = FAULT_NONE;
  s->step = row_of(s->frame.type)->body == RUNS ? STEP_BODY : STEP_SKIP;
  return refuse(r, fault);
}

/* skip_padding takes padding that is there; true: none is left. */
static bool skip_padding(struct reader *r) {
  r->s->padding = (uint16_t)(r->s->padding - take(r, r->s->padding).len);
  return r->s->padding == 0;
}

static enum turn give_run(struct reader *r, struct span bytes, bool end) {
  r->item->bytes = bytes;
  r->item->end = end;
  if (end) r->s->step = STEP_HEAD;
  return give(r, r->s->frame.type == H2_DATA ? H2_EVENT_DATA : H2_EVENT_FRAGMENT);
}

static enum turn read_run(struct reader *r) {
  struct h2_scanner *s = r->s;
  struct span bytes = take(r, s->left);
  if (s->left > 0 && bytes.len == 0) return TURN_MORE;
  s->left -= (uint32_t)bytes.len;
  if (s->left > 0) return give_run(r, bytes, false);
  s->step = STEP_PADDING;
  bool end = skip_padding(r);
  if (end || bytes.len > 0) return give_run(r, bytes, end);
  return TURN_ON;
}

static enum turn read_padding(struct reader *r) {
  return skip_padding(r) ? give_run(r, SPAN_EMPTY, true) : TURN_MORE;
}

static enum turn read_row(struct reader *r) {
  struct h2_scanner *s = r->s;
  if (s->left == 0) {
    s->step = STEP_HEAD;
    return give(r, H2_EVENT_SETTINGS);
  }
  if (!gather(r, ROW_LEN)) return TURN_MORE;
  s->left -= ROW_LEN;
  r->item->id = be32(s->held) >> 16;
  r->item->value = be32(s->held + 2);
  return give(r, H2_EVENT_SETTING);
}

/* value_len is how much of a value's payload is read whole; what follows it is skipped. */
static uint32_t value_len(const struct h2_scanner *s) {
  if (s->frame.type == H2_GOAWAY && s->left > GOAWAY_LEN) return GOAWAY_LEN;
  if (s->left > sizeof(s->held)) return STREAM_ID_LEN; /* PRIORITY_UPDATE */
  return s->left;
}

static enum turn give_window_update(struct reader *r) {
  r->item->value = be31(r->s->held);
  if (r->item->value > 0) return give(r, H2_EVENT_WINDOW_UPDATE);
  return refuse(r, r->s->frame.stream ? FAULT_INCREMENT_STREAM : FAULT_INCREMENT);
}

static enum turn give_priority(struct reader *r) {
  if (be31(r->s->held) == r->s->frame.stream) return refuse(r, FAULT_SELF_DEPENDENCY);
  return give(r, H2_EVENT_PRIORITY);
}

static enum turn give_priority_update(struct reader *r, uint32_t len) {
  r->item->id = be31(r->s->held);
  if (r->item->id == 0) return refuse(r, FAULT_PRIORITY_UPDATE_ZERO);
  r->item->bytes = span_of(r->s->held + STREAM_ID_LEN, len - STREAM_ID_LEN);
  return give(r, H2_EVENT_PRIORITY_UPDATE);
}

static enum turn give_goaway(struct reader *r, uint32_t len) {
  r->item->id = be31(r->s->held);
  r->item->value = be32(r->s->held + STREAM_ID_LEN);
  r->item->bytes = span_of(r->s->held + 2 * STREAM_ID_LEN, len - 2 * STREAM_ID_LEN);
  return give(r, H2_EVENT_GOAWAY);
}

static enum turn read_value(struct reader *r) {
  struct h2_scanner *s = r->s;
  uint32_t len = value_len(s);
  if (!gather(r, len)) return TURN_MORE;
  s->left -= len;
  s->step = s->left > 0 ? STEP_SKIP : STEP_HEAD;
  switch (s->frame.type) {
    case H2_PRIORITY: return give_priority(r);
    case H2_RST_STREAM: r->item->value = be32(s->held); return give(r, H2_EVENT_RST_STREAM);
    case H2_PING: r->item->bytes = span_of(s->held, len); return give(r, H2_EVENT_PING);
    case H2_GOAWAY: return give_goaway(r, len);
    case H2_WINDOW_UPDATE: return give_window_update(r);
    default: return give_priority_update(r, len);
  }
}

static enum turn skip(struct reader *r) {
  r->s->left -= (uint32_t)take(r, r->s->left).len;
  if (r->s->left > 0) return TURN_MORE;
  r->s->step = STEP_HEAD;
  return TURN_ON;
}

static enum turn read_body(struct reader *r) {
  switch ((enum body)row_of(r->s->frame.type)->body) {
    case RUNS: return read_run(r);
    case ROWS: return read_row(r);
    case VALUE: return read_value(r);
    case SKIP: return skip(r);
  }
  return TURN_MORE;
}

static enum turn read_step(struct reader *r) {
  switch ((enum step)r->s->step) {
    case STEP_PREFACE: return read_preface(r);
    case STEP_HEAD: return read_head(r);
    case STEP_PREFIX: return read_prefix(r);
    case STEP_FAULT: return tell_fault(r);
    case STEP_BODY: return read_body(r);
    case STEP_PADDING: return read_padding(r);
    case STEP_SKIP: return skip(r);
  }
  return TURN_MORE;
}

void h2_frame_scan_init(struct h2_scanner *scanner, bool server, uint32_t max_frame) {
  check(max_frame >= H2_FRAME_SIZE_MIN && max_frame <= H2_FRAME_SIZE_MAX);
  *scanner = (struct h2_scanner){.server = server, .max_frame = max_frame};
  scanner->step = server ? STEP_PREFACE : STEP_HEAD;
}

enum h2_event h2_frame_scan(struct h2_scanner *scanner, struct span in, size_t *consumed,
                            struct h2_item *item) {
  struct reader r = {.s = scanner, .in = in, .item = item};
  enum turn turn = TURN_ON;
  *item = (struct h2_item){.bytes = SPAN_EMPTY};
  while (turn == TURN_ON)
    turn = read_step(&r); /* a step that goes on took bytes, or is the last */
  *consumed = r.at;
  return turn == TURN_ITEM ? r.event : H2_EVENT_MORE;
}

enum http_result h2_preface_match(struct span in) {
  struct span came = span_sub(in, 0, H2_PREFACE.len);
  if (!span_starts(H2_PREFACE, came)) return HTTP_BAD;
  return came.len == H2_PREFACE.len ? HTTP_DONE : HTTP_MORE;
}

struct span h2_type_name(unsigned type) {
  return row_of(type)->name;
}

struct span h2_error_name(uint32_t code) {
  static const struct span names[] = {
#define ERROR(id, number, text) [number] = {text, sizeof(text) - 1},
#include "weir/http/h2_error.def"
#undef ERROR
  };
  return code < array_count(names) ? names[code] : SPAN_EMPTY;
}

void h2_error_write(struct buf *b, uint32_t code) {
  struct span name = h2_error_name(code);
  buf_put(b, name.len ? name : SPAN_LIT("0x"));
  if (!name.len) buf_hex(b, code);
}

bool h2_window_shift(int32_t *window, uint32_t from, uint32_t to) {
  int64_t sum = (int64_t)*window - from + to;
  if (sum > INT32_MAX || sum < INT32_MIN) return false;
  *window = (int32_t)sum;
  return true;
}

bool h2_window_add(int32_t *window, uint32_t increment) {
  return h2_window_shift(window, 0, increment);
}

bool h2_window_take(int32_t *window, uint32_t len) {
  if (len > H2_FRAME_SIZE_MAX || *window < (int32_t)len) return len == 0;
  *window -= (int32_t)len;
  return true;
}
