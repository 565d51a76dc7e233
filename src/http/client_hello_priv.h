/* client_hello_priv.h: what client_hello.c (the message) and client_hello_scan.c (where it lies)
 * share. Stays inside http/. */
#ifndef WEIR_HTTP_CLIENT_HELLO_PRIV_H
#define WEIR_HTTP_CLIENT_HELLO_PRIV_H

#include "weir/http/client_hello.h"

static inline uint16_t hello_be16(const char *at) {
  const unsigned char *u = (const unsigned char *)at;
  return (uint16_t)(u[0] << 8 | u[1]);
}

/* HELLO_MAJOR is the first byte of every version from SSL 3 on. */
enum { HELLO_MAJOR = 3, HELLO_TYPE = 1 };

#endif
