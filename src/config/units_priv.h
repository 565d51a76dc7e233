/* units_priv.h: times, sizes, percentages, factors and words as the file writes them (units.c). */
#ifndef WEIR_CONFIG_UNITS_PRIV_H
#define WEIR_CONFIG_UNITS_PRIV_H

#include "weir/base/buf.h"

/* The parsers: false and *out untouched when the text is no such thing. */
MUST_USE bool duration_parse(struct span text, uint64_t *ms);
MUST_USE bool size_parse(struct span text, uint64_t *bytes);
/* percent_parse reads "12.5%" in millionths. */
MUST_USE bool percent_parse(struct span text, uint64_t *ppm);
/* factor_parse reads "1.9" in thousandths. */
MUST_USE bool factor_parse(struct span text, uint64_t *permille);
void factor_write(uint64_t permille, struct text *out);
void duration_write(uint64_t ms, struct text *out);
void size_write(uint64_t bytes, struct text *out);
void percent_write(uint64_t ppm, struct text *out);
/* word_find gives the index of a word in a list separated by spaces, or -1. word_at the reverse.
 * */
int word_find(const char *words, struct span word);
struct span word_at(const char *words, uint32_t index);

#endif
