/* tls_ech.h: Encrypted Client Hello (draft-ietf-tls-esni, as the library has it): a file of keys,
 * and how a handshake came out. The file is PEM: PRIVATE KEY (PKCS#8, X25519), then ECHCONFIG, an
 * ECHConfigList for that key; more pairs may follow: older ones, which are still opened, but no
 * longer offered to clients whose own is out of date. */
#ifndef WEIR_IO_TLS_ECH_H
#define WEIR_IO_TLS_ECH_H

#include "weir/io/conn.h"

/* tls_ech is what became of an encrypted ClientHello. REFUSED: it could not be opened (or it was
 * but noise, GREASE), and the outer one was answered, with the keys of today. */
enum tls_ech { TLS_ECH_NONE, TLS_ECH_ACCEPTED, TLS_ECH_REFUSED };

/* TLS_BAD_ECH is tls_server_new's *bad_cert where the file of keys is at fault. */
#define TLS_BAD_ECH (UINT32_MAX - 8u)

/* tls_ech_make appends a new pair for public_name to pem, and as base64 what DNS is to say of it
 * (the ech parameter of HTTPS records) to dns. False: a buf is too small, or the name is none. */
MUST_USE bool tls_ech_make(struct span public_name, struct buf *pem, struct buf *dns);

#endif
