/* tls_params.c: groups of the key exchange and suites of TLS 1.2 as the configuration names them.
 * Which names there are stands in options.def; which of them this library has, it says here.
 * Called by tls_server.c and tls_client.c, off the data path. */
#include <openssl/err.h>

#include "io/tls_priv.h"

/* lacking finds the first name of a list that the library does not take alone, for the message. */
static struct span lacking(SSL_CTX *ctx, const char *list) {
  struct span rest = span_str(list), name;
  while (span_next_token(&rest, ':', &name)) {
    char one[64];
    struct buf b = buf_of(one, sizeof(one));
    buf_put(&b, name);
    buf_put(&b, span_of("", 1));
    if (b.full || SSL_CTX_set1_curves_list(ctx, one) != 1) return name;
  }
  return SPAN_EMPTY;
}

bool tls_params_set(SSL_CTX *ctx, const char *groups, const char *ciphers, uint32_t *bad,
                    struct buf *why) {
  if (groups && SSL_CTX_set1_curves_list(ctx, groups) != 1) {
    struct span name = lacking(ctx, groups);
    buf_printf(why, "the TLS library that weir was built with (%s) has no group " SPAN_FMT,
               tls_library(), SPAN_ARG(name));
    *bad = TLS_BAD_GROUPS;
    ERR_clear_error();
    return false;
  }
  if (ciphers && SSL_CTX_set_strict_cipher_list(ctx, ciphers) != 1) {
    buf_printf(why, "the TLS library that weir was built with (%s) has not all of %s",
               tls_library(), ciphers);
    *bad = TLS_BAD_CIPHERS;
    ERR_clear_error();
    return false;
  }
  return true;
}
