/* tls_talk.c: TLS to an endpoint without a loop (tls_talk.h). What it offers, verifies and blames is
 * what stream_tls.c does for a client's conn, by the same files; here stands only how bytes come
 * and go. Called by control/, on its own thread. */
#include "weir/io/tls_talk.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include "io/tls_client_priv.h"
#include "weir/base/mem.h"

#define IN_MAX 16384u
#define OUT_MAX (256u << 10) /* a handshake's flight, or one record: far less */
#define RECORD_MAX 16384u /* of text */

/* tls_talk: call comes first (tls_of); of tls only what a client's callbacks use is there. */
struct tls_talk {
  struct tls_call call;
  struct tls_conn tls;
  BIO_METHOD *method;
  bool open;
  struct text out;
  size_t sent; /* of out */
  uint32_t in_off, in_len;
  char in[IN_MAX];
};

static int on_bio_write(BIO *bio, const char *in, int len) {
  struct tls_talk *t = (struct tls_talk *)BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (len <= 0) return 0;
  if (t->out.len + (size_t)len > OUT_MAX) {
    t->tls.starved = true;
    return -1;
  }
  text_put(&t->out, span_of(in, (size_t)len));
  return len;
}

/* ---- calls into the library ---- */

static void library_use(struct tls_talk *t) {
  t->call.current = &t->tls;
  t->call.in = span_of(t->in + t->in_off, t->in_len - t->in_off);
  ERR_clear_error();
}

static void library_done(struct tls_talk *t) {
  t->in_off = t->in_len - (uint32_t)t->call.in.len;
  if (t->in_off == t->in_len) t->in_off = t->in_len = 0;
  t->call = (struct tls_call){.current = NULL};
}

/* blame: once it is open, only that weir's certificate was refused has a word of its own. */
static enum tls_step blame(struct tls_talk *t) {
  uint32_t code = ERR_peek_error();
  enum end end = tls_client_fault(&t->tls, code);
  bool told = t->tls.end != END_OK || t->tls.starved;
  if (!told && (!t->open || end == END_UPSTREAM_TLS_CLIENT_CERT)) t->tls.end = (uint16_t)end;
  if (!t->tls.why && code) t->tls.why = ERR_reason_error_string(code);
  ERR_clear_error();
  return TLS_STEP_FAILED;
}

/* result says what a call that did not succeed means. */
static enum tls_step result(struct tls_talk *t, int ret) {
  switch (SSL_get_error(t->tls.ssl, ret)) {
    case SSL_ERROR_WANT_READ: return TLS_STEP_MORE;
    case SSL_ERROR_ZERO_RETURN: return TLS_STEP_END;
    default: return blame(t);
  }
}

enum tls_step tls_talk_shake(struct tls_talk *t, bool *h2) {
  library_use(t);
  int ret = SSL_do_handshake(t->tls.ssl);
  library_done(t);
  if (ret != 1) return result(t, ret);
  enum end end = tls_client_chosen(&t->tls, 0, h2);
  t->tls.end = (uint16_t)end;
  t->open = end == END_OK;
  return t->open ? TLS_STEP_DONE : TLS_STEP_FAILED;
}

static int at_most_record(size_t len) { return (int)(len < RECORD_MAX ? len : RECORD_MAX); }

enum tls_step tls_talk_read(struct tls_talk *t, struct buf room, size_t *got) {
  check(t->open && room.cap > 0);
  library_use(t);
  int ret = SSL_read(t->tls.ssl, room.ptr, at_most_record(room.cap));
  library_done(t);
  if (ret <= 0) return result(t, ret);
  *got = (size_t)ret;
  return TLS_STEP_DONE;
}

enum tls_step tls_talk_write(struct tls_talk *t, struct span text, size_t *took) {
  check(t->open && text.len > 0);
  library_use(t);
  int ret = SSL_write(t->tls.ssl, text.ptr, at_most_record(text.len));
  library_done(t);
  if (ret <= 0) return blame(t);
  *took = (size_t)ret;
  return TLS_STEP_DONE;
}

void tls_talk_bye(struct tls_talk *t) {
  if (!t->open) return;
  library_use(t);
  (void)SSL_shutdown(t->tls.ssl);
  library_done(t);
  ERR_clear_error();
}

enum end tls_talk_end(const struct tls_talk *t, struct span *why) {
  *why = span_str(t->tls.why);
  return (enum end)t->tls.end;
}

/* ---- bytes ---- */

struct buf tls_talk_room(struct tls_talk *t) {
  return buf_of(t->in + t->in_len, sizeof t->in - t->in_len);
}

void tls_talk_took(struct tls_talk *t, size_t n) {
  check(n <= sizeof t->in - t->in_len);
  t->in_len += (uint32_t)n;
}

struct span tls_talk_output(const struct tls_talk *t) {
  return t->out.len ? span_of(t->out.ptr + t->sent, t->out.len - t->sent) : SPAN_EMPTY;
}

void tls_talk_sent(struct tls_talk *t, size_t n) {
  check(n <= t->out.len - t->sent);
  t->sent += n;
  if (t->sent == t->out.len) t->sent = t->out.len = 0;
}

/* ---- life ---- */

struct tls_talk *tls_talk_new(struct tls_peer *peer, enum tls_offer offer) {
  struct tls_talk *t = (struct tls_talk *)mem_alloc(sizeof *t);
  t->tls.is_client = true;
  t->tls.h1_only = offer == TLS_OFFER_HTTP_1_1;
  t->tls.h2_only = offer == TLS_OFFER_H2;
  t->tls.peer = peer;
  tls_peer_ref(peer);
  t->method = tls_bio_method(on_bio_write);
  BIO *bio = BIO_new(t->method);
  check(bio != NULL);
  BIO_set_data(bio, t);
  BIO_set_init(bio, 1);
  t->tls.ssl = tls_client_ssl(&t->tls);
  SSL_set_bio(t->tls.ssl, bio, bio);
  return t;
}

void tls_talk_free(struct tls_talk *t) {
  SSL_free(t->tls.ssl);
  BIO_meth_free(t->method);
  tls_peer_unref(t->tls.peer);
  text_fini(&t->out);
  mem_free(t);
}
