/* probe_h1.c: the talk of a check that is one request over HTTP/1.1: the head that the
 * configuration made ready, then what probe_reply.c reads. Does not: judge (probe_reply.c). */
#include "control/probe_priv.h"
#include "weir/base/mem.h"

/* probe_h1 is a talk; base comes first. */
struct probe_h1 {
  struct probe_talk base;
  struct buf out; /* the request; in reply.in until it has been sent */
  size_t sent;
  struct probe_reply reply;
};

static struct probe_h1 *of(struct probe_talk *talk) { return (struct probe_h1 *)talk; }

static struct span h1_output(const struct probe_talk *talk) {
  const struct probe_h1 *p = (const struct probe_h1 *)talk;
  return span_from(buf_span(&p->out), p->sent);
}

static void h1_sent(struct probe_talk *talk, size_t n) {
  struct probe_h1 *p = of(talk);
  p->sent += n;
  if (p->sent == p->out.len) probe_reply_init(&p->reply);
}

static struct buf h1_room(struct probe_talk *talk) {
  struct probe_h1 *p = of(talk);
  return p->sent == p->out.len ? probe_reply_room(&p->reply) : (struct buf){0};
}

static bool h1_take(struct probe_talk *talk, const struct pool_health *h, size_t n,
                    struct probe_outcome *out) {
  return probe_reply_take(&of(talk)->reply, h, n, out);
}

static void h1_eof(struct probe_talk *talk, const struct pool_health *h,
                   struct probe_outcome *out) {
  probe_reply_eof(&of(talk)->reply, h, out);
}

static void h1_free(struct probe_talk *talk) {
  probe_reply_fini(&of(talk)->reply);
  mem_free(talk);
}

static const struct probe_talk_ops h1_ops = {.output = h1_output,
                                             .sent = h1_sent,
                                             .room = h1_room,
                                             .take = h1_take,
                                             .eof = h1_eof,
                                             .free = h1_free};

struct probe_talk *probe_h1_new(const struct pool_health *h, struct span host) {
  struct probe_h1 *p = (struct probe_h1 *)mem_alloc(sizeof *p);
  p->base = (struct probe_talk){.ops = &h1_ops, .lacks = "no answer"};
  probe_reply_init(&p->reply);
  p->out = buf_of(p->reply.in, sizeof p->reply.in);
  buf_put(&p->out, h->request);
  if (h->rest.len) {
    buf_put(&p->out, host);
    buf_put(&p->out, h->rest);
  }
  check(!p->out.full); /* check_health.c saw to it */
  return &p->base;
}
