/* probe_h2.c: the talk of a check that is one request over HTTP/2 (RFC 9113): preface, SETTINGS
 * and the request at once, then frames until its stream has a result. What the answer means is
 * probe_judge.c's, of a gRPC call probe_grpc.c's. Everything that an endpoint may send is bounded;
 * whatever it does wrong ends the check, with its reason. Does not: keep the connection, open a
 * second stream, give windows back (they hold all that is looked at). */
#include "control/probe_priv.h"
#include "weir/base/mem.h"
#include "weir/http/grpc.h"
#include "weir/http/h2_message.h"
#include "weir/http/h2_settings.h"
#include "weir/http/hpack.h"

#define STREAM 1u /* of the request */
#define FRAMES_MAX 2048u
#define BYTES_MAX (256u << 10)
#define ECHOES_MAX 100u     /* SETTINGS and PING, which are answered */
#define WINDOW (128u << 10) /* more than PROBE_BODY_MAX: what else may come is cut off anyway */
#define WINDOW_FIRST 65535u /* of a connection (RFC 9113 section 6.9.2) */
#define FIELD_MEMORY (128u << 10)
#define OUT_MAX 24576u /* the request, and ECHOES_MAX answers */

/* probe_h2 is a talk; base comes first. */
struct probe_h2 {
  struct probe_talk base;
  bool grpc;
  bool settled;        /* their SETTINGS have come */
  bool headed;         /* the final head has come */
  bool in_block;       /* a field section is open */
  bool block_last;     /* END_STREAM stood on its HEADERS */
  bool leaving;        /* GOAWAY without an error came */
  uint8_t method;      /* enum http_method */
  enum h2_error error; /* what our GOAWAY will say */
  uint32_t frames, bytes, echoes;
  int32_t conn_window, stream_window;
  struct h2_scanner scanner;
  struct h2_settings theirs;
  struct hpack_decoder decoder;
  struct hpack_block block;
  struct arena arena; /* field rows and what they say */
  struct h2_length length;
  union {
    struct probe_look look;
    struct probe_grpc call;
  };
  struct buf out;
  size_t sent;
  uint32_t in_len;
  char out_bytes[OUT_MAX];
  char in[PROBE_HEAD_MAX];
};

static const struct hpack_limits limits = {.fields = PROBE_FIELDS_MAX,
                                           .list_bytes = PROBE_HEAD_MAX,
                                           .hard_list_bytes = 8 * PROBE_HEAD_MAX,
                                           .block_bytes = 2 * PROBE_HEAD_MAX};

static struct probe_h2 *of(struct probe_talk *talk) { return (struct probe_h2 *)talk; }

/* ---- results ---- */

/* fault ends the check for what HTTP/2 does not allow. */
static bool fault(struct probe_h2 *p, enum h2_error error, struct span reason,
                  struct probe_outcome *out) {
  p->error = error;
  probe_end(out, PROBE_BAD_RESPONSE, "the answer is not good HTTP/2 (" SPAN_FMT ")",
            SPAN_ARG(reason));
  return true;
}

static bool malformed(struct probe_h2 *p, enum end why, struct probe_outcome *out) {
  return fault(p, H2_PROTOCOL_ERROR, end_get(why)->word, out);
}

/* flood ends it for more than we look at. */
static bool flood(struct probe_h2 *p, struct probe_outcome *out, const char *what) {
  p->error = H2_ENHANCE_YOUR_CALM;
  probe_end(out, PROBE_BAD_RESPONSE, "%s", what);
  return true;
}

static bool told(struct probe_outcome *out, const char *what, uint32_t code) {
  struct span name = h2_error_name(code);
  probe_end(out, PROBE_RESET, "%s " SPAN_FMT " (0x%x)", what,
            SPAN_ARG(name.len ? name : SPAN_LIT("of an unknown code")), code);
  return true;
}

/* ---- the message ---- */

static bool ended(struct probe_h2 *p, const struct pool_health *h,
                  const struct http_fields *trailers, struct probe_outcome *out) {
  enum end why;
  if (!h2_length_end(&p->length, &why)) return malformed(p, why, out);
  if (p->grpc)
    probe_grpc_end(&p->call, h, trailers, out);
  else
    probe_lacks(h, out);
  return true;
}

static bool head(struct probe_h2 *p, const struct pool_health *h, struct h2_section *section,
                 struct probe_outcome *out) {
  const struct h2_asked asked = {.method = (enum http_method)p->method};
  struct http_response r;
  enum end why;
  if (!h2_parse_response(section, &asked, &r, &why)) return malformed(p, why, out);
  if (r.status < 200) return false;
  p->headed = true;
  p->base.lacks = "no end of the answer";
  h2_length_init(&p->length, false, r.body, r.content_length);
  if (p->grpc ? probe_grpc_head(&r, out) : probe_status(h, r.status, out)) return true;
  return section->end_stream && ended(p, h, &r.fields, out);
}

static bool trailers(struct probe_h2 *p, const struct pool_health *h, struct h2_section *section,
                     struct probe_outcome *out) {
  enum end why;
  if (!h2_parse_trailers(section, false, &why)) return malformed(p, why, out);
  return ended(p, h, &section->fields, out);
}

/* section_done takes what was decoded; the block has ended. */
static bool section_done(struct probe_h2 *p, const struct pool_health *h,
                         struct probe_outcome *out) {
  const struct hpack_block *b = &p->block;
  struct h2_section section = {.fields = b->fields, .end_stream = p->block_last};
  section.pseudo = (struct h2_pseudo){.present = b->present, .faults = b->faults};
  memcpy(section.pseudo.value, b->pseudo, sizeof b->pseudo);
  bool result = p->headed ? trailers(p, h, &section, out) : head(p, h, &section, out);
  p->in_block = false;
  arena_reset(&p->arena);
  arena_init(&p->arena, NULL, FIELD_MEMORY);
  return result;
}

/* ---- frames ---- */

typedef bool handler(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                     struct probe_outcome *out);

static bool data_frame(struct probe_h2 *p, struct probe_outcome *out) {
  uint32_t length = p->scanner.frame.length;
  if (!p->headed) return fault(p, H2_PROTOCOL_ERROR, SPAN_LIT("DATA before the head"), out);
  if (h2_window_take(&p->conn_window, length) && h2_window_take(&p->stream_window, length))
    return false;
  return fault(p, H2_FLOW_CONTROL_ERROR, SPAN_LIT("DATA beyond the window"), out);
}

static bool headers_frame(struct probe_h2 *p) {
  p->in_block = true;
  p->block_last = p->scanner.frame.flags & H2_FLAG_END_STREAM;
  if (!p->headed) p->base.lacks = "no end of the answer's head";
  hpack_block_init(&p->block, &limits, &p->arena);
  return false;
}

/* on_frame: streams other than ours are nobody's; an endpoint may not open any (no push). */
static bool on_frame(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                     struct probe_outcome *out) {
  const struct h2_frame *f = &p->scanner.frame;
  bool ours = f->stream == STREAM;
  (void)h;
  (void)item;
  if (++p->frames > FRAMES_MAX) return flood(p, out, "more than 2048 frames came with no answer");
  if (f->type == H2_PUSH_PROMISE)
    return fault(p, H2_PROTOCOL_ERROR, SPAN_LIT("PUSH_PROMISE, which was forbidden"), out);
  if ((f->type == H2_DATA || f->type == H2_HEADERS) && !ours)
    return fault(p, H2_PROTOCOL_ERROR, SPAN_LIT("a stream that nobody opened"), out);
  if (f->type == H2_DATA) return data_frame(p, out);
  return f->type == H2_HEADERS && headers_frame(p);
}

static bool on_data(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                    struct probe_outcome *out) {
  enum end why;
  if (!h2_length_take(&p->length, item->bytes.len, &why)) return malformed(p, why, out);
  if (p->grpc ? probe_grpc_data(&p->call, item->bytes, out)
              : probe_look_at(&p->look, h, item->bytes, out))
    return true;
  bool last = item->end && p->scanner.frame.flags & H2_FLAG_END_STREAM;
  return last && ended(p, h, NULL, out);
}

static bool on_fragment(struct probe_h2 *p, const struct pool_health *h,
                        const struct h2_item *item, struct probe_outcome *out) {
  bool last = item->end && p->scanner.frame.flags & H2_FLAG_END_HEADERS;
  switch (hpack_decode(&p->decoder, &p->block, item->bytes, last)) {
    case HPACK_MORE: return false;
    case HPACK_DONE:
    case HPACK_MALFORMED: return section_done(p, h, out); /* h2_message says what is wrong */
    case HPACK_TOO_LARGE:
    case HPACK_FLOOD:
      return flood(p, out, "the head of the answer is longer than 16 KiB, or 200 fields");
    case HPACK_BAD: return fault(p, H2_COMPRESSION_ERROR, SPAN_LIT("COMPRESSION_ERROR"), out);
    case HPACK_NO_MEMORY: break;
  }
  probe_end(out, PROBE_SKIPPED, "not checked: no memory was left");
  return true;
}

static bool on_setting(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                       struct probe_outcome *out) {
  struct h2_refusal why;
  (void)h;
  if (h2_settings_set(&p->theirs, true, item->id, item->value, &why)) return false;
  return fault(p, why.error, why.reason, out);
}

static bool echo(struct probe_h2 *p, struct probe_outcome *out) {
  return ++p->echoes > ECHOES_MAX &&
         flood(p, out, "more than 100 frames came that ask for an answer of ours");
}

static bool on_settings(struct probe_h2 *p, const struct pool_health *h,
                        const struct h2_item *item, struct probe_outcome *out) {
  (void)h;
  (void)item;
  if (p->scanner.frame.flags & H2_FLAG_ACK) return false;
  if (!p->settled) p->base.lacks = "SETTINGS, but no answer";
  p->settled = true;
  if (echo(p, out)) return true;
  h2_write_settings_ack(&p->out);
  return false;
}

static bool on_ping(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                    struct probe_outcome *out) {
  (void)h;
  if (p->scanner.frame.flags & H2_FLAG_ACK) return false;
  if (echo(p, out)) return true;
  h2_write_ping(&p->out, true, item->bytes);
  return false;
}

/* on_goaway: one without an error that has seen the request lets it end. */
static bool on_goaway(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                      struct probe_outcome *out) {
  (void)h;
  if (item->value == H2_NO_ERROR && item->id >= STREAM) {
    p->leaving = true;
    return false;
  }
  return told(out, item->id >= STREAM ? "GOAWAY" : "the request was not looked at, GOAWAY",
              item->value);
}

static bool on_rst_stream(struct probe_h2 *p, const struct pool_health *h,
                          const struct h2_item *item, struct probe_outcome *out) {
  (void)h;
  if (p->scanner.frame.stream == STREAM) return told(out, "the request was reset:", item->value);
  return fault(p, H2_PROTOCOL_ERROR, SPAN_LIT("a stream that nobody opened"), out);
}

static bool on_error(struct probe_h2 *p, const struct pool_health *h, const struct h2_item *item,
                     struct probe_outcome *out) {
  (void)h;
  return fault(p, item->error, item->reason, out);
}

/* What has no row brings nothing on; it has been counted. */
static handler *const handlers[] = {
    [H2_EVENT_FRAME] = on_frame,        [H2_EVENT_DATA] = on_data,
    [H2_EVENT_FRAGMENT] = on_fragment,  [H2_EVENT_SETTING] = on_setting,
    [H2_EVENT_SETTINGS] = on_settings,  [H2_EVENT_PING] = on_ping,
    [H2_EVENT_GOAWAY] = on_goaway,      [H2_EVENT_RST_STREAM] = on_rst_stream,
    [H2_EVENT_STREAM_ERROR] = on_error, [H2_EVENT_CONNECTION_ERROR] = on_error,
};

/* scan reads all of in. Bytes are counted where they are taken, not where they came. */
static bool scan(struct probe_h2 *p, const struct pool_health *h, struct span in,
                 struct probe_outcome *out) {
  for (;;) { /* each turn takes bytes, or is the one of a frame that does not */
    struct h2_item item = {0};
    size_t took = 0;
    struct span piece = span_sub(in, 0, BYTES_MAX - p->bytes);
    if (in.len && !piece.len)
      return flood(p, out, "more than 256 KiB came before the end of the answer");
    enum h2_event event = h2_frame_scan(&p->scanner, piece, &took, &item);
    in = span_from(in, took);
    p->bytes += (uint32_t)took;
    if (event == H2_EVENT_MORE && !in.len) return false;
    bool known = event < array_count(handlers) && handlers[event];
    if (known && handlers[event](p, h, &item, out)) return true;
  }
}

/* ---- the talk ---- */

static struct span h2_output(const struct probe_talk *talk) {
  const struct probe_h2 *p = (const struct probe_h2 *)talk;
  return span_from(buf_span(&p->out), p->sent);
}

static void h2_sent(struct probe_talk *talk, size_t n) {
  struct probe_h2 *p = of(talk);
  p->sent += n;
  if (p->sent < p->out.len) return;
  p->out.len = p->sent = 0;
}

static struct buf h2_room(struct probe_talk *talk) {
  struct probe_h2 *p = of(talk);
  return buf_of(p->in + p->in_len, sizeof p->in - p->in_len);
}

/* h2_take: the first bytes are kept until they say which protocol they are of. */
static bool h2_take(struct probe_talk *talk, const struct pool_health *h, size_t n,
                    struct probe_outcome *out) {
  struct probe_h2 *p = of(talk);
  check(n <= sizeof p->in - p->in_len);
  p->in_len += (uint32_t)n;
  struct span in = span_of(p->in, p->in_len);
  if (!p->bytes && in.len < H2_HEAD_LEN) return false;
  if (!p->bytes && span_starts(in, SPAN_LIT("HTTP/"))) {
    probe_end(out, PROBE_BAD_RESPONSE,
              "the answer is HTTP/1, the check is HTTP/2 "
              "(health.protocol, connections.protocol)");
    return true;
  }
  p->in_len = 0;
  return scan(p, h, in, out);
}

static void h2_eof(struct probe_talk *talk, const struct pool_health *h,
                   struct probe_outcome *out) {
  const struct probe_h2 *p = of(talk);
  const char *where = "without an answer";
  (void)h;
  if (p->headed)
    where = "within the body of its answer";
  else if (p->in_block)
    where = "within the head of its answer";
  else if (p->settled)
    where = "after its SETTINGS, without an answer";
  probe_end(out, PROBE_CLOSED, "closed %s%s", where,
            p->leaving ? ", by GOAWAY NO_ERROR (0x0)" : "");
}

static void h2_bye(struct probe_talk *talk) {
  struct probe_h2 *p = of(talk);
  h2_write_goaway(&p->out, 0, p->error, SPAN_EMPTY);
}

static void h2_free(struct probe_talk *talk) {
  struct probe_h2 *p = of(talk);
  hpack_decoder_fini(&p->decoder);
  arena_reset(&p->arena);
  mem_free(p);
}

static const struct probe_talk_ops h2_ops = {.output = h2_output,
                                             .sent = h2_sent,
                                             .room = h2_room,
                                             .take = h2_take,
                                             .eof = h2_eof,
                                             .bye = h2_bye,
                                             .free = h2_free};

/* ---- the request ---- */

static void put(struct hpack_encoder *enc, struct span name, struct span value, struct buf *b) {
  const struct http_field row = {
      .name = name, .value = value, .id = (uint16_t)http_name_find(name)};
  hpack_encode_field(enc, &row, b);
}

static void put_grpc(struct hpack_encoder *enc, const struct pool_health *h, struct buf *b) {
  char bytes[GRPC_TIMEOUT_LEN];
  struct buf timeout = buf_of(bytes, sizeof bytes);
  grpc_timeout_write(h->timeout_ms, &timeout);
  put(enc, SPAN_LIT("te"), SPAN_LIT("trailers"), b);
  put(enc, SPAN_LIT("content-type"), SPAN_LIT("application/grpc"), b);
  put(enc, SPAN_LIT("grpc-timeout"), buf_span(&timeout), b);
}

/* encode: nothing is indexed, for no second request follows. */
static void encode(struct probe_h2 *p, const struct pool_health *h, struct span host,
                   bool secure) {
  struct buf block = buf_of(p->in, sizeof p->in);
  struct hpack_encoder enc;
  struct span method = p->grpc ? SPAN_LIT("POST") : h->method;
  struct span scheme = secure ? SPAN_LIT("https") : SPAN_LIT("http");
  hpack_encoder_init(&enc, 0);
  hpack_encode_begin(&enc, &block);
  hpack_encode_pseudo(&enc, HPACK_PSEUDO_METHOD, method, false, &block);
  hpack_encode_pseudo(&enc, HPACK_PSEUDO_SCHEME, scheme, false, &block);
  hpack_encode_pseudo(&enc, HPACK_PSEUDO_AUTHORITY, h->host.len ? h->host : host, false, &block);
  hpack_encode_pseudo(&enc, HPACK_PSEUDO_PATH, p->grpc ? PROBE_GRPC_PATH : h->path, false, &block);
  if (p->grpc) put_grpc(&enc, h, &block);
  for (uint32_t i = 0; i < h->field_count; i++) hpack_encode_field(&enc, &h->fields[i], &block);
  check(hpack_encode_end(&enc, &block)); /* check_health.c saw to it */
  hpack_encoder_fini(&enc);
  h2_write_block(&p->out, STREAM, !p->grpc, buf_span(&block), H2_FRAME_SIZE_MIN);
}

static void compose(struct probe_h2 *p, const struct pool_health *h, struct span host,
                    bool secure) {
  static const struct h2_row rows[] = {{H2_SETTING_ENABLE_PUSH, 0},
                                       {H2_SETTING_INITIAL_WINDOW_SIZE, WINDOW},
                                       {H2_SETTING_MAX_HEADER_LIST_SIZE, PROBE_HEAD_MAX}};
  char bytes[16 + PROBE_SERVICE_MAX];
  struct buf message = buf_of(bytes, sizeof bytes);
  buf_put(&p->out, H2_PREFACE);
  h2_write_settings(&p->out, rows, array_count(rows));
  h2_write_window_update(&p->out, 0, WINDOW - WINDOW_FIRST);
  encode(p, h, host, secure);
  if (!p->grpc) return;
  probe_grpc_request(&message, h);
  h2_write_data_head(&p->out, STREAM, true, (uint32_t)message.len);
  buf_put(&p->out, buf_span(&message));
  check(!p->out.full && !message.full);
}

struct probe_talk *probe_h2_new(const struct pool_health *h, struct span host, bool secure) {
  struct probe_h2 *p = (struct probe_h2 *)mem_alloc(sizeof *p);
  p->base = (struct probe_talk){.ops = &h2_ops, .lacks = "no answer"};
  p->grpc = h->protocol == HEALTH_GRPC;
  p->method = (uint8_t)(h->head && !p->grpc ? HTTP_METHOD_HEAD : HTTP_METHOD_GET);
  p->conn_window = p->stream_window = (int32_t)WINDOW;
  p->theirs = h2_settings_default;
  h2_frame_scan_init(&p->scanner, false, H2_FRAME_SIZE_MIN);
  hpack_decoder_init(&p->decoder, HPACK_TABLE_DEFAULT);
  arena_init(&p->arena, NULL, FIELD_MEMORY);
  p->out = buf_of(p->out_bytes, sizeof p->out_bytes);
  compose(p, h, host, secure);
  return &p->base;
}
