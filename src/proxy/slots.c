/* slots.c: who gets a place among a worker's requests. The first stream of a connection always has
 * one (there are as many as connections), so that no client shuts out others. Further ones share
 * what there is beyond that; the last eighth of it is for connections that have few. */
#include "proxy_priv.h"

#define FEW 8u
#define TELL_MS 10000u

bool slots_take(const struct worker *w, uint32_t beside) {
  uint32_t most = w->config.streams_further;
  if (!beside || !most) return true;
  return w->streams_further < (beside < FEW ? most : most - most / 8);
}

void slots_refused(struct worker *w) {
  stat_add(&w->stats.streams_refused, 1);
  if (w->slots_told_ms && now_ms(w) - w->slots_told_ms < TELL_MS) return;
  w->slots_told_ms = now_ms(w);
  worker_event(w, END_LEVEL_WARN,
               "worker %u: streams of HTTP/2 clients are refused: %u are open beyond the first of "
               "each connection, of %u; lower listeners.*.h2.streams, or have more workers",
               w->config.index, w->streams_further, w->config.streams_further);
}
