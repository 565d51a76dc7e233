/* access.c: access lines (JSON with OpenTelemetry names, or text like the combined format) and
 * event lines, from binary records. Runs in the log thread; the rows are in access.def. Does not:
 * write anything out, or decide what is logged. */
#include <time.h>

#include "control/log_priv.h"

#define NEVER UINT64_MAX

bool access_view_init(struct access_view *v, struct span record) {
  if (record.len < sizeof(struct record_access)) {
    return false;
  }
  v->rec = (const struct record_access *)(const void *)record.ptr;
  size_t at = sizeof(struct record_access);
  for (int i = 0; i < TEXT_COUNT; i++) {
    size_t len = v->rec->text_len[i];
    if (len > record.len - at) {
      return false;
    }
    v->text[i] = span_sub(record, at, len);
    at += len;
  }
  return v->rec->end < END_COUNT;
}

/* ---- time: the part up to the second is kept, lines come in about the same second ---- */

struct stamp {
  uint64_t second;
  char json[24]; /* 2026-11-20T23:15:00. */
  char text[32]; /* 20/Nov/2026:23:15:00 +0000 */
};

static const struct stamp *stamp_get(uint64_t wall_ms) {
  static _Thread_local struct stamp stamp = {.second = NEVER};
  uint64_t second = wall_ms / 1000;
  if (stamp.second != second) {
    time_t t = (time_t)second;
    struct tm tm;
    gmtime_r(&t, &tm);
    (void)strftime(stamp.json, sizeof stamp.json, "%Y-%m-%dT%H:%M:%S.", &tm);
    (void)strftime(stamp.text, sizeof stamp.text, "%d/%b/%Y:%H:%M:%S +0000", &tm);
    stamp.second = second;
  }
  return &stamp;
}

static void put_three(struct buf *out, uint64_t v) {
  buf_char(out, (char)('0' + v / 100 % 10));
  buf_char(out, (char)('0' + v / 10 % 10));
  buf_char(out, (char)('0' + v % 10));
}

static void put_time(struct buf *out, uint64_t wall_ms) {
  buf_put(out, span_str(stamp_get(wall_ms)->json));
  put_three(out, wall_ms % 1000);
  buf_char(out, 'Z');
}

static void put_ms(struct buf *out, uint64_t ns) {
  buf_u64(out, ns / 1000000);
  buf_char(out, '.');
  put_three(out, ns / 1000 % 1000);
}

/* ---- JSON ---- */

static void key(struct buf *out, struct span name) {
  if (out->len && out->ptr[out->len - 1] != '{') {
    buf_char(out, ',');
  }
  buf_char(out, '"');
  buf_put(out, name);
  buf_lit(out, "\":");
}

static void string(struct buf *out, struct span name, struct span value) {
  if (value.len) {
    key(out, name);
    buf_char(out, '"');
    buf_json(out, value);
    if (value.len >= RECORD_TEXT_MAX) {
      buf_lit(out, "..."); /* it was cut */
    }
    buf_char(out, '"');
  }
}

static void number(struct buf *out, struct span name, uint64_t value) {
  key(out, name);
  buf_u64(out, value);
}

static void duration(struct buf *out, struct span name, uint64_t ns) {
  if (ns != NEVER) {
    key(out, name);
    put_ms(out, ns);
  }
}

static void write_time(struct buf *out, const struct access_view *v) {
  key(out, SPAN_LIT("time"));
  buf_char(out, '"');
  put_time(out, v->rec->wall_ms);
  buf_char(out, '"');
}

static void write_query(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & RECORD_HAS_QUERY) {
    key(out, SPAN_LIT("url.query"));
    buf_char(out, '"');
    buf_json(out, v->text[TEXT_QUERY]);
    buf_char(out, '"');
  }
}

static void write_status(struct buf *out, const struct access_view *v) {
  if (v->rec->status) {
    number(out, SPAN_LIT("http.response.status_code"), v->rec->status);
  }
}

static void write_grpc(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & RECORD_GRPC) {
    string(out, SPAN_LIT("rpc.system"), SPAN_LIT("grpc"));
    number(out, SPAN_LIT("rpc.grpc.status_code"), v->rec->grpc_status);
  }
}

static struct span version_text(uint8_t version) {
  return version == 2 ? SPAN_LIT("2") : version ? SPAN_LIT("1.1") : SPAN_LIT("1.0");
}

static void write_protocol(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & RECORD_UDP) {
    string(out, SPAN_LIT("network.protocol.name"), SPAN_LIT("udp"));
    return;
  }
  if (v->rec->flags & RECORD_TCP) {
    string(out, SPAN_LIT("network.protocol.name"), SPAN_LIT("tcp"));
    return;
  }
  string(out, SPAN_LIT("network.protocol.name"), SPAN_LIT("http"));
  if (v->rec->minor != RECORD_NO_VERSION) {
    string(out, SPAN_LIT("network.protocol.version"), version_text(v->rec->minor));
  }
}

static void write_upstream(struct buf *out, const struct access_view *v) {
  if (v->rec->upstream) {
    string(out, SPAN_LIT("weir.upstream.protocol"), version_text(v->rec->upstream));
  }
}

static void write_peer(struct buf *out, const struct access_view *v) {
  char ip[64];
  struct buf b = buf_of(ip, sizeof ip);
  if (v->rec->peer.len) {
    addr_write_ip(&v->rec->peer, &b);
    string(out, SPAN_LIT("network.peer.address"), buf_span(&b));
  }
  bool session = v->rec->flags & (RECORD_TCP | RECORD_UDP);
  bool bare = session || !v->text[TEXT_METHOD].len; /* nothing else tells them apart */
  if (bare && v->rec->peer.len && v->rec->peer.sa.sa_family != AF_UNIX)
    number(out, SPAN_LIT("network.peer.port"), addr_port(&v->rec->peer));
}

static void write_datagrams(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & RECORD_UDP) {
    number(out, SPAN_LIT("weir.datagrams.received"), v->rec->datagrams_in);
    number(out, SPAN_LIT("weir.datagrams.sent"), v->rec->datagrams_out);
  }
}

/* Of TCP and UDP: what was passed on from the client, and to it. */
static void write_bytes(struct buf *out, const struct access_view *v) {
  bool tcp = v->rec->flags & (RECORD_TCP | RECORD_UDP);
  number(out, tcp ? SPAN_LIT("weir.bytes.received") : SPAN_LIT("http.request.body.size"),
         v->rec->request_bytes);
  number(out, tcp ? SPAN_LIT("weir.bytes.sent") : SPAN_LIT("http.response.body.size"),
         v->rec->response_bytes);
}

static void write_resumed(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & RECORD_TLS) {
    key(out, SPAN_LIT("tls.resumed"));
    buf_put(out, v->rec->flags & RECORD_TLS_RESUMED ? SPAN_LIT("true") : SPAN_LIT("false"));
  }
  if (v->rec->tls & RECORD_ECH) {
    key(out, SPAN_LIT("tls.ech"));
    buf_lit(out, "true");
  }
  if (v->rec->tls & RECORD_EARLY) {
    key(out, SPAN_LIT("tls.early_data"));
    buf_lit(out, "true");
  }
}

static bool hex_at(struct span s, size_t from, size_t len) {
  struct span part = span_sub(s, from, len);
  for (size_t i = 0; i < part.len; i++) {
    char c = part.ptr[i];
    if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
      return false;
    }
  }
  return part.len == len;
}

/* TEXT_TRACE is a traceparent as it came: 00-trace id-span id-flags (W3C Trace Context 3.2). One
 * that is malformed is left out. */
static void write_trace(struct buf *out, const struct access_view *v) {
  struct span t = v->text[TEXT_TRACE];
  if (t.len >= 55 && hex_at(t, 0, 2) && t.ptr[2] == '-' && hex_at(t, 3, 32) && t.ptr[35] == '-' &&
      hex_at(t, 36, 16)) {
    string(out, SPAN_LIT("trace_id"), span_sub(t, 3, 32));
    string(out, SPAN_LIT("span_id"), span_sub(t, 36, 16));
  }
}

/* error.type: weir's own cause, else the status of a response that says 5xx. */
static void write_error(struct buf *out, const struct access_view *v) {
  if (v->rec->end != END_OK) {
    string(out, SPAN_LIT("error.type"), end_get((enum end)v->rec->end)->word);
  } else if (v->rec->status >= 500) {
    char digits[8];
    struct buf b = buf_of(digits, sizeof digits);
    buf_u64(&b, v->rec->status);
    string(out, SPAN_LIT("error.type"), buf_span(&b));
  }
}

static void write_attempts(struct buf *out, const struct access_view *v) {
  number(out, SPAN_LIT("weir.attempts"), v->rec->attempts);
}

/* A rate that enforces is the cause itself (weir.end); one that does not is told by dry_run. */
static void write_rate(struct buf *out, const struct access_view *v) {
  if (!v->text[TEXT_RATE].len) {
    return;
  }
  string(out, SPAN_LIT("weir.rate.policy"), v->text[TEXT_RATE]);
  key(out, SPAN_LIT("weir.rate.dry_run"));
  buf_put(out, v->rec->end == END_LIMIT_RATE ? SPAN_LIT("false") : SPAN_LIT("true"));
}

static void write_end(struct buf *out, const struct access_view *v) {
  string(out, SPAN_LIT("weir.end"), end_get((enum end)v->rec->end)->word);
}

void access_write_json(struct buf *out, const struct access_view *v) {
  buf_char(out, '{');
#define ACCESS_TEXT(name, id) string(out, SPAN_LIT(name), v->text[id]);
#define ACCESS_MS(name, member) duration(out, SPAN_LIT(name), v->rec->member);
#define ACCESS_CALL(name) write_##name(out, v);
#include "control/access.def"
#undef ACCESS_TEXT
#undef ACCESS_MS
#undef ACCESS_CALL
  buf_lit(out, "}\n");
}

/* ---- text ---- */

/* In the text form a quote, a backslash and all but printable ASCII is written \xHH, as others do:
 * a request cannot forge a line or a field. */
static void quoted(struct buf *out, struct span s) {
  static const char hex[] = "0123456789abcdef";
  for (size_t i = 0; i < s.len; i++) {
    unsigned char c = (unsigned char)s.ptr[i];
    if (c < 0x20 || c > 0x7e || c == '"' || c == '\\') {
      buf_lit(out, "\\x");
      buf_char(out, hex[c >> 4]);
      buf_char(out, hex[c & 15]);
    } else {
      buf_char(out, (char)c);
    }
  }
}

static void or_dash(struct buf *out, struct span s) {
  if (s.len) {
    quoted(out, s);
  } else {
    buf_char(out, '-');
  }
}

static void pair(struct buf *out, struct span name, struct span value) {
  buf_char(out, ' ');
  buf_put(out, name);
  buf_char(out, '=');
  or_dash(out, value);
}

static void request_line(struct buf *out, const struct access_view *v) {
  if (v->rec->flags & (RECORD_TCP | RECORD_UDP)) {
    buf_put(out, v->rec->flags & RECORD_UDP ? SPAN_LIT("\"UDP\"") : SPAN_LIT("\"TCP\""));
    return;
  }
  buf_char(out, '"');
  or_dash(out, v->text[TEXT_METHOD]);
  buf_char(out, ' ');
  or_dash(out, v->text[TEXT_PATH]);
  if (v->rec->flags & RECORD_HAS_QUERY) {
    buf_char(out, '?');
    quoted(out, v->text[TEXT_QUERY]);
  }
  if (v->rec->minor == RECORD_NO_VERSION) {
    buf_lit(out, " -\"");
    return;
  }
  buf_lit(out, " HTTP/");
  buf_put(out, version_text(v->rec->minor));
  buf_char(out, '"');
}

/* client: whose request it is; of a connection that had none, where that came from. */
static void client(struct buf *out, const struct access_view *v) {
  if (v->text[TEXT_CLIENT].len || !v->rec->peer.len) {
    or_dash(out, v->text[TEXT_CLIENT]);
  } else {
    addr_write_ip(&v->rec->peer, out);
  }
}

/* client - - [time] "request" status bytes "-" "user agent" host= route= endpoint= end= ms= */
void access_write_text(struct buf *out, const struct access_view *v) {
  client(out, v);
  buf_lit(out, " - - [");
  buf_put(out, span_str(stamp_get(v->rec->wall_ms)->text));
  buf_lit(out, "] ");
  request_line(out, v);
  buf_char(out, ' ');
  buf_u64(out, v->rec->status);
  buf_char(out, ' ');
  buf_u64(out, v->rec->response_bytes);
  buf_lit(out, " \"-\" \"");
  or_dash(out, v->text[TEXT_USER_AGENT]);
  buf_char(out, '"');
  pair(out, SPAN_LIT("host"), v->text[TEXT_HOST]);
  pair(out, SPAN_LIT("route"), v->text[TEXT_ROUTE]);
  pair(out, SPAN_LIT("endpoint"), v->text[TEXT_ENDPOINT]);
  pair(out, SPAN_LIT("end"), end_get((enum end)v->rec->end)->word);
  if (v->text[TEXT_REASON].len) {
    buf_lit(out, " reason=\"");
    quoted(out, v->text[TEXT_REASON]);
    buf_char(out, '"');
  }
  buf_lit(out, " ms=");
  put_ms(out, v->rec->total_ns == NEVER ? 0 : v->rec->total_ns);
  buf_char(out, '\n');
}

/* ---- events ---- */

static struct span level_name(uint8_t level) {
  static const struct span names[] = {SPAN_LIT("none"), SPAN_LIT("debug"), SPAN_LIT("info"),
                                      SPAN_LIT("warn"), SPAN_LIT("error")};
  return names[level < array_count(names) ? level : END_LEVEL_ERROR];
}

static void event_json(struct buf *out, const struct record_event *e, struct span text) {
  buf_lit(out, "{\"time\":\"");
  put_time(out, e->wall_ms);
  buf_char(out, '"');
  string(out, SPAN_LIT("level"), level_name(e->level));
  string(out, SPAN_LIT("message"), text);
  if (e->worker != UINT16_MAX) {
    number(out, SPAN_LIT("weir.worker"), e->worker);
  }
  buf_lit(out, "}\n");
}

/* Controls other than line ends could move a terminal's cursor. */
static void event_text(struct buf *out, const struct record_event *e, struct span text) {
  put_time(out, e->wall_ms);
  buf_char(out, ' ');
  buf_put(out, level_name(e->level));
  buf_char(out, ' ');
  for (size_t i = 0; i < text.len; i++) {
    unsigned char c = (unsigned char)text.ptr[i];
    buf_char(out, (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : (char)c);
  }
  buf_char(out, '\n');
}

void event_write(struct buf *out, const struct record_event *e, struct span text, bool json) {
  while (text.len && text.ptr[text.len - 1] == '\n') {
    text.len--;
  }
  if (json) {
    event_json(out, e, text);
  } else {
    event_text(out, e, text);
  }
}
