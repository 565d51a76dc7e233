/* stream_warm.c: which lines of a stream's memory its request or its response will look at first
 * (weir/base/warm.h). With hundreds in flight each look would be a wait. Reads only what a step
 * before has asked for. */
#include "weir/base/warm.h"
#include "proxy_priv.h"
#include "weir/io/carried.h"

#define HEAD_USUAL 512u /* bytes of an arena that a head takes, or so */

static void warm_fields(const struct exchange *x, size_t from, size_t to) {
  warm((const char *)x + from, to - from);
}

/* half asks for the first or second half of what is looked at. */
static void half(const struct exchange *x, enum warm_for what, bool second) {
  size_t scan = 0, req = offsetof(struct exchange, req), ctx = offsetof(struct exchange, ctx),
         up = offsetof(struct exchange, head_up), ws = offsetof(struct exchange, ws);
  if (what == WARM_RESPONSE && !second) {
    warm(&x->head, sizeof(x->head));
    warm_fields(x, req, ctx);
  } else if (what == WARM_RESPONSE) {
    warm_fields(x, up, ws);
  } else {
    warm_fields(x, second ? up : scan, second ? sizeof(*x) : up);
  }
}

void stream_warm(const struct stream *s, unsigned step, enum warm_for what) {
  switch (step) {
    case 0: warm(s, sizeof(*s)); return;
    case 1:
      if (s->conn) warm(s->conn, sizeof(*s->conn));
      if (s->x) half(s->x, what, false);
      return;
    default:
      if (s->conn) conn_warm_carried(s->conn);
      arena_warm(&s->arena, HEAD_USUAL);
      if (s->x) half(s->x, what, true);
      return;
  }
}
