/* h2_pool_priv.h: what the connections of one loop share. */
#ifndef WEIR_MUX_H2_POOL_PRIV_H
#define WEIR_MUX_H2_POOL_PRIV_H

#include "weir/base/arena.h"
#include "weir/base/slab.h"
#include "weir/io/loop.h"

struct h2_pool {
  struct loop *loop;
  struct slab conns, streams;
  struct arena_blocks blocks; /* of trailers and heads to be sent */
  uint32_t ends; /* h2_pool_pace */
};

#endif
