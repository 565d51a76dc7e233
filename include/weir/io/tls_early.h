/* tls_early.h: early data (0-RTT) of clients: what came with their first flight and may be a
 * replay of it (RFC 8446 section 8, appendix E.5; RFC 8470). A conn whose client sent it opens
 * before its handshake is done: conn_events.on_secure tells when that is. */
#ifndef WEIR_IO_TLS_EARLY_H
#define WEIR_IO_TLS_EARLY_H

#include "weir/io/conn.h"

/* tls_early is what became of early data; NONE: the client sent none, or its listener takes none.
 * REPLAYED: its ticket has been used for early data before. REFUSED: by the library (the ticket's
 * age, another protocol), or because nobody could say whether it is a replay. Refused early data
 * is dropped unread and the client sends it again after the handshake. */
enum tls_early {
  TLS_EARLY_NONE,
  TLS_EARLY_ACCEPTED,
  TLS_EARLY_REPLAYED,
  TLS_EARLY_REFUSED,
};

/* conn_early tells whether the handshake of c goes on while its bytes are delivered. */
bool conn_early(const struct conn *c);
/* conn_early_bytes is how many of the first bytes of c (conn.bytes_in) came as early data: at most
 * TLS_EARLY_MAX, which is the library's bound. */
uint32_t conn_early_bytes(const struct conn *c);
#define TLS_EARLY_MAX 14336u

/* TLS_EARLY_WINDOW_MS: a first flight whose ticket's age is off by more than 60 s is refused by
 * the library, so that a copy is worth something for at most twice that; a ticket is remembered
 * for longer. */
#define TLS_EARLY_WINDOW_MS 130000u
/* tls_early_once tells whether a ticket is used for early data for the first time in that window,
 * over all workers of this process, and remembers it. TLS_EARLY_REFUSED: its place in the table is
 * full. Any thread, after tls_early_init, which may be called again. */
enum tls_early tls_early_once(struct span ticket, uint64_t now_ms);
void tls_early_init(void);

#endif
