/* tls_talk.h: TLS to an endpoint without a loop: ciphertext in, ciphertext out; the same policy and
 * the same causes as on the data path (tls_client.h). For checks of endpoints, off the data path.
 * Moves no bytes itself, keeps no time. RFC 8446, RFC 5246. */
#ifndef WEIR_IO_TLS_TALK_H
#define WEIR_IO_TLS_TALK_H

#include "weir/base/buf.h"
#include "weir/io/tls_client.h"

struct tls_talk;

/* tls_offer is what is offered by ALPN, and with H2 demanded. */
enum tls_offer { TLS_OFFER_POLICY, TLS_OFFER_HTTP_1_1, TLS_OFFER_H2 };

enum tls_step {
  TLS_STEP_DONE,
  TLS_STEP_MORE,   /* ciphertext is needed (tls_talk_room) */
  TLS_STEP_END,    /* of read: close_notify came */
  TLS_STEP_FAILED, /* tls_talk_end tells why; an alert may be in the output */
};

/* tls_talk_new begins a client's side; takes a ref on peer, which is of this thread. */
struct tls_talk *tls_talk_new(struct tls_peer *peer, enum tls_offer offer);
void tls_talk_free(struct tls_talk *t);

/* tls_talk_room is where ciphertext that came goes, at least one byte after TLS_STEP_MORE;
 * tls_talk_took: n bytes were put there. */
struct buf tls_talk_room(struct tls_talk *t);
void tls_talk_took(struct tls_talk *t, size_t n);
/* tls_talk_output is ciphertext to be sent; tls_talk_sent takes n bytes off it. */
struct span tls_talk_output(const struct tls_talk *t);
void tls_talk_sent(struct tls_talk *t, size_t n);

/* tls_talk_shake goes on with the handshake; DONE: *h2: what was chosen. */
MUST_USE enum tls_step tls_talk_shake(struct tls_talk *t, bool *h2);
/* tls_talk_read puts *got bytes of text into room, which has some: DONE. */
MUST_USE enum tls_step tls_talk_read(struct tls_talk *t, struct buf room, size_t *got);
/* tls_talk_write encrypts the first *took bytes of text, which is not empty, into the output. */
MUST_USE enum tls_step tls_talk_write(struct tls_talk *t, struct span text, size_t *took);
/* tls_talk_bye adds close_notify to the output, where the handshake was done. */
void tls_talk_bye(struct tls_talk *t);
/* tls_talk_end is the cause of a failure, END_OK where it has no word of its own (after the
 * handshake); *why: in words, of the library; empty: it has none. */
enum end tls_talk_end(const struct tls_talk *t, struct span *why);

#endif
