/* compile_retry.c: pools.*.retry from the file's words to the sets that the data path tests. */
#include "compile_priv.h"

static const char *const words[RETRY_ROW_COUNT] = {
#define RETRY(id, word, doc) word,
#include "weir/model/retry.def"
#undef RETRY
};

static void add_status(struct pool_retry *r, struct span text) {
  uint64_t status = 0;
  check(span_u64(text, &status) && status >= RETRY_STATUS_FIRST); /* values_text.c saw to it */
  uint64_t bit = status - RETRY_STATUS_FIRST;
  check(bit < RETRY_STATUS_COUNT);
  r->statuses[bit / 32] |= 1u << (bit % 32);
}

static void add_cause(struct pool_retry *r, struct span text) {
  for (uint32_t i = 0; i < RETRY_ROW_COUNT; i++) {
    if (!span_eq(text, span_str(words[i]))) continue;
    r->on |= 1u << i;
    return;
  }
  add_status(r, text);
}

void compile_retry(struct pool_retry *out, const struct conf_pool *row) {
  *out = row->retry;
  for (uint32_t i = 0; i < row->retry_on.count; i++) add_cause(out, row->retry_on.items[i].text);
  if (!row->retry_on.count) out->on = RETRY_CONNECT | RETRY_RESET;
}
