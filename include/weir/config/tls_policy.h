/* tls_policy.h: the TLS policy of a pool as the configuration has it, for the TLS seam (control/
 * makes tls_clients of it). */
#ifndef WEIR_CONFIG_TLS_POLICY_H
#define WEIR_CONFIG_TLS_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

#define CONF_PIN_BYTES 32u

/* conf_upstream_tls: the spans live as long as the run that compiles. */
struct conf_upstream_tls {
  bool verify;
  bool h2_only;           /* connections.protocol is h2 */
  uint16_t min_version;   /* 0x0303, 0x0304 */
  struct span ca_pem, ca_label; /* trusted, where verify */
  struct span cert_pem, key_pem, cert_label; /* weir's own; empty: none */
  struct span sni;
  const struct span *names;
  uint32_t name_count;
  const uint8_t (*pins)[CONF_PIN_BYTES];
  uint32_t pin_count;
  struct span alpn;       /* what is offered, in wire form, best first */
  struct span pool;       /* name, for messages; not a part of the policy */
  uint64_t content;       /* hash of all else: equal policies may be one object */
};

/* CONF_TLS_BAD_ECH is what the tls hook says of listeners.*.tls.ech in place of a certificate. */
#define CONF_TLS_BAD_ECH (UINT32_MAX - 8u)

/* conf_tls_bad is the key that a policy failed by. */
enum conf_tls_bad { CONF_TLS_BAD_NONE, CONF_TLS_BAD_CA, CONF_TLS_BAD_CERT };

#endif
