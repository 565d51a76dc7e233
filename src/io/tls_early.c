/* tls_early.c: early data (0-RTT) on the server's side: which first flights may bring some. A
 * ticket is good for early data once (RFC 8446 section 8.1), by a table of tickets seen that the
 * process shares (base/tally.h); who finds no place in it is refused early data, never let in
 * uncounted. The library bounds the age that a copy may have, and the bytes. Called by
 * tls_select.c and stream_tls.c; what a request in early data may do is proxy/early.c. */
#include "weir/io/tls_early.h"

#include <openssl/bytestring.h>
#include <pthread.h>

#include "io/tls_conn_priv.h"
#include "weir/base/hash.h"
#include "weir/base/tally.h"

/* SEEN_MAX tickets at once have a place: 2,000 a second, for as long as they are remembered. Pages
 * are taken as they are used. */
#define SEEN_MAX (1u << 18)

static struct tally seen;
static bool seen_ready;
static uint64_t seen_since_ms;
static pthread_once_t seen_once = PTHREAD_ONCE_INIT;

static void seen_init(void) {
  seen_since_ms = tls_clock_ns() / 1000000u;
  seen_ready = tally_init(&seen, SEEN_MAX);
}

void tls_early_init(void) { check(pthread_once(&seen_once, seen_init) == 0); }

/* A word is the time in ms until which its ticket is remembered. */
static bool forgotten(uint64_t word, const void *how) {
  return word == 0 || word <= *(const uint64_t *)how;
}

static bool remember(uint64_t word, const void *how, uint64_t *out) {
  if (!forgotten(word, how)) return false;
  *out = *(const uint64_t *)how + TLS_EARLY_WINDOW_MS;
  return true;
}

enum tls_early tls_early_once(struct span ticket, uint64_t now_ms) {
  static const struct tally_rule rule = {.dead = forgotten, .next = remember};
  struct tally_result r;
  if (!seen_ready) return TLS_EARLY_REFUSED;
  tally_apply(&seen, &rule, &now_ms, hash_keyed(ticket), &r);
  if (r.shared) return TLS_EARLY_REFUSED;
  return r.granted ? TLS_EARLY_ACCEPTED : TLS_EARLY_REPLAYED;
}

/* ticket_of is the first identity that a ClientHello offers, the only one that the library looks
 * at (RFC 8446 section 4.2.11). */
static bool ticket_of(const SSL_CLIENT_HELLO *hello, struct span *ticket) {
  const uint8_t *data = NULL;
  size_t len = 0;
  CBS ext, identities, identity;
  if (!SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_pre_shared_key, &data, &len))
    return false;
  CBS_init(&ext, data, len);
  if (!CBS_get_u16_length_prefixed(&ext, &identities) ||
      !CBS_get_u16_length_prefixed(&identities, &identity))
    return false;
  *ticket = span_of((const char *)CBS_data(&identity), CBS_len(&identity));
  return true;
}

static bool offers(const SSL_CLIENT_HELLO *hello) {
  const uint8_t *data = NULL;
  size_t len = 0;
  return SSL_early_callback_ctx_extension_get(hello, TLSEXT_TYPE_early_data, &data, &len);
}

/* judge: tickets under keys from files may be older than this process, which does not know what
 * the one before it has seen: those wait until that is too old (RFC 8446 section 8.2). */
static enum tls_early judge(const struct tls_conn *tls, struct span ticket) {
  uint64_t now_ms = tls->worker->loop->now_ms;
  bool shared = tls->server->tickets != NULL;
  if (shared && now_ms < seen_since_ms + TLS_EARLY_WINDOW_MS) return TLS_EARLY_REFUSED;
  return tls_early_once(ticket, now_ms);
}

/* Clients that are asked for a certificate send none: a replay would speak in their name.
 * Where early data is not enabled the new tickets of the connection are not good for any. */
void tls_early_select(struct tls_conn *tls, const SSL_CLIENT_HELLO *hello) {
  struct span ticket;
  if (!tls->server->early_data || tls->auth) return;
  if (tls->zero_rtt == TLS_EARLY_NONE && offers(hello) && ticket_of(hello, &ticket))
    tls->zero_rtt = (uint8_t)judge(tls, ticket) & 3u;
  bool may = tls->zero_rtt == TLS_EARLY_NONE || tls->zero_rtt == TLS_EARLY_ACCEPTED;
  SSL_set_early_data_enabled(hello->ssl, may);
}

bool tls_early_begun(struct tls_conn *tls) {
  tls->zero_rtt_on = SSL_in_early_data(tls->ssl) == 1;
  if (tls->zero_rtt == TLS_EARLY_ACCEPTED && !tls->zero_rtt_on) tls->zero_rtt = TLS_EARLY_REFUSED;
  return tls->zero_rtt_on;
}

bool tls_early_read(struct tls_conn *tls, int len) {
  if (!tls->zero_rtt_on) return false;
  tls->zero_rtt_on = SSL_in_early_data(tls->ssl) == 1;
  if (tls->zero_rtt_on && len > 0) tls->zero_rtt_bytes += (uint16_t)len;
  return !tls->zero_rtt_on;
}
