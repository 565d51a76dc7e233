/* tls_conn_priv.h: the TLS state of one conn and of one loop. Only src/io/tls_*.c and stream_tls.c
 * include it. */
#ifndef WEIR_IO_TLS_CONN_PRIV_H
#define WEIR_IO_TLS_CONN_PRIV_H

#include <openssl/err.h>

#include "io/tls_priv.h"
#include "weir/io/tls_early.h"
#include "weir/io/tls_ech.h"

struct tls_identity;
struct tls_peer;
struct sign_job;

enum tls_state {
  TLS_HANDSHAKE,
  TLS_OPEN,
  TLS_PEER_DONE, /* close_notify came: the rest of the wire is dropped */
  TLS_FAILED,    /* told the owner; nothing more goes up */
};

/* TLS_SNIFF_MAX: a plain HTTP method is shorter. */
#define TLS_SNIFF_MAX 16
/* tls_sniff is what bytes that are no TLS may be the beginning of. */
enum tls_sniff {
  TLS_SNIFF_METHOD = 1,   /* letters: of a plain HTTP request */
  TLS_SNIFF_PROXY_V1 = 2, /* of a PROXY header, which begins with letters too */
  TLS_SNIFF_PROXY_V2 = 4,
  TLS_SNIFF_ALL = 7,
};

/* tls_conn is the TLS state of one conn: from the worker's slab, at most 128 bytes. The library's
 * part hangs off ssl, made at the first byte and freed with the conn. */
struct tls_conn {
  struct slab_head head;
  struct conn *conn;
  SSL *ssl;
  union {
    struct tls_server *server; /* ours is the server's side */
    struct tls_peer *peer;     /* is_client: it is the client's */
  };
  struct tls_worker *worker; /* NULL: of a tls_line */
  struct list wait;      /* in worker->waiting */
  struct iobuf *early;   /* ciphertext that waits for the budget or, after that, for the owner */
  uint64_t clock_ns;     /* loop time of the first byte; after the handshake: how long it took */
  struct sign_job *job;  /* a signature that is waited for, or has come (tls_signer.c) */
  const char *why;       /* static text of the library */
  struct tls_identity *identity; /* the client's certificate, good or not; NULL: none */
  char *sni;             /* own canonical copy; NULL: the library's is canonical */
  uint32_t burst;        /* bytes written since the last pause: small records first */
  uint32_t written_ms;   /* low bits of the loop time of the last write */
  uint16_t end;          /* enum end */
  uint8_t state;         /* enum tls_state */
  uint8_t sniff_len;     /* bytes so far that are one of sniff_as */
  uint16_t auth;         /* server: what the client is asked for: row + 1; 0: nothing */
  uint16_t zero_rtt_bytes; /* early data that was delivered (tls_early.c) */
  uint8_t worker_index;    /* which SSL_CTX of server */
  uint8_t sniff_as;        /* bits of enum tls_sniff */
  uint8_t zero_rtt : 2;    /* enum tls_early */
  bool is_client : 1;    /* weir began the connection: peer, not server */
  bool h1_only : 1;      /* client: offers HTTP/1.1, whatever the policy has */
  bool h2_only : 1;      /* client: HTTP/2 */
  bool cert_asked : 1;   /* client: the server asked for a certificate */
  bool sniffing : 1;     /* no byte so far was TLS */
  bool sni_known : 1;    /* a well-formed name was sent */
  bool sni_refused : 1;  /* answered by unrecognized_name */
  bool alpn_refused : 1; /* answered by no_application_protocol */
  bool stapled : 1;      /* an OCSP response goes with the certificate */
  bool staple_stale : 1; /* one would, but it is not valid now */
  bool fin : 1;          /* FIN came behind early */
  bool broken : 1;       /* a write failed: told in the next budget_run */
  bool starved : 1;      /* the library could not write: no buffer was left */
  bool ech_offered : 1;  /* to a server that has keys for it */
  bool zero_rtt_on : 1;  /* open, but the handshake goes on: conn_early */
};
_Static_assert(sizeof(struct tls_conn) <= 128, "two cache lines");

/* tls_worker is a loop's part: the BIO that all its SSLs share, scratch, the handshake queue. */
struct tls_worker {
  struct loop *loop;
  struct slab conns; /* struct tls_conn */
  BIO_METHOD *method;
  BIO *bio;
  struct tls_conn *current; /* whose SSL is on the stack */
  struct span in;           /* what the BIO reads from */
  struct list waiting;      /* tls_conn.wait: handshakes, first come first */
  uint64_t used_ns;         /* of this turn's budget */
  /* tls_signer.c; under its lock but for signed_some: */
  struct list signed_jobs;
  uint32_t signing; /* jobs that are not back */
  _Atomic bool signed_some;
  char scratch[16384];
};

/* tls_clock_ns reads CLOCK_MONOTONIC: the budget is CPU time spent inside one turn, which loop
 * time does not show. */
uint64_t tls_clock_ns(void);
/* tls_wall_s reads CLOCK_REALTIME in seconds: for what ends by the calendar. */
int64_t tls_wall_s(void);
/* tls_worker_get gives the loop's, made at first use. */
struct tls_worker *tls_worker_get(struct loop *loop);
/* tls_of finds the conn whose library call this callback comes from. */
struct tls_conn *tls_of(const SSL *ssl);
/* tls_conn_of is the state of a conn; NULL: it has no TLS. */
const struct tls_conn *tls_conn_of(const struct conn *c);
/* tls_conn_sni is the canonical name that the client asked for; empty: none. */
struct span tls_conn_sni(const struct tls_conn *tls);

/* ---- tls_early.c ---- */
/* tls_early_select says in the ClientHello's callback whether its early data may be taken. */
void tls_early_select(struct tls_conn *tls, const SSL_CLIENT_HELLO *hello);
/* tls_early_begun: the library lets data pass; true: while the handshake goes on. */
bool tls_early_begun(struct tls_conn *tls);
/* tls_early_read counts what the library gave (len <= 0: nothing); true: it has just seen the end
 * of the handshake. */
bool tls_early_read(struct tls_conn *tls, int len);

/* ---- tls_ech.c ---- */
/* tls_ech_of is what became of the ClientHello that tls->ssl has read. */
enum tls_ech tls_ech_of(const struct tls_conn *tls);
bool tls_ech_offered(const SSL_CLIENT_HELLO *hello);

/* ---- tls_signer.c ---- */
/* tls_signer_method is what cert is signed with; NULL: the key itself. */
const SSL_PRIVATE_KEY_METHOD *tls_signer_method(const struct tls_cert *cert);
/* tls_signer_waits: the handshake can go no further without its signature. */
bool tls_signer_waits(const struct tls_conn *tls);
/* tls_signer_drop: nobody waits for it any more. */
void tls_signer_drop(struct tls_conn *tls);
/* tls_signer_collect goes on with those whose signature has come; once a turn. */
void tls_signer_collect(struct tls_worker *worker);
/* tls_signer_leave waits until no signer knows worker any more. */
void tls_signer_leave(struct tls_worker *worker);
/* tls_stream_signed: the signature of tls has come (stream_tls.c). */
void tls_stream_signed(struct tls_conn *tls);

/* tls_reason_of is the reason in an error of the library's TLS part; 0: of another part. */
static inline int tls_reason_of(uint32_t code) {
  return ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
}

/* tls_reason_text is a word of the library for an error; static text (tls_reason.c). */
const char *tls_reason_text(uint32_t code);

/* tls_stream_run goes on with a conn that waited for the budget (stream_tls.c). */
void tls_stream_run(struct tls_conn *tls);

#endif
