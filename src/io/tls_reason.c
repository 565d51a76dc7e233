/* tls_reason.c: the library's words for its errors, as logs and status have them. It has none
 * for an alert that it does not know (RFC 8446 section 6 leaves room for more): of that the
 * number is told. Called by stream_tls.c and tls_line.c, on any thread. */
#include <pthread.h>

#include "io/tls_conn_priv.h"

#define ALERTS 256u

static char alert_texts[ALERTS][sizeof "ALERT_255"];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void) {
  for (uint32_t i = 0; i < ALERTS; i++) {
    struct buf text = buf_of(alert_texts[i], sizeof alert_texts[i]); /* with the NUL */
    buf_printf(&text, "ALERT_%u", i);
  }
}

/* unknown: what stands in place of a word. */
static bool unknown(const char *text) {
  const char *none = ERR_reason_error_string(ERR_PACK(ERR_LIB_SSL, 0xfff));
  return !text || (none && span_eq(span_str(text), span_str(none)));
}

const char *tls_reason_text(uint32_t code) {
  const char *text = ERR_reason_error_string(code);
  int alert = tls_reason_of(code) - SSL_AD_REASON_OFFSET;
  if (alert < 0 || alert >= (int)ALERTS || !unknown(text)) return text;
  pthread_once(&once, fill);
  return alert_texts[alert];
}
