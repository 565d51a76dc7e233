/* h2_pseudo.c: names of pseudo-fields (RFC 9113 section 8.3). Judges nothing: h2_message.c does.
 */
#include "weir/http/h2_pseudo.h"

static const struct span names[H2_PSEUDO_COUNT] = {
#define PSEUDO(id, text) [H2_PSEUDO_##id] = {text, sizeof(text) - 1},
#include "weir/http/h2_pseudo.def"
#undef PSEUDO
};

enum h2_pseudo_id h2_pseudo_find(struct span name) {
  unsigned id = 0;
  while (id < H2_PSEUDO_COUNT && !span_eq(names[id], name)) id++;
  return (enum h2_pseudo_id)id;
}

struct span h2_pseudo_text(enum h2_pseudo_id id) {
  check((unsigned)id < H2_PSEUDO_COUNT);
  return names[id];
}
