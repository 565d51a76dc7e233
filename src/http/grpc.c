/* grpc.c: calls, deadlines, statuses of gRPC (grpc.h, grpc.def). Called by proxy/grpc.c, which
 * knows when. PROTOCOL-HTTP2: Requests, Responses, Errors. */
#include "weir/http/grpc.h"

#include "weir/http/h2_frame.h"

bool grpc_is(struct span content_type) {
  struct span word = SPAN_LIT("application/grpc");
  if (!span_eq_nocase(span_sub(content_type, 0, word.len), word)) return false;
  if (content_type.len == word.len) return true;
  char next = content_type.ptr[word.len];
  return next == '+' || next == ';' || next == ' ' || next == '\t';
}

/* ---- deadlines ---- */

enum { DIGITS_MAX = 8 };

/* unit_us is the length of a unit in microseconds; 0: of a nanosecond; UINT64_MAX: it is none. */
static uint64_t unit_us(char unit) {
  switch (unit) {
    case 'H': return UINT64_C(3600) * 1000000;
    case 'M': return UINT64_C(60) * 1000000;
    case 'S': return 1000000;
    case 'm': return 1000;
    case 'u': return 1;
    case 'n': return 0;
    default: return UINT64_MAX;
  }
}

/* up divides and rounds up. */
static uint64_t up(uint64_t value, uint64_t by) { return value / by + (value % by != 0); }

bool grpc_timeout_parse(struct span text, uint64_t *ms) {
  uint64_t value = 0;
  if (text.len < 2 || text.len > DIGITS_MAX + 1) return false;
  uint64_t us = unit_us(text.ptr[text.len - 1]);
  if (us == UINT64_MAX || !span_u64(span_sub(text, 0, text.len - 1), &value)) return false;
  uint64_t whole = us ? up(value * us, 1000) : up(value, 1000000);
  *ms = whole < GRPC_TIMEOUT_MAX_MS ? whole : GRPC_TIMEOUT_MAX_MS;
  return true;
}

void grpc_timeout_write(uint64_t ms, struct buf *out) {
  bool seconds = ms > 99999999;
  if (ms > GRPC_TIMEOUT_MAX_MS) ms = GRPC_TIMEOUT_MAX_MS;
  buf_u64(out, seconds ? ms / 1000 : ms ? ms : 1);
  buf_char(out, seconds ? 'S' : 'm');
}
_Static_assert(GRPC_TIMEOUT_MAX_MS / 1000 <= 99999999, "eight digits of seconds");

/* ---- statuses ---- */

static const struct {
  struct span word;
  bool bad;
} rows[GRPC_STATUS_COUNT] = {
#define GRPC(id, number, text, is_bad) \
  [number] = {.word = {text, sizeof(text) - 1}, .bad = is_bad},
#include "weir/http/grpc.def"
};

static const struct {
  uint16_t status;
  uint8_t theirs, ours;
} of_http[] = {
#define GRPC_HTTP(status, theirs, ours) {status, GRPC_##theirs, GRPC_##ours},
#include "weir/http/grpc.def"
};

static const struct {
  uint32_t code;
  uint8_t status;
} of_reset[] = {
#define GRPC_RESET(code, status) {H2_##code, GRPC_##status},
#include "weir/http/grpc.def"
};

enum grpc_status grpc_status_parse(struct span text) {
  uint64_t value = 0;
  bool code = text.len <= 2 && span_u64(text, &value) && value < GRPC_STATUS_COUNT;
  return code ? (enum grpc_status)value : GRPC_UNKNOWN;
}

struct span grpc_status_word(enum grpc_status status) {
  check((unsigned)status < GRPC_STATUS_COUNT);
  return rows[status].word;
}

bool grpc_status_bad(enum grpc_status status) {
  check((unsigned)status < GRPC_STATUS_COUNT);
  return rows[status].bad;
}

enum grpc_status grpc_status_of_http(unsigned status) {
  for (size_t i = 0; i < array_count(of_http); i++)
    if (of_http[i].status == status) return (enum grpc_status)of_http[i].theirs;
  return GRPC_UNKNOWN;
}

/* gone: an endpoint that takes no connection, or says nothing for long, is one that is not there:
 * another may be. Only a deadline that is the call's own, or its route's, was exceeded by it. */
static bool gone(enum end end, unsigned status) {
  bool deadline = end == END_CLIENT_DEADLINE || end == END_ROUTE_TIMEOUT;
  return status == 504 && end != END_OK && !deadline;
}

/* large: metadata beyond the limits is not smaller the next time. gRPC's own word for that, which
 * callers do not try again for, as they do for 502. */
static bool large(enum end end) {
  return end == END_BAD_RESPONSE_HEADER_BYTES || end == END_BAD_RESPONSE_HEADERS;
}

enum grpc_status grpc_status_of_end(enum end end, unsigned status) {
  if (gone(end, status)) return GRPC_UNAVAILABLE;
  if (large(end)) return GRPC_RESOURCE_EXHAUSTED;
  for (size_t i = 0; i < array_count(of_http); i++)
    if (of_http[i].status == status) return (enum grpc_status)of_http[i].ours;
  return GRPC_UNKNOWN;
}

enum grpc_status grpc_status_of_reset(uint32_t code) {
  for (size_t i = 0; i < array_count(of_reset); i++)
    if (of_reset[i].code == code) return (enum grpc_status)of_reset[i].status;
  return GRPC_INTERNAL;
}

/* ---- messages ---- */

void grpc_message_write(struct span text, struct buf *out) {
  static const char hex[] = "0123456789ABCDEF";
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    if (c >= 0x20 && c <= 0x7e && c != '%') {
      buf_char(out, (char)c);
      continue;
    }
    buf_char(out, '%');
    buf_char(out, hex[c >> 4]);
    buf_char(out, hex[c & 15]);
  }
}
