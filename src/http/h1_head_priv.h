/* h1_head_priv.h: what request and response heads share: one call's view of the input, and the
 * field section (RFC 9112 section 5). Stays inside http/. */
#ifndef WEIR_HTTP_H1_HEAD_PRIV_H
#define WEIR_HTTP_H1_HEAD_PRIV_H

#include "weir/http/h1.h"
#include "weir/http/uri.h"

/* h1_step is where a head is; 0 is the start. The steps of the start line come first. */
enum h1_step {
  H1_STEP_START,  /* empty lines (request), version and status (response) */
  H1_STEP_FIRST,  /* method */
  H1_STEP_SECOND, /* target, reason phrase */
  H1_STEP_VERSION,
  H1_STEP_NAME,  /* at the start of a field line or of the empty line */
  H1_STEP_VALUE, /* after the colon */
  H1_STEP_END,
};

/* h1_reader is one call of a parser. */
struct h1_reader {
  struct h1_scan *scan;
  const char *p;
  size_t len;  /* bytes of input that may be head */
  bool capped; /* the head may not grow beyond len */
  const struct h1_limits *limits;
  struct arena *arena;
  enum h1_side side;
  enum end why;
};

/* h1_reader_init makes the view and moves what scan holds to where the input is now. */
void h1_reader_init(struct h1_reader *r, struct span input);
/* h1_fail notes the cause. */
static inline enum http_result h1_fail(struct h1_reader *r, enum end why) {
  r->why = why;
  return HTTP_BAD;
}
/* h1_more notes that bytes before `scanned` are in order; BAD when no more can come. */
enum http_result h1_more(struct h1_reader *r, size_t scanned);
/* h1_advance starts the next element at `start`. */
static inline void h1_advance(struct h1_reader *r, enum h1_step step, size_t start) {
  r->scan->step = (uint8_t)step;
  r->scan->start = r->scan->scanned = (uint32_t)start;
}
/* h1_match checks bytes from `start` on against a pattern ("0" stands for any digit): DONE when
 * all are there, MORE when all so far agree, BAD otherwise. Reads at most the pattern's length. */
enum http_result h1_match(const struct h1_reader *r, size_t start, struct span pattern);
/* h1_read_fields reads the field section to the end of the head. */
enum http_result h1_read_fields(struct h1_reader *r);
/* h1_take_fields moves the rows out, giving unused room back to the arena. */
struct http_fields h1_take_fields(struct h1_reader *r);

#endif
