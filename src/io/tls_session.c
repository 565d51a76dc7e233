/* tls_session.c: sessions of endpoints, each kept with the peer that it came from: a TLS 1.3
 * ticket is used once, so that nobody can tell two connections of ours apart by it (RFC 8446
 * appendix C.4), a session of TLS 1.2 until it is too old. One worker's thread. */
#include "io/tls_client_priv.h"

static SSL_SESSION *take_newest(struct tls_peer *peer) {
  return peer->session_count ? peer->sessions[--peer->session_count] : NULL;
}

/* put makes room by the oldest one. */
static void put(struct tls_peer *peer, SSL_SESSION *session) {
  if (peer->session_count == TLS_SESSIONS_MAX) {
    SSL_SESSION_free(peer->sessions[0]);
    peer->session_count--;
    memmove(peer->sessions, peer->sessions + 1, peer->session_count * sizeof peer->sessions[0]);
  }
  peer->sessions[peer->session_count++] = session;
}

int tls_session_keep(SSL *ssl, SSL_SESSION *session) {
  struct tls_peer *peer = tls_client_of(ssl)->peer;
  if (!SSL_SESSION_should_be_single_use(session)) tls_sessions_drop(peer); /* one is enough */
  put(peer, session);
  return 1; /* it is ours now */
}

/* The library looks at its age by itself, and does not offer one that is too old. */
void tls_session_use(struct tls_peer *peer, SSL *ssl) {
  SSL_SESSION *session = take_newest(peer);
  if (!session) return;
  (void)SSL_set_session(ssl, session);
  if (SSL_SESSION_should_be_single_use(session)) SSL_SESSION_free(session);
  else put(peer, session);
}

void tls_sessions_drop(struct tls_peer *peer) {
  for (uint32_t i = 0; i < peer->session_count; i++) SSL_SESSION_free(peer->sessions[i]);
  peer->session_count = 0;
}
