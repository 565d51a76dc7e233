/* h1_chunked.c: the chunked transfer coding (RFC 9112 section 7.1), strictly: CRLF only, no white
 * space but before and in extensions. Extensions and trailers are checked and bounded; where the
 * lines of trailers stand is told, what they mean is trailer.c's. What is sent on is coded anew.
 * Copies nothing. Called by the body relays of proxy/. */
#include "bytes_priv.h"
#include "weir/http/h1.h"

enum chunk_step {
  STEP_SIZE,      /* hex digits */
  STEP_EXT_BLANK, /* blanks that only ";" may follow */
  STEP_EXT,       /* after ";" to the end of the line */
  STEP_LINE_LF,   /* LF of the chunk line */
  STEP_DATA,      /* left > 0 */
  STEP_DATA_CR,   /* CR LF after the data */
  STEP_DATA_LF,
  STEP_TRAILER,       /* at the start of a trailer line or of the last empty line */
  STEP_TRAILER_NAME,  /* in a name */
  STEP_TRAILER_VALUE, /* after its colon */
  STEP_TRAILER_LF,    /* LF of a trailer line */
  STEP_LAST_LF,       /* LF of the last empty line */
  STEP_END,
};

enum fault { FAULT_SIZE, FAULT_CHUNK, FAULT_TRAILER, FAULTS };

static const enum end causes[2][FAULTS] = {
    [H1_REQUEST] = {END_BAD_REQUEST_CHUNK_SIZE, END_BAD_REQUEST_CHUNK, END_BAD_REQUEST_TRAILER},
    [H1_RESPONSE] = {END_BAD_RESPONSE_CHUNK, END_BAD_RESPONSE_CHUNK, END_BAD_RESPONSE_TRAILER},
};

/* step_result is what reading one element gave: how many bytes it took, or a fault. */
struct step_result {
  size_t taken;
  bool bad;
  enum fault fault;
};

static struct step_result took(size_t taken) { return (struct step_result){.taken = taken}; }
static struct step_result bad(enum fault fault) {
  return (struct step_result){.bad = true, .fault = fault};
}

void h1_chunked_init(struct h1_chunked *chunked, enum h1_side side) {
  *chunked = (struct h1_chunked){.side = (uint8_t)side};
}

/* expect takes one byte that has to stand here. */
static struct step_result expect(struct h1_chunked *c, struct span in, char want,
                                 enum chunk_step next, enum fault fault) {
  if (in.ptr[0] != want) return bad(fault);
  c->step = (uint8_t)next;
  return took(1);
}

/* read_size takes one hex digit or what ends them. 16 digits cannot overflow; the top bit is
 * refused so that sizes fit off_t. */
static struct step_result read_size(struct h1_chunked *c, struct span in) {
  char next = in.ptr[0];
  if (byte_class(next) & BYTE_HEX) {
    if (++c->digits > H1_CHUNK_DIGITS_MAX) return bad(FAULT_SIZE);
    c->size = c->size << 4 | (unsigned)ascii_hex(next);
    return took(1);
  }
  if (c->digits == 0 || c->size > INT64_MAX) return bad(FAULT_SIZE);
  c->ext_bytes = 0;
  switch (next) {
    case '\r': c->step = STEP_LINE_LF; return took(1);
    case ';': c->step = STEP_EXT; return took(1);
    case ' ':
    case '\t': c->step = STEP_EXT_BLANK; return took(0);
    default: return bad(next == '\n' ? FAULT_CHUNK : FAULT_SIZE);
  }
}

static bool count_ext(struct h1_chunked *c, size_t bytes) {
  if (bytes > H1_CHUNK_EXT_LINE_MAX - c->ext_bytes) return false;
  if (bytes > H1_CHUNK_EXT_BODY_MAX - c->ext_total) return false;
  c->ext_bytes += (uint32_t)bytes;
  c->ext_total += (uint32_t)bytes;
  return true;
}

static struct step_result read_ext_blank(struct h1_chunked *c, struct span in) {
  if (in.ptr[0] == ';') {
    c->step = STEP_EXT;
    return took(1);
  }
  bool blank = in.ptr[0] == ' ' || in.ptr[0] == '\t';
  return blank && count_ext(c, 1) ? took(1) : bad(FAULT_CHUNK);
}

static struct step_result read_ext(struct h1_chunked *c, struct span in) {
  size_t end = bytes_value_end(in.ptr, 0, in.len);
  if (!count_ext(c, end)) return bad(FAULT_CHUNK);
  if (end == in.len) return took(end);
  if (in.ptr[end] != '\r') return bad(FAULT_CHUNK);
  c->step = STEP_LINE_LF;
  return took(end + 1);
}

static struct step_result end_line(struct h1_chunked *c, struct span in) {
  if (in.ptr[0] != '\n') return bad(FAULT_CHUNK);
  c->left = c->size;
  c->size = 0;
  c->digits = 0;
  c->step = c->left > 0 ? STEP_DATA : STEP_TRAILER;
  return took(1);
}

static bool count_trailer(struct h1_chunked *c, size_t bytes) {
  if (bytes > H1_TRAILER_BYTES_MAX - c->trailer_bytes) return false;
  c->trailer_bytes += (uint32_t)bytes;
  return true;
}

static struct step_result read_trailer_start(struct h1_chunked *c, struct span in) {
  if (in.ptr[0] == '\r') {
    c->step = STEP_LAST_LF;
    return took(1);
  }
  if (!(byte_class(in.ptr[0]) & BYTE_TOKEN)) return bad(FAULT_TRAILER);
  if (++c->trailer_count > H1_TRAILER_COUNT_MAX) return bad(FAULT_TRAILER);
  c->step = STEP_TRAILER_NAME;
  return took(0);
}

static struct step_result read_trailer_name(struct h1_chunked *c, struct span in) {
  size_t end = bytes_end_of(BYTE_TOKEN, in.ptr, 0, in.len);
  if (!count_trailer(c, end)) return bad(FAULT_TRAILER);
  if (end == in.len) return took(end);
  if (in.ptr[end] != ':') return bad(FAULT_TRAILER);
  c->step = STEP_TRAILER_VALUE;
  return took(end + 1);
}

static struct step_result read_trailer_value(struct h1_chunked *c, struct span in) {
  size_t end = bytes_value_end(in.ptr, 0, in.len);
  if (!count_trailer(c, end)) return bad(FAULT_TRAILER);
  if (end == in.len) return took(end);
  if (in.ptr[end] != '\r') return bad(FAULT_TRAILER);
  c->step = STEP_TRAILER_LF;
  return took(end + 1);
}

/* read_step reads what the step asks for from in, which is not empty. Each step takes a byte or
 * goes on to one that does. */
static struct step_result read_step(struct h1_chunked *c, struct span in) {
  switch ((enum chunk_step)c->step) {
    case STEP_SIZE: return read_size(c, in);
    case STEP_EXT_BLANK: return read_ext_blank(c, in);
    case STEP_EXT: return read_ext(c, in);
    case STEP_LINE_LF: return end_line(c, in);
    case STEP_DATA_CR: return expect(c, in, '\r', STEP_DATA_LF, FAULT_CHUNK);
    case STEP_DATA_LF: return expect(c, in, '\n', STEP_SIZE, FAULT_CHUNK);
    case STEP_TRAILER: return read_trailer_start(c, in);
    case STEP_TRAILER_NAME: return read_trailer_name(c, in);
    case STEP_TRAILER_VALUE: return read_trailer_value(c, in);
    case STEP_TRAILER_LF: return expect(c, in, '\n', STEP_TRAILER, FAULT_TRAILER);
    case STEP_LAST_LF: return expect(c, in, '\n', STEP_END, FAULT_TRAILER);
    case STEP_DATA:
    case STEP_END: break;
  }
  check(false); /* data is taken by the caller; nothing is read after the end */
  return bad(FAULT_CHUNK);
}

void h1_chunked_skip(struct h1_chunked *chunked, uint64_t count) {
  check(count <= chunked->left);
  chunked->left -= count;
  if (count > 0 && chunked->left == 0) chunked->step = STEP_DATA_CR;
}

enum http_result h1_chunked_parse(struct h1_chunked *chunked, struct span in, size_t *consumed,
                                  struct span *data, enum end *why) {
  size_t at = 0, lines = chunked->trailer_count ? 0 : SIZE_MAX;
  check(chunked->step != STEP_END);
  while (at < in.len && chunked->step != STEP_END && chunked->step != STEP_DATA) {
    struct step_result result = read_step(chunked, span_of(in.ptr + at, in.len - at));
    if (result.bad) {
      *why = causes[chunked->side][result.fault];
      return HTTP_BAD;
    }
    at += result.taken;
    if (chunked->trailer_count && lines == SIZE_MAX) lines = at; /* which took nothing */
  }
  chunked->lines = lines == SIZE_MAX ? 0 : (uint32_t)(at - lines);
  struct span run = SPAN_EMPTY;
  if (chunked->step == STEP_DATA && at < in.len) {
    uint64_t room = in.len - at;
    run = span_of(in.ptr + at, (size_t)(room < chunked->left ? room : chunked->left));
    h1_chunked_skip(chunked, run.len);
    at += run.len;
  }
  *data = run;
  *consumed = at;
  return chunked->step == STEP_END ? HTTP_DONE : HTTP_MORE;
}
