/* end.c: the rows of end.def as data. Looked up by number on the data path, by word in tools. */
#include "weir/base/end.h"

static const struct end_row rows[END_COUNT] = {
#define END(id, text, answer, h2, severity, retry, sentence) \
  [END_##id] = {.word = {text, sizeof(text) - 1}, \
                .status = answer, \
                .h2_error = h2, \
                .level = END_LEVEL_##severity, \
                .retryable = retry, \
                .detail = {sentence, sizeof(sentence) - 1}},
#include "weir/base/end.def"
#undef END
};

const struct end_row *end_get(enum end e) {
  check((unsigned)e < END_COUNT);
  return &rows[e];
}

bool end_find(struct span word, enum end *out) {
  for (unsigned e = 0; e < END_COUNT; e++) {
    if (!span_eq(rows[e].word, word)) continue;
    *out = (enum end)e;
    return true;
  }
  return false;
}
