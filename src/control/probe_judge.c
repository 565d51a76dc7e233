/* probe_judge.c: what the status and the body of an answer to a check mean, whatever protocol
 * brought them. Does not: read either (probe_reply.c, probe_h2.c). */
#include <string.h>

#include "control/health_priv.h"

#define SHOWN_MAX 40u /* bytes of health.body in a sentence */

static bool expected(const struct pool_health *h, unsigned status) {
  for (uint32_t i = 0; i < h->expect_count; i++)
    if (status >= h->expect[i].first && status <= h->expect[i].last) return true;
  return false;
}

bool probe_status(const struct pool_health *h, unsigned status, struct probe_outcome *out) {
  if (!expected(h, status)) {
    probe_end(out, PROBE_STATUS, "status %u is not in " SPAN_FMT " (health.expect)", status,
              SPAN_ARG(h->expect_text));
    return true;
  }
  if (h->body.len) return false;
  probe_end(out, PROBE_PASS, "%s", "");
  return true;
}

/* ---- body ---- */

static void lacks(const struct pool_health *h, const char *where, struct probe_outcome *out) {
  char shown[SHOWN_MAX + 1];
  size_t len = h->body.len < SHOWN_MAX ? h->body.len : SHOWN_MAX;
  for (size_t i = 0; i < len; i++) {
    unsigned char c = (unsigned char)h->body.ptr[i];
    shown[i] = c < 0x20 || c >= 0x7f ? '.' : (char)c;
  }
  shown[len] = 0;
  probe_end(out, PROBE_BODY, "the body does not contain \"%s\"%s%s (health.body)", shown,
            len < h->body.len ? "..." : "", where);
}

void probe_lacks(const struct pool_health *h, struct probe_outcome *out) { lacks(h, "", out); }

/* find searches a run of the body; a needle may begin in one run and end in a later one. */
static bool find(struct probe_look *look, const struct pool_health *h, struct span data) {
  look->looked_at += (uint32_t)data.len;
  while (data.len) { /* each turn takes at least PROBE_NEEDLE_MAX bytes, or all */
    struct span piece = span_sub(data, 0, sizeof look->window - look->window_len);
    memcpy(look->window + look->window_len, piece.ptr, piece.len);
    look->window_len += (uint32_t)piece.len;
    data = span_from(data, piece.len);
    if (memmem(look->window, look->window_len, h->body.ptr, h->body.len)) return true;
    uint32_t keep = (uint32_t)h->body.len - 1;
    if (look->window_len > keep) {
      memmove(look->window, look->window + (look->window_len - keep), keep);
      look->window_len = keep;
    }
  }
  return false;
}

bool probe_look_at(struct probe_look *look, const struct pool_health *h, struct span data,
                   struct probe_outcome *out) {
  if (find(look, h, data)) {
    probe_end(out, PROBE_PASS, "%s", "");
    return true;
  }
  if (look->looked_at <= PROBE_BODY_MAX) return false;
  lacks(h, " in its first 64 KiB", out);
  return true;
}
