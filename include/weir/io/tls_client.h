/* tls_client.h: TLS to endpoints. A tls_client is the compiled TLS policy of one pool: what an
 * endpoint's certificate has to be, what weir shows, what is offered; immutable, made off the data
 * path. A tls_peer is such a policy at one endpoint as one worker knows it: the names, the
 * sessions, the protocol that was chosen last. Sessions never leave their peer, so that each is
 * used only at the same endpoint and under the same policy. RFC 8446, RFC 5280, RFC 9525. */
#ifndef WEIR_IO_TLS_CLIENT_H
#define WEIR_IO_TLS_CLIENT_H

#include "weir/base/addr.h"
#include "weir/base/end.h"
#include "weir/io/conn.h"

struct tls_client;
struct tls_peer;

#define TLS_PIN_BYTES 32u

struct tls_client_conf {
  bool verify;             /* chain, times and name; else pins alone, or nothing */
  struct span ca_pem;      /* certificates that are trusted, where verify is */
  struct span ca_label;    /* for messages */
  struct span cert_pem, key_pem, cert_label; /* what weir shows of itself; empty: nothing */
  struct span sni;         /* empty: the endpoint's name, if it has one */
  const struct span *names; /* names and addresses, one of which the certificate must have; none:
                               sni, else the endpoint's name, else its address */
  uint32_t name_count;
  const uint8_t (*pins)[TLS_PIN_BYTES]; /* SHA-256 of public keys (SPKI); none: any */
  uint32_t pin_count;
  uint16_t min_version; /* 0x0303, 0x0304 */
  struct span groups;   /* as in tls_server_conf */
  struct span alpn;     /* what is offered, in wire form; empty: nothing, for it is no HTTP: the
                           endpoint may speak first */
  bool h2_only;         /* an endpoint that does not choose h2 is refused */
  uint32_t workers;
};

/* tls_client_bad is which part of a conf tls_client_new refused. */
enum tls_client_bad { TLS_BAD_NONE, TLS_BAD_CA, TLS_BAD_CERT, TLS_BAD_POOL_GROUPS };

/* tls_client_new compiles, with one reference; NULL with a sentence in why and what it is about in
 * *bad. Not on the data path. */
MUST_USE struct tls_client *tls_client_new(const struct tls_client_conf *conf,
                                           enum tls_client_bad *bad, struct buf *why);
void tls_client_ref(struct tls_client *client);   /* any thread, atomic */
void tls_client_unref(struct tls_client *client); /* not on the data path: it may free */
/* tls_clients_reap frees those whose last ref was a peer's. Not on the data path. */
void tls_clients_reap(void);

/* tls_counts are what a peer counts; NULL: nobody does. */
struct tls_counts {
  _Atomic uint64_t *full, *resumed, *failed; /* handshakes */
};

/* tls_peer_conf: host is the endpoint's name as it is written, empty: it is an address. */
struct tls_peer_conf {
  struct tls_client *client;
  uint32_t worker;
  struct span host;
  const struct addr *addr;
  struct tls_counts counts;
};
/* tls_peer_new takes a ref on the client; one reference, of its worker's thread as all below. */
struct tls_peer *tls_peer_new(const struct tls_peer_conf *conf);
void tls_peer_ref(struct tls_peer *peer);
void tls_peer_unref(struct tls_peer *peer);
const struct tls_client *tls_peer_client(const struct tls_peer *peer);

/* tls_spoken is what the endpoint chose when it was last offered h2 and http/1.1. */
enum tls_spoken { TLS_SPOKEN_UNKNOWN, TLS_SPOKEN_HTTP_1_1, TLS_SPOKEN_H2 };
/* tls_peer_spoken: that it is HTTP/1.1 is believed for TLS_SPOKEN_MS: it may learn. */
enum tls_spoken tls_peer_spoken(const struct tls_peer *peer, uint64_t now_ms);
#define TLS_SPOKEN_MS 60000u

/* tls_connect stacks TLS on a conn that was just conn_connect'ed (takes a ref on peer): the
 * handshake follows the connect, on_open tells its end. h1_only: h2 is not offered. False: no slot
 * is left, c is untouched. conn_tls_end tells why one failed, END_OK: it did not come to a
 * handshake, or weir had no memory for it. */
MUST_USE bool tls_connect(struct conn *c, struct tls_peer *peer, bool h1_only);
/* tls_clear gives room for what goes out in the clear before the handshake (a PROXY header), while
 * c connects. NULL: no buffer. */
MUST_USE struct buf *tls_clear(struct conn *c, size_t room);
/* conn_tls_shaking: connected, and the handshake is under way. */
bool conn_tls_shaking(const struct conn *c);
/* conn_tls_h2: h2 was chosen. */
bool conn_tls_h2(const struct conn *c);

/* tls_line is TLS to an endpoint without a conn, bytes in and bytes out, for whoever has a socket
 * of his own (health checks): the policy's last worker's part, which must be nobody else's. */
struct tls_line;
enum tls_offer { TLS_OFFER_POLICY, TLS_OFFER_HTTP_1_1, TLS_OFFER_H2 /* and nothing else */ };
struct tls_line *tls_line_new(struct tls_client *client, struct span host,
                              const struct addr *addr, enum tls_offer offer);
void tls_line_free(struct tls_line *line);
/* tls_line_out is what is to be sent now; tls_line_sent takes n bytes off it. tls_line_in takes
 * what came. */
struct span tls_line_out(const struct tls_line *line);
void tls_line_sent(struct tls_line *line, size_t n);
void tls_line_in(struct tls_line *line, struct span wire);
/* TLS_LINE_MORE: more bytes have to come. END: close_notify did. FAILED: see tls_line_end. */
enum tls_line_step { TLS_LINE_OK, TLS_LINE_MORE, TLS_LINE_END, TLS_LINE_FAILED };
/* tls_line_shake goes on with the handshake; tls_line_read puts *n bytes into room;
 * tls_line_write takes all of bytes. */
enum tls_line_step tls_line_shake(struct tls_line *line);
enum tls_line_step tls_line_read(struct tls_line *line, struct buf room, size_t *n);
enum tls_line_step tls_line_write(struct tls_line *line, struct span bytes);
/* tls_line_bye adds close_notify to what is to be sent, where the handshake was done. */
void tls_line_bye(struct tls_line *line);
/* tls_line_end is why it failed, *why in the library's words; tls_line_h2: h2 was chosen. */
enum end tls_line_end(const struct tls_line *line, struct span *why);
bool tls_line_h2(const struct tls_line *line);

#endif
