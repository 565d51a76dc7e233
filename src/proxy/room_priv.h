/* room_priv.h: the lines in which a worker's connections without a request stand, the longest in
 * it first, for whoever makes room when there are too many (room.c). */
#ifndef WEIR_PROXY_ROOM_PRIV_H
#define WEIR_PROXY_ROOM_PRIV_H

#include <stdbool.h>
#include <stdint.h>

struct down;
struct timer;
struct worker;

/* room_place is where a connection stands in a line: its neighbours by slot, for it to be small.
 */
struct room_place {
  uint32_t ahead, behind; /* slots + 1; 0: none */
  uint32_t since;         /* low bits of the ms since when it has been there */
};

struct room_line {
  uint32_t first, last; /* slots + 1; 0: none */
};

/* room_left: w has a place for a new one; those beyond the limit have none. */
bool room_left(const struct worker *w);
/* room_make ends a connection without a request where w has no place for a new one. */
void room_make(struct worker *w);
/* room_watch: there are OVER_RESERVE connections beyond the limit: where nobody could end for the
 * next one, none is accepted until somebody could, which the timer sees. */
void room_watch(struct worker *w);
void room_on_timer(struct timer *timer, uint64_t now);
/* room_owes: d has yet to send the head of a request, or the rest of one that was answered (the
 * first call counts); room_idle: it is between two; room_leave: neither. */
void room_owes(struct down *d);
void room_idle(struct down *d);
void room_leave(struct down *d);

#endif
