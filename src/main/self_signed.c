/* self_signed.c: a certificate made at start, kept in memory, given to the configuration as if it
 * stood in the environment. For `proxy --tls` and `demo`; nobody should trust it. */
#include "cli_priv.h"
#include "weir/io/tls.h"

#define PEM_MAX 4096u
#define DAYS 30u

static char cert[PEM_MAX], key[PEM_MAX];

bool self_signed_make(void) {
  static const struct span names[] = {SPAN_LIT("localhost"), SPAN_LIT("127.0.0.1"),
                                      SPAN_LIT("::1")};
  struct buf cert_pem = buf_of(cert, sizeof cert - 1), key_pem = buf_of(key, sizeof key - 1);
  return tls_self_signed(names, array_count(names), DAYS, &cert_pem, &key_pem);
}

const char *self_signed_env(void *ctx, const char *name) {
  (void)ctx;
  return strcmp(name, SELF_SIGNED_CERT) == 0 && cert[0]  ? cert
         : strcmp(name, SELF_SIGNED_KEY) == 0 && key[0] ? key
                                                        : NULL;
}
