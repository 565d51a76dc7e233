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

/* conf_client_policy is what a listener asks of clients: a row of tls.client. The spans live as
 * above. */
struct conf_client_policy {
  const struct span *names; /* none: all that no other row has */
  uint32_t name_count;
  bool required;
  uint8_t forward; /* off, cert, chain */
  uint32_t depth;
  struct span ca_pem, ca_label;   /* of all files together */
  struct span crl_pem, crl_label; /* empty: none */
};
/* CONF_BAD_CLIENT + i in *bad_cert of conf_hooks.tls: row i of tls.client is at fault. */
#define CONF_BAD_CLIENT 0x80000000u

/* conf_cert is one certificate of a listener, for the TLS seam (control/ makes tls_servers). */
struct conf_cert {
  const struct span *names;
  uint32_t name_count;
  struct span cert_pem, key_pem, label;
  bool is_default;
};
/* conf_tls is the policy of a listener. */
struct conf_tls {
  const struct conf_cert *certs;
  uint16_t min_version, max_version;
  const struct conf_client_policy *clients;
  uint32_t cert_count, client_count;
  struct span alpn, listener; /* what is offered, in wire form, best first; name */
  struct span ech_pem, ech_label; /* keys of ECH and their file; empty: none */
  bool early_data;
  uint64_t content;    /* hash of all this */
};

/* conf_tls_bad is the key that a policy failed by. */
enum conf_tls_bad { CONF_TLS_BAD_NONE, CONF_TLS_BAD_CA, CONF_TLS_BAD_CERT };

#endif
