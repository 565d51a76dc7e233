/* h2_guard_priv.h: the budgets of a connection against floods, and what pays for the frames of a
 * peer (h2_guard.c). When a connection ends by them is its reader's (h2_read.c). */
#ifndef WEIR_MUX_H2_GUARD_PRIV_H
#define WEIR_MUX_H2_GUARD_PRIV_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/check.h"

struct h2;
struct h2_stream;

struct h2_budget {
  uint32_t resets, glitches;
  uint64_t reset_ms, glitch_ms; /* since when the one comes back; when the other were none */
  uint64_t credit;   /* for frames that bring nothing on; each costs H2_GLITCH_PRICE */
  uint64_t unopened; /* bytes of DATA that were sent and that no window was opened for since, of
                      * the stream and the connection */
  uint32_t finished; /* streams that the peer has not reset: its RST_STREAM may cross their end */
  uint32_t acks;     /* that are owed for SETTINGS of ours after the first (h2_limit) */
  uint32_t cancels;    /* RST_STREAMs of ours */
  uint64_t cancels_ms; /* when the peer will have forgotten them, as far as we know */
};

/* H2_GLITCH_PRICE is in bytes of DATA that came: a KiB pays for two. */
#define H2_GLITCH_PRICE 512u

/* h2_came: so much DATA. h2_went: the same, sent; a frame is as much as the two WINDOW_UPDATEs for
 * it, however small. h2_began: a request. */
static inline void h2_came(struct h2_budget *b, uint32_t bytes) { b->credit += bytes; }
static inline void h2_went(struct h2_budget *b, uint32_t bytes) {
  b->credit += 2u * H2_GLITCH_PRICE;
  b->unopened += 2u * (uint64_t)bytes;
}
static inline void h2_began(struct h2_budget *b) { b->credit += 2u * H2_GLITCH_PRICE; }

/* What follows is false when the peer has used up its budget; h2_end is the caller's. */
/* h2_glitch: a frame that brings nothing on. Unpaid: whatever came before. */
MUST_USE bool h2_glitch(struct h2 *h);
MUST_USE bool h2_glitch_unpaid(struct h2 *h);
/* h2_opened: WINDOW_UPDATE of so many bytes. */
MUST_USE bool h2_opened(struct h2 *h, uint32_t bytes);
/* h2_count_reset: a stream ends early, by the peer's doing. */
MUST_USE bool h2_count_reset(struct h2 *h);
/* h2_reset_behind: RST_STREAM for a stream that is gone. */
MUST_USE bool h2_reset_behind(struct h2 *h);
/* h2_cancelled: we have sent RST_STREAM. */
void h2_cancelled(struct h2 *h);
/* h2_is_early: a peer that resets this stream now ends it early. LONG_MS: who has waited so long,
 * for an answer or in the middle of one, has not asked to throw it away. */
#define H2_LONG_MS 1000u
bool h2_is_early(const struct h2_stream *st);

#endif
