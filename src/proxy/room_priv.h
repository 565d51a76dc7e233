/* room_priv.h: the lines in which a worker's connections without a request stand, the longest in
 * it first, for whoever makes room when there are too many (room.c). */
#ifndef WEIR_PROXY_ROOM_PRIV_H
#define WEIR_PROXY_ROOM_PRIV_H

#include <stdint.h>

struct down;
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

/* room_make ends a connection without a request where w has no place for a new one. */
void room_make(struct worker *w);
/* room_owes: d has yet to send the head of a request (the first call counts); room_idle: it is
 * between two; room_leave: neither. */
void room_owes(struct down *d);
void room_idle(struct down *d);
void room_leave(struct down *d);

#endif
