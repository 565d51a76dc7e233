/* demo_priv.h: a connection of the built-in origin. */
#ifndef WEIR_MAIN_DEMO_PRIV_H
#define WEIR_MAIN_DEMO_PRIV_H

#include <pthread.h>

#include "cli_priv.h"
#include "weir/base/arena.h"
#include "weir/http/h1.h"

#define DEMO_IN_MAX 65536u
#define DEMO_ECHO_MAX (256u << 10)

struct demo_conn {
  int fd;
  char name; /* of the origin: 'A' or 'B' */
  struct arena arena;
  struct http_request req; /* spans point into head */
  size_t in_len;
  char in[DEMO_IN_MAX], head[DEMO_IN_MAX];
};

bool demo_send(struct demo_conn *c, struct span s);
/* demo_more reads what comes; false at the end or when the buffer is full. */
bool demo_more(struct demo_conn *c);
void demo_consume(struct demo_conn *c, size_t len);

/* demo_ws_serve answers a WebSocket handshake and echoes until the peer closes; false when the
 * request was none. */
bool demo_ws_serve(struct demo_conn *c);

#endif
