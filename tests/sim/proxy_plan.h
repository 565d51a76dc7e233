/* proxy_plan.h: a plan is one request and its response, for both ends of the simulated world; see
 * proxy_world.h. */
#ifndef TESTS_SIM_PROXY_PLAN_H
#define TESTS_SIM_PROXY_PLAN_H

#include "weir/base/buf.h"
#include "weir/proxy/record.h"

struct world;

/* bad is what goes wrong at the origin with the first requests of a plan, once they are there. */
enum bad {
  BAD_NOT,
  BAD_RESET,   /* the connection is reset before a byte of the response */
  BAD_FIN,     /* or ends */
  BAD_CUT,     /* it ends inside the head */
  BAD_INTERIM, /* or behind an interim response */
  BAD_STALL,   /* no byte ever comes */
  BAD_503,     /* a status worth a retry */
  BAD_503_LATER, /* the same with a Retry-After */
};

enum frame { FRAME_NONE, FRAME_LENGTH, FRAME_CHUNKED, FRAME_CLOSE };

/* outcome is what the client saw of a plan. */
enum outcome {
  OUT_NONE,   /* never sent, or nothing is decided yet */
  OUT_OK,     /* the origin's response, complete and right */
  OUT_ANSWER, /* weir's own response, complete */
  OUT_LOST,   /* the connection ended before a byte of it */
  OUT_CUT,    /* it ended inside: seen as truncated */
  OUT_TUNNEL, /* switched protocols */
};

/* plan: bodies are plan_byte by its number, so that each is its own. */
struct plan {
  uint32_t id;
  /* the request */
  const char *method; /* "GET" at first */
  const char *prefix; /* before "/r/<id>"; "" at first */
  const char *priority; /* the value of X-Priority; NULL: none */
  const char *cookie;   /* of Cookie; NULL: none */
  uint8_t frame, minor;
  bool grpc; /* it is a gRPC call by its fields, and its response by the head */
  /* hold_body: the client sends the end of its body behind the response, if that keeps its
   * connection. */
  bool expect, upgrade, close, hold_body;
  uint32_t len;
  int32_t cut; /* the client resets (or, cut_fin, ends) after so many bytes of it; -1: never */
  bool cut_fin;
  bool cut_wait; /* neither: it stays open and says nothing more */
  /* the response */
  uint16_t status;
  uint8_t up_frame, interims;
  uint32_t up_len;
  bool early;      /* answers before the request's body */
  bool up_close;   /* says Connection: close, then ends */
  bool up_leave;   /* ends without having said so */
  bool stall;      /* no byte of the response ever */
  bool stall_body; /* the last byte of the body never comes */
  int32_t up_cut;  /* the origin resets (or ends) after so many bytes of it; -1: never */
  bool up_cut_fin;
  uint32_t up_garbage; /* bytes behind the response */
  uint8_t bad, bad_times; /* enum bad; of how many requests */
  uint8_t then;           /* enum bad: of the request behind those */
  /* what happened */
  enum outcome outcome;
  uint16_t got_status;
  bool ended; /* the access record came */
  enum end end;
  const char *forwarded_for; /* what the origin is told; NULL: the address of all clients here */
  struct record_access record;
  uint32_t up_heads, up_bodies; /* seen by origins: request heads, complete requests */
  uint32_t up_origins;          /* set of origins that saw it */
  uint32_t copies;              /* whole copies of it that a shadow saw */
  uint32_t up_order;            /* its place among all heads that origins saw */
  uint64_t got_body;            /* bytes of body that the client has */
  char details[64];             /* of Proxy-Status, of OUT_ANSWER */
};

struct plan *plan_new(struct world *w); /* a GET of 200 bytes */
struct plan *plan_random(struct world *w);
struct plan *plan_find(struct world *w, struct span path);
/* plan_byte is byte i of a body: of the request (up) or of the response. */
char plan_byte(const struct plan *p, bool up, uint64_t i);
void plan_request(struct world *w, const struct plan *p, struct text *out);
void plan_response(struct world *w, const struct plan *p, uint32_t origin, struct text *out);
/* plan_body appends a body in its framing; cut_end leaves the end away. */
void plan_body(struct world *w, const struct plan *p, bool up, bool cut_end, struct text *out);
bool plan_bodyless(const struct plan *p); /* its response has no body whatever it says */

#endif
