/* fuzz_dns_srv.c: replies to questions for SRV records (control/dns_srv.c). The input is a whole
 * DNS message. Checked: what is taken is in order, each once, with a good host name, port, rank
 * and share; a cut message gives no more than the whole one says it has; what is refused leaves
 * *out alone. */
#include <stdlib.h>

#include "control/dns_priv.h"
#include "weir/base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void check_target(const char *target) {
  size_t label = 0, len = 0;
  for (; target[len]; len++) {
    char c = target[len];
    bool plain = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    check(plain || (c == '.' && label > 0));
    label = c == '.' ? 0 : label + 1;
    check(label <= 63);
  }
  check(label > 0 && len <= 253);
}

static void check_rows(const struct srv_reply *r) {
  check(r->count > 0 && r->count <= NAME_ANSWERS_MAX && r->ttl_s <= INT32_MAX);
  check(r->left_out == 0 || r->count == NAME_ANSWERS_MAX);
  for (uint32_t i = 0; i < r->count; i++) {
    const struct srv_record *row = &r->rows[i], *last = i ? row - 1 : NULL;
    check_target(row->target);
    check(row->port > 0 && row->rank < SRV_RANKS);
    check(row->share >= 1 && row->share <= SRV_SHARE_MAX);
    check(!last || last->priority <= row->priority);
    check(!last || last->rank <= row->rank);
    check(!last || last->priority < row->priority || strcmp(last->target, row->target) < 0 ||
          (strcmp(last->target, row->target) == 0 && last->port < row->port));
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  struct srv_reply r = {.count = 12345};
  if (len > 65535) return 0;
  /* Memory of its own size: a read past the end is seen. */
  char *copy = mem_alloc(len);
  memcpy(copy, data, len);
  enum resolve_result result = srv_parse(span_of(copy, len), &r);
  check(result == RESOLVE_OK || result == RESOLVE_EMPTY || result == RESOLVE_BAD);
  if (result == RESOLVE_OK) {
    check_rows(&r);
    struct srv_reply cut;
    if (srv_parse(span_of(copy, len - 1), &cut) == RESOLVE_OK) {
      check_rows(&cut);
      srv_reply_fini(&cut);
    }
    srv_reply_fini(&r);
  } else {
    check(r.count == 12345);
  }
  mem_free(copy);
  return 0;
}
