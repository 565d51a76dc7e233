/* h2_client.h: clients of the simulated world that speak HTTP/2: one connection, many plans at
 * once, bodies in pieces as the windows allow, cancels. What weir may never do to them is a fault
 * here (tests/support/h2_peer.h, and what proxy_client.c holds against HTTP/1). */
#ifndef TESTS_SIM_H2_CLIENT_H
#define TESTS_SIM_H2_CLIENT_H

#include "h2_peer.h"
#include "proxy_world.h"

enum { H2_JOBS = 64, HOLDS_NOT = 10 };

/* h2_job is one plan on its way. */
struct h2_job {
  uint32_t plan, stream; /* stream 0: not opened yet */
  bool go;               /* the body may be sent: nobody waits for 100 (Continue) */
  bool over;             /* it has its outcome */
  int32_t cancel;        /* steps until the client cancels it; -1: never */
};

struct h2_client {
  struct world *w;
  struct h2_peer peer;
  struct sim_peer *wire; /* NULL: gone */
  uint32_t worker;
  struct h2_job jobs[H2_JOBS];
  uint32_t count, most; /* most: open at once */
  bool gone, reset;
  uint32_t window; /* bytes read of the wire at a time; 0: without bound */
  uint32_t stingy; /* gives a window back in pieces of so many bytes; 0: at once */
  bool holds;      /* what it has to say waits, but for the first HOLDS_NOT bytes of its preface */
};

struct h2_client *h2_client_new(struct world *w, uint32_t worker);
void h2_client_add(struct h2_client *c, const struct plan *p, int32_t cancel);
void h2_client_start(struct h2_client *c, const struct h2_row *rows, size_t count);
/* h2_client_tick goes on with what may be sent; to be called at each step. */
void h2_client_tick(struct h2_client *c);
bool h2_client_done(const struct h2_client *c);
void h2_client_end(struct h2_client *c, bool reset);
/* h2_client_free: the world may be gone already. */
void h2_client_free(struct h2_client *c);

#endif
