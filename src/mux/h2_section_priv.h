/* h2_section_priv.h: field sections of a connection on their way in (h2_section.c). */
#ifndef WEIR_MUX_H2_SECTION_PRIV_H
#define WEIR_MUX_H2_SECTION_PRIV_H

#include "mux/h2_priv.h"

enum h2_open {
  H2_OPEN_NEW,   /* of a new stream */
  H2_OPEN_MORE,  /* of one that is there */
  H2_OPEN_DROP,  /* read and dropped: refused, or reset by us before */
  H2_OPEN_RESET, /* the same, and the stream is to be reset by *error */
  H2_OPEN_BAD,   /* the connection ends by *error */
};

/* h2_section_limits takes h->limits for the next section: of a new connection, and for each. */
void h2_section_limits(struct h2 *h);
/* h2_section_open begins the section of a HEADERS frame. */
enum h2_open h2_section_open(struct h2 *h, const struct h2_frame *f, enum h2_error *error);

enum h2_taken {
  H2_SECTION_GOES_ON, /* or is whole, and its stream's owner was told */
  H2_SECTION_REFUSED, /* whole, but larger than our SETTINGS allow: its owner was told */
  H2_SECTION_HUGE,    /* more than is worth reading */
  H2_SECTION_BAD,     /* the tables are out of step */
  H2_SECTION_NO_MEMORY,
};
enum h2_taken h2_section_take(struct h2 *h, struct span fragment, bool last);

#endif
