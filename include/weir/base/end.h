/* end.h: why a stream ended, one exact cause each, from end.def. The same word stands in the log
 * line, the metric label and the CLI. Every layer names causes; only proxy/ acts on them. */
#ifndef WEIR_BASE_END_H
#define WEIR_BASE_END_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

enum end {
#define END(id, word, status, h2, level, retry, detail) END_##id,
#include "weir/base/end.def"
#undef END
  END_COUNT
};

enum end_level {
  END_LEVEL_NONE,
  END_LEVEL_DEBUG,
  END_LEVEL_INFO,
  END_LEVEL_WARN,
  END_LEVEL_ERROR
};

/* end_row is one row of end.def. */
struct end_row {
  struct span word;   /* "client.timeout.header" */
  uint16_t status;    /* HTTP status answered (0: none can be sent), 499 for a client that left */
  uint16_t h2_error;  /* RFC 9113 section 7 code */
  uint8_t level;      /* enum end_level */
  bool retryable;     /* another attempt may be made if the request allows it */
  struct span detail; /* one sentence for a person */
};

/* end_get returns the row; e is below END_COUNT. */
const struct end_row *end_get(enum end e);
/* end_find looks a word up; false when it is not in the table. */
bool end_find(struct span word, enum end *out);

#endif
