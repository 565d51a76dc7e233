/* program.h: an input that is a program: what a target does next is read from it byte by byte.
 * Behind the end there are zeros, so that every input is a whole program. For the targets whose
 * input is more than one message; each says at its head what its bytes mean. */
#ifndef WEIR_FUZZ_PROGRAM_H
#define WEIR_FUZZ_PROGRAM_H

#include <stdint.h>

#include "weir/base/span.h"

/* program is the input as it is read. */
struct program {
  const uint8_t *at;
  size_t left;
};

static inline uint8_t byte(struct program *p) {
  if (p->left == 0) return 0;
  p->left--;
  return *p->at++;
}

/* two_bytes is a number, its high byte first. */
static inline uint32_t two_bytes(struct program *p) {
  uint32_t high = byte(p);
  return high << 8 | byte(p);
}

/* bytes are the next len, or as many as there are. */
static inline struct span bytes(struct program *p, size_t len) {
  if (len > p->left) len = p->left;
  struct span s = span_of((const char *)p->at, len);
  p->at += len;
  p->left -= len;
  return s;
}

#endif
