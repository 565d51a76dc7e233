/* tls_harness.h: a loop over memory and TLS clients of the library itself, for tests of io/tls_*
 * and stream_tls.c: no socket, no thread, no clock but the one that a test sets. */
#ifndef WEIR_TESTS_TLS_HARNESS_H
#define WEIR_TESTS_TLS_HARNESS_H

#include <openssl/ssl.h>

#include "weir/base/buf.h"
#include "weir/io/loop_ops.h"
#include "weir/io/tls.h"

#define TH_WIRES 2048

/* th_cert is a certificate and its key in PEM, NUL-terminated, on the heap until th_cert_free. */
enum th_key { TH_P256, TH_P384, TH_P521, TH_RSA2048, TH_RSA4096, TH_RSA1024, TH_ED25519 };
struct th_cert {
  char *cert, *key;
};
/* th_cert_make signs with its own key; san is "DNS:a,DNS:*.b" or NULL; end_s counts from now. */
struct th_cert th_cert_make(enum th_key kind, const char *san, long end_s);
/* th_cert_agree_only may not sign: its key usage is keyAgreement alone. */
struct th_cert th_cert_agree_only(void);
/* th_chain_make: a leaf that `ca` (made here) signs; cert holds leaf, then CA, or reversed. */
struct th_cert th_chain_make(const char *san, bool reversed);
void th_cert_free(struct th_cert *cert);
/* th_key_pem writes the key of cert in the old form ("RSA/EC PRIVATE KEY") or encrypted. */
char *th_key_old(const struct th_cert *cert);
char *th_key_encrypted(const struct th_cert *cert);

/* th_wire is one connection: what the client sent, what weir sent. */
struct th_wire {
  struct conn *conn;
  struct text in, out;
  size_t in_off;
  bool in_fin, in_reset, out_fin, closed;
  const void *sending;
  size_t sending_len;
  uint8_t cancel; /* bit per op to end with -ECANCELED */
  bool recv_armed, poll_armed;
};

/* th_loop is a loop over wires. recv_max and send_max cut what one completion moves. */
struct th_loop {
  struct loop loop;
  struct th_wire wires[TH_WIRES];
  uint32_t wire_count;
  size_t recv_max, send_max;
};
struct th_loop *th_loop_new(void);
void th_loop_free(struct th_loop *t);

/* th_pair is a conn of weir's with its owner's record, and the client at the other end. */
struct th_pair {
  struct th_loop *t;
  struct th_wire *wire;
  struct conn *conn; /* NULL after it was closed */
  SSL *client;       /* NULL: the test writes wire->in itself */
  size_t fed;        /* of wire->out, given to the client */
  int opened, open_err, eof, error, drained;
  struct text got;    /* plaintext that weir got */
  size_t consume_max; /* of each on_data; SIZE_MAX: all */
  size_t quota;       /* stop reading after this many bytes; SIZE_MAX: never */
  bool close_on_open, close_on_data, echo, read_on_open;
  struct tls_info info; /* at on_open */
  char sni[256];
};
struct th_pair *th_pair_new(struct th_loop *t, struct tls_server *server, uint32_t worker,
                            SSL *client);
void th_pair_free(struct th_pair *p);
/* th_run moves bytes until nobody has more to do. */
void th_run(struct th_pair *p);
/* th_turn runs the loop once. */
void th_turn(struct th_loop *t);
/* th_pump lets the client read, shake hands and put its bytes on the wire. */
bool th_pump(struct th_pair *p);

/* th_client makes a client; any may be NULL or 0. */
struct th_client_conf {
  uint16_t min, max;
  const char *ciphers, *groups, *sigalgs, *sni;
  struct span alpn;
  SSL_SESSION *resume;
};
SSL *th_client_new(const struct th_client_conf *conf);
/* th_ticket is the newest ticket that the client got since the last call; the caller frees it. */
SSL_SESSION *th_ticket(void);

/* th_server makes a server of certificates; policy and alpn may be empty. Fails the test when
 * tls_server_new does. */
struct th_served {
  const struct th_cert *cert;
  const char *name; /* NULL: those of the certificate */
  bool is_default;
};
struct tls_server *th_server(const struct th_served *served, uint32_t count, struct span alpn,
                             struct span policy);
/* th_server_of is th_server with whatever else conf has; certificates, versions and workers are
 * filled in. */
struct tls_server *th_server_of(const struct th_served *served, uint32_t count,
                                struct tls_server_conf conf);

#endif
