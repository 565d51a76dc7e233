/* tls_policy.h: the TLS policies of a listener and of a pool as the configuration has them, for
 * the TLS seam (control/ makes tls_servers and tls_clients of them). */
#ifndef WEIR_CONFIG_TLS_POLICY_H
#define WEIR_CONFIG_TLS_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

#define CONF_PIN_BYTES 32u

/* ---- a listener ---- */

/* conf_cert is one certificate of a listener, for the TLS seam (control/ makes tls_servers). */
struct conf_cert {
  const struct span *names;
  uint32_t name_count;
  struct span cert_pem, key_pem, label;
  struct span ocsp_der, ocsp_label; /* empty: none */
  bool is_default;
};
struct conf_tls {
  const struct conf_cert *certs;
  uint32_t cert_count;
  uint16_t min_version, max_version;
  const struct conf_client_policy *clients;
  uint32_t client_count;
  bool client_closed;   /* a name that no row of clients fits is refused */
  struct span alpn;     /* what is chosen from, in wire form, best first */
  bool alpn_optional;   /* who offers nothing is let in, whatever stands in alpn */
  struct span groups, ciphers; /* names, best first, with ':' between; empty: as built */
  bool tickets;
  const struct span *ticket_keys; /* bytes; none: those of the process */
  uint32_t ticket_key_count;
  struct span ech_pem, ech_label; /* keys of ECH and their file; empty: none */
  bool early_data;
  struct span policy;   /* what clients are asked for, as text: sessions are bound to it */
  struct span listener; /* name; not a part of the policy */
  uint64_t content;    /* hash of all this: equal policies may be one object */
};

/* What the tls hook may say is bad, beside the index of a certificate. */
#define CONF_TLS_BAD_OCSP 0x40000000u /* a bit: of the certificate, its OCSP response */
#define CONF_TLS_BAD_NAMES 0x20000000u /* a bit: the names that it is given */
#define CONF_TLS_BAD_SUITES 0x10000000u /* a bit: no suite of ciphers is for its key */
#define CONF_TLS_BAD_NAMELESS 0x08000000u /* a bit: it has no name and is given none */
#define CONF_TLS_BAD_GROUPS (UINT32_MAX - 1u)
#define CONF_TLS_BAD_CIPHERS (UINT32_MAX - 2u)
#define CONF_TLS_BAD_TICKETS (UINT32_MAX - 3u)
#define CONF_TLS_BAD_ECH (UINT32_MAX - 8u)

/* ---- a pool ---- */

/* conf_upstream_tls: the spans live as long as the run that compiles. */
struct conf_upstream_tls {
  bool verify;
  bool h2_only;           /* connections.protocol is h2 */
  uint16_t min_version;   /* 0x0303, 0x0304 */
  struct span ca_pem, ca_label; /* trusted, where verify */
  struct span cert_pem, key_pem, cert_label; /* weir's own; empty: none */
  struct span sni;
  struct span groups;     /* names with ':' between; empty: as built */
  const struct span *names;
  uint32_t name_count;
  const uint8_t (*pins)[CONF_PIN_BYTES];
  uint32_t pin_count;
  struct span alpn;       /* what is offered, in wire form, best first */
  struct span pool;       /* name, for messages; not a part of the policy */
  uint64_t content;       /* hash of all else: equal policies may be one object */
};

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
  bool crl_shared;                /* another row of the listener has one of the files too */
};
/* CONF_BAD_CLIENT + i in *bad_cert of conf_hooks.tls: row i of tls.client is at fault. */
#define CONF_BAD_CLIENT 0x80000000u

/* conf_tls_bad is the key that a policy failed by. */
enum conf_tls_bad {
  CONF_TLS_BAD_NONE,
  CONF_TLS_BAD_CA,
  CONF_TLS_BAD_CERT,
  CONF_TLS_BAD_POOL_GROUPS
};

#endif
