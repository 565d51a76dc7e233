/* tls_signer.h: private-key operations of TLS handshakes in threads of their own, so that a storm
 * of handshakes with RSA keys does not stand in the way of what a worker's loop serves. A
 * handshake waits for its signature without holding anything up. Threads are the caller's. */
#ifndef WEIR_IO_TLS_SIGNER_H
#define WEIR_IO_TLS_SIGNER_H

#include "weir/io/conn.h"

/* tls_signers_open: from now on servers (tls_server_new) leave costly keys to signers: RSA and
 * P-384. P-256 costs less than handing it over. Before the first server. */
void tls_signers_open(void);
/* tls_signer_run is what a thread does until tls_signers_close, which comes after the last loop
 * with TLS was freed. */
void tls_signer_run(void);
void tls_signers_close(void);

/* conn_tls_signing: the handshake of c waits for a signer. */
bool conn_tls_signing(const struct conn *c);

struct tls_signer_stats {
  uint64_t waiting; /* handshakes, now: those being signed for too */
  uint64_t signed_total;
  uint64_t dropped_total; /* handshakes that ended while they waited for their turn */
};
void tls_signer_stats_get(struct tls_signer_stats *out); /* any thread */

#endif
