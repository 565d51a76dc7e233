/* tls_world.h: a connection with TLS between weir (stream_tls.c, of either side) and the library
 * itself at the other end, over the simulated network, and what weir's owner must be told of it.
 * For fuzz_tls_conn.c. What the library sends stands in `out` first, where it can be damaged. */
#ifndef WEIR_FUZZ_TLS_WORLD_H
#define WEIR_FUZZ_TLS_WORLD_H

#include <openssl/ssl.h>

#include "weir/base/buf.h"
#include "weir/io/sim.h"
#include "weir/io/tls.h"
#include "weir/io/tls_client.h"

/* tw_kind is what weir is: a server of one of its policies, or the client. */
enum tw_kind { TW_PLAIN, TW_SIGNERS, TW_ASKS, TW_MAY_ASK, TW_CLIENT, TW_COUNT };

struct tw_conf {
  enum tw_kind kind;
  bool old;       /* TLS 1.2 */
  bool raw;       /* nobody at the other end: what the input says is put on the wire */
  bool shows;     /* the library has a certificate as a client */
  uint32_t clock; /* ns that each look at the clock takes: what a turn's budget is measured by */
  uint64_t seed;
  struct sim_faults faults;
  size_t iobufs; /* bytes in all; 0: as many as it likes */
};

/* tw_line is one connection. */
struct tw_line {
  struct tls_world *w;
  struct conn *c;        /* weir's; NULL: not there yet, or closed by its owner */
  struct sim_peer *wire; /* the library's; NULL: closed */
  SSL *ssl;              /* NULL: raw */
  struct text out;       /* what the library sends; sent: so much of it went on the wire */
  size_t sent;
  struct text said, got, told, heard; /* plaintext: the library's and what came of it; weir's */
  bool wild;                          /* what went on the wire is not what the library sent */
  bool closed;                        /* by weir's owner */
  bool cut;                           /* a FIN or reset that belongs to no TLS */
  bool bye;                           /* the library has written its close_notify */
  int opened, err, eof, error, secured;
  bool early; /* opened by early data */
  size_t take_max;
};

struct tls_world {
  struct tw_conf conf;
  struct sim *sim;
  struct loop *loop;
  struct conn *listener;
  struct addr at;
  struct tls_peer *peer;
  uint32_t spent;       /* turns without a budget */
  SSL_SESSION *session; /* the newest that the library got as a client */
  uint32_t lines;       /* begun */
  struct tw_line line;
};

struct tls_world *tw_new(const struct tw_conf *conf);
/* tw_free checks that nothing is left. */
void tw_free(struct tls_world *w);
/* tw_begin makes a connection; resume: by the world's session if there is one, with early data
 * where early. tw_end ends what is open, and checks what the owner was told in all. */
void tw_begin(struct tls_world *w, bool resume, bool early);
void tw_end(struct tls_world *w);
/* tw_go lets the library act: its bytes are in out then. tw_send puts n of them on the wire. */
void tw_go(struct tw_line *l);
void tw_send(struct tw_line *l, size_t n);
/* tw_run lets the network and weir act; tw_rest all three, until nobody has anything to do. */
void tw_run(struct tls_world *w);
void tw_rest(struct tls_world *w);
/* tw_bye has the library write its close_notify, where there was a handshake. */
void tw_bye(struct tw_line *l);
/* tw_say has the library write n bytes, tw_tell weir. */
void tw_say(struct tw_line *l, size_t n);
void tw_tell(struct tw_line *l, size_t n);
/* tw_spend: so many turns have no budget for handshakes. */
void tw_spend(struct tls_world *w, uint32_t turns);
/* tw_sign has the signers do what waits for them. */
void tw_sign(void);

#endif
