/* health_priv.h: active health of one endpoint: what an answer means (probe_reply.c), what a
 * result means for the state and when the next check is due (health.c). No sockets, no clock: time
 * is an argument. */
#ifndef WEIR_CONTROL_HEALTH_PRIV_H
#define WEIR_CONTROL_HEALTH_PRIV_H

#include "weir/base/buf.h"
#include "weir/http/h1.h"
#include "weir/model/model.h"

enum probe_result {
#define PROBE(id, label, kind) PROBE_##id,
#include "control/probe.def"
#undef PROBE
  PROBE_COUNT
};
_Static_assert(PROBE_COUNT <= POOL_CHECKS, "struct pool_state counts by result");

/* probe_kind: a skipped check (out of descriptors) says nothing about the endpoint. */
enum probe_kind { PROBE_KIND_PASSED, PROBE_KIND_FAILED, PROBE_KIND_SKIPPED };
enum probe_kind probe_kind(enum probe_result result);
/* probe_label is the result's label in metrics. */
const char *probe_label(enum probe_result result);

/* probe_outcome is how one check ended; why is a text for people: "status 503 is not in 200-299
 * (health.expect)"; of a pass: empty. */
struct probe_outcome {
  enum probe_result result;
  char why[HEALTH_REASON_MAX];
};
/* probe_end fills o. */
void probe_end(struct probe_outcome *o, enum probe_result result, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- health.c ---- */

enum health_change { HEALTH_SAME, HEALTH_TO_UP, HEALTH_TO_DOWN, HEALTH_BACK };

/* health_now is the time, both clocks. */
struct health_now {
  uint64_t ms, wall_ms;
};

/* health_begin puts an endpoint under active checks: what was in service before it was checked
 * stays so until checks fail; what is new is unknown. Nothing changes for one that is checked
 * already. */
void health_begin(struct endpoint *e, struct health_now now);
/* health_take takes a result; e has its health. HEALTH_TO_UP and HEALTH_TO_DOWN: the state
 * changed, reason says why; HEALTH_BACK: an ejection has ended before its time. */
enum health_change health_take(struct endpoint *e, const struct pool_health *h,
                               const struct probe_outcome *o, struct health_now now);
/* health_wait_ms is the time from the start of one check to the next: fast_interval while the
 * endpoint is not up or a change is under way, with jitter drawn from *rng. */
uint32_t health_wait_ms(const struct endpoint *e, const struct pool_health *h, uint64_t *rng);

/* ---- probe_judge.c: what an answer means, whatever brought it ---- */

#define PROBE_HEAD_MAX 16384u /* bytes of a response head */
#define PROBE_FIELDS_MAX 200u /* of a response head */
#define PROBE_BODY_MAX 65536u /* bytes of a body that are looked through */
#define PROBE_NEEDLE_MAX 256u /* bytes of health.body */

/* probe_status judges the status of a final head. True: *out is the result; else the body decides.
 */
bool probe_status(const struct pool_health *h, unsigned status, struct probe_outcome *out);

/* probe_look is how far a body has been looked through; {0} begins one. */
struct probe_look {
  uint32_t looked_at, window_len; /* bytes of the body; of the window */
  char window[2 * PROBE_NEEDLE_MAX]; /* the end of what was looked at, and what comes next */
};
/* probe_look_at searches the next run of a body; true: *out is the result. */
bool probe_look_at(struct probe_look *look, const struct pool_health *h, struct span data,
                   struct probe_outcome *out);
/* probe_lacks: the body has ended without the text. */
void probe_lacks(const struct pool_health *h, struct probe_outcome *out);

/* ---- probe_reply.c ---- */

/* probe_reply is one response being read. {0} and probe_reply_init start one. */
struct probe_reply {
  struct arena arena; /* field rows */
  struct h1_scan scan;
  struct h1_chunked chunked;
  struct http_response response;
  bool in_body;
  uint64_t left; /* HTTP_BODY_LENGTH */
  uint32_t in_len;
  struct probe_look look;
  char in[PROBE_HEAD_MAX];
};

void probe_reply_init(struct probe_reply *r);
void probe_reply_fini(struct probe_reply *r);
/* probe_reply_room is where the next bytes go: at least one byte. */
struct buf probe_reply_room(struct probe_reply *r);
/* probe_reply_take takes len bytes that were written there; true: *out is the result. */
bool probe_reply_take(struct probe_reply *r, const struct pool_health *h, size_t len,
                      struct probe_outcome *out);
/* probe_reply_eof: the endpoint sends no more. */
void probe_reply_eof(struct probe_reply *r, const struct pool_health *h,
                     struct probe_outcome *out);

#endif
