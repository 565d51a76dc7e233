/* tls_line.c: TLS to an endpoint over memory: a handshake and records for those who have a socket
 * of their own, by the same policy and with the same verification as connections for requests.
 * Not on the data path: it allocates. Called by control/ (health checks). */
#include <openssl/bio.h>
#include <openssl/err.h>

#include "io/tls_client_priv.h"
#include "weir/base/mem.h"

struct tls_line {
  struct tls_conn tls; /* without conn and worker */
  BIO *in, *out;       /* the library's, with ssl */
};

struct tls_line *tls_line_new(struct tls_client *client, struct span host,
                              const struct addr *addr, enum tls_offer offer) {
  const struct tls_peer_conf conf = {
      .client = client, .worker = client->workers - 1, .host = host, .addr = addr};
  struct tls_line *line = (struct tls_line *)mem_alloc(sizeof *line);
  struct tls_conn *tls = &line->tls;
  tls->is_client = true;
  tls->h1_only = offer == TLS_OFFER_HTTP_1_1;
  tls->h2_only = offer == TLS_OFFER_H2;
  tls->peer = tls_peer_new(&conf);
  tls->ssl = tls_client_ssl(tls);
  line->in = BIO_new(BIO_s_mem());
  line->out = BIO_new(BIO_s_mem());
  check(line->in && line->out);
  BIO_set_mem_eof_return(line->in, -1); /* empty: more is to come */
  SSL_set_bio(tls->ssl, line->in, line->out);
  return line;
}

void tls_line_free(struct tls_line *line) {
  SSL_free(line->tls.ssl);
  tls_peer_unref(line->tls.peer);
  mem_free(line);
}

struct span tls_line_out(const struct tls_line *line) {
  const uint8_t *bytes = NULL;
  size_t len = 0;
  check(BIO_mem_contents(line->out, &bytes, &len));
  return span_of((const char *)bytes, len);
}

void tls_line_sent(struct tls_line *line, size_t n) {
  char gone[4096];
  while (n > 0) { /* each turn takes some */
    int took = BIO_read(line->out, gone, (int)(n < sizeof gone ? n : sizeof gone));
    check(took > 0);
    n -= (size_t)took;
  }
}

void tls_line_in(struct tls_line *line, struct span wire) {
  check(BIO_write(line->in, wire.ptr, (int)wire.len) == (int)wire.len);
}

/* step says what a call of the library came to. */
static enum tls_line_step step(struct tls_line *line, int ret) {
  struct tls_conn *tls = &line->tls;
  int error = SSL_get_error(tls->ssl, ret);
  if (ret > 0) return TLS_LINE_OK;
  if (error == SSL_ERROR_WANT_READ) return TLS_LINE_MORE;
  if (error == SSL_ERROR_ZERO_RETURN) return TLS_LINE_END;
  uint32_t code = ERR_peek_error();
  bool late = SSL_in_init(tls->ssl) == 0;
  if (tls->end == END_OK)
    tls->end = (uint16_t)(late ? tls_client_late(tls, code) : tls_client_fault(tls, code));
  if (!tls->why && code) tls->why = tls_reason_text(code);
  ERR_clear_error();
  return TLS_LINE_FAILED;
}

enum tls_line_step tls_line_shake(struct tls_line *line) {
  bool h2 = false;
  ERR_clear_error(); /* what somebody else left is not this one's fault */
  enum tls_line_step is = step(line, SSL_do_handshake(line->tls.ssl));
  if (is == TLS_LINE_OK) line->tls.end = (uint16_t)tls_client_chosen(&line->tls, &h2);
  return line->tls.end == END_OK ? is : TLS_LINE_FAILED;
}

enum tls_line_step tls_line_read(struct tls_line *line, struct buf room, size_t *n) {
  ERR_clear_error();
  int ret = SSL_read(line->tls.ssl, room.ptr, (int)room.cap);
  if (ret > 0) *n = (size_t)ret;
  return step(line, ret);
}

enum tls_line_step tls_line_write(struct tls_line *line, struct span bytes) {
  ERR_clear_error();
  return step(line, SSL_write(line->tls.ssl, bytes.ptr, (int)bytes.len));
}

void tls_line_bye(struct tls_line *line) {
  ERR_clear_error();
  if (line->tls.end == END_OK && !SSL_in_init(line->tls.ssl)) (void)SSL_shutdown(line->tls.ssl);
  ERR_clear_error();
}

enum end tls_line_end(const struct tls_line *line, struct span *why) {
  *why = line->tls.why ? span_str(line->tls.why) : SPAN_EMPTY;
  return (enum end)line->tls.end;
}

bool tls_line_h2(const struct tls_line *line) {
  const uint8_t *name = NULL;
  unsigned len = 0;
  SSL_get0_alpn_selected(line->tls.ssl, &name, &len);
  return span_eq(span_of((const char *)name, len), SPAN_LIT("h2"));
}
