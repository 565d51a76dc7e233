/* probe_priv.h: what one check is made of: a talk (protocol: bytes out, bytes in, a result; no
 * socket, no clock) over a transport (moves bytes, never blocks). probe.c drives the two; a
 * transport may stand on another one. The settings of the check are given anew with each call:
 * a reload may replace them by equal ones while a check is under way. */
#ifndef WEIR_CONTROL_PROBE_PRIV_H
#define WEIR_CONTROL_PROBE_PRIV_H

#include "control/health_priv.h"

/* ---- transports ---- */

enum probe_io {
  PROBE_IO_OK,
  PROBE_IO_AGAIN,  /* not now: when one of transport->wants has come */
  PROBE_IO_EOF,    /* of read: the endpoint sends no more */
  PROBE_IO_FAILED, /* *out is the result of the check */
};

struct probe_transport;
struct probe_transport_ops {
  /* open begins, and after AGAIN goes on, until bytes can be moved (OK). */
  enum probe_io (*open)(struct probe_transport *t, struct probe_outcome *out);
  /* write sends some of bytes, *moved of them; bytes are not empty. */
  enum probe_io (*write)(struct probe_transport *t, struct span bytes, size_t *moved,
                         struct probe_outcome *out);
  /* read puts *moved bytes into room, which has some. It may keep further ones inside. */
  enum probe_io (*read)(struct probe_transport *t, struct buf room, size_t *moved,
                        struct probe_outcome *out);
  void (*free)(struct probe_transport *t); /* closes fd */
};

/* probe_transport is the base of all of them. */
struct probe_transport {
  const struct probe_transport_ops *ops;
  int fd;            /* to be watched */
  bool secure;       /* what stands above it is https */
  bool h2;           /* secure: HTTP/2 was chosen */
  uint8_t late;      /* enum probe_result of a check that ends while open is at it */
  uint32_t wants;    /* EPOLLIN, EPOLLOUT: of the last AGAIN */
  const char *doing; /* what open is at, for "connect timed out" */
};

/* probe_socket_new is a stream socket to e (or its health.port). NULL: *out. */
struct probe_transport *probe_socket_new(const struct endpoint *e, const struct pool_health *h,
                                         struct probe_outcome *out);
/* probe_tls_new is TLS by the pool's policy (h->tls) on below, which it takes. */
struct probe_transport *probe_tls_new(struct probe_transport *below, const struct endpoint *e,
                                      const struct pool_health *h);
/* probe_errno says what an errno of a socket means for a check. */
void probe_errno(struct probe_outcome *out, int err);

/* ---- talks ---- */

struct probe_talk;
struct probe_talk_ops {
  /* output is what is to be sent next; sent takes n bytes off it. */
  struct span (*output)(const struct probe_talk *talk);
  void (*sent)(struct probe_talk *talk, size_t n);
  /* room is where the next bytes go; of no bytes: nothing is read before output is sent. */
  struct buf (*room)(struct probe_talk *talk);
  /* take takes n bytes that were put there; true: *out is the result. */
  bool (*take)(struct probe_talk *talk, const struct pool_health *h, size_t n,
               struct probe_outcome *out);
  /* eof: the endpoint sends no more; *out is the result. */
  void (*eof)(struct probe_talk *talk, const struct pool_health *h, struct probe_outcome *out);
  /* bye adds what ends the talk well to the output; NULL: nothing does. */
  void (*bye)(struct probe_talk *talk);
  void (*free)(struct probe_talk *talk);
};

/* probe_talk is the base of all of them. */
struct probe_talk {
  const struct probe_talk_ops *ops;
  const char *lacks; /* what has not come yet, for "no answer after 1000 ms" */
};

/* probe_h1_new is a request over HTTP/1.1. host: what e is called where health.host is unset. */
struct probe_talk *probe_h1_new(const struct pool_health *h, struct span host);
/* probe_h2_new is one over HTTP/2, or a call of gRPC. secure: its scheme is https. */
struct probe_talk *probe_h2_new(const struct pool_health *h, struct span host, bool secure);

/* ---- probe_grpc.c: grpc.health.v1.Health/Check: a request and an answer, without frames ---- */

#define PROBE_SERVICE_MAX 256u  /* bytes of health.service */
#define PROBE_MESSAGE_MAX 1024u /* bytes of the answer's message */

#define PROBE_GRPC_PATH SPAN_LIT("/grpc.health.v1.Health/Check")

/* probe_grpc is an answer being read; {0} begins one. */
struct probe_grpc {
  uint32_t len; /* of what came: five bytes, then the message */
  char bytes[5 + PROBE_MESSAGE_MAX];
};

/* probe_grpc_request writes the message that asks, with what stands before it. */
void probe_grpc_request(struct buf *b, const struct pool_health *h);
/* probe_grpc_head looks at a final head; true: *out is the result. */
bool probe_grpc_head(const struct http_response *r, struct probe_outcome *out);
/* probe_grpc_data takes bytes of the body; true: *out is the result. */
bool probe_grpc_data(struct probe_grpc *g, struct span data, struct probe_outcome *out);
/* probe_grpc_end: the answer is whole; fields are its trailers, or those of a head without a body;
 * NULL: there are none. */
void probe_grpc_end(const struct probe_grpc *g, const struct pool_health *h,
                    const struct http_fields *fields, struct probe_outcome *out);

#endif
