/* base64.h: base64 with padding (RFC 4648 section 4), whole and as a stream. */
#ifndef WEIR_HTTP_BASE64_H
#define WEIR_HTTP_BASE64_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/span.h"

/* base64_len is how long len bytes are when they are written. */
static inline size_t base64_len(size_t len) { return (len + 2) / 3 * 4; }
/* base64_write appends bytes with padding. */
void base64_write(struct span bytes, struct buf *out);

/* base64_in reads a stream of groups of four characters: a padded group may be followed by
 * others, as where texts that were written one by one are joined. Begin with zeroes. */
struct base64_in {
  uint32_t bits;
  uint8_t count, pad; /* characters of the present group; those of them that are padding */
};

/* base64_read takes characters as long as out has room for a group; *used is how many. False: what
 * stands there is no base64 (nothing else is to be read). */
MUST_USE bool base64_read(struct base64_in *in, struct span text, size_t *used, struct buf *out);
/* base64_whole: the last group came to its end. */
static inline bool base64_whole(const struct base64_in *in) { return in->count == 0; }

#endif
