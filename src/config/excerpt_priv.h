/* excerpt_priv.h: the piece of a source line that is shown under a fault. */
#ifndef WEIR_CONFIG_EXCERPT_PRIV_H
#define WEIR_CONFIG_EXCERPT_PRIV_H

#include "conf_priv.h"

/* excerpt is printable text: tabs are spaces, control and broken bytes "?", long lines are cut to
 * a window around the place. caret_at and caret_len count characters of line. */
struct excerpt {
  struct span line;
  uint32_t caret_at, caret_len;
};

/* text_shown appends s with control and broken bytes as "?", for any terminal. */
void text_shown(struct text *out, struct span s);
/* redact copies the line [start, end) of a file with every byte of a secret in clear as a star;
 * columns stay (redact.c). */
struct span redact(struct span text, size_t start, size_t end, struct arena *arena);
void excerpt_make(struct excerpt *out, const struct place *at, struct arena *arena);

#endif
