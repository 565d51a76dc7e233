/* tls_keylog.c: writes the secrets of connections to a file, for debugging (the format that
 * SSLKEYLOGFILE names, draft-ietf-tls-keylogfile): one line in one write, appended, by the worker
 * itself. That is the one place where a worker may touch a disk; the file is there only when
 * somebody asked for it twice (control/key_log.c). Called by the library. */
#include <unistd.h>

#include "io/tls_priv.h"

/* Written once, before the first SSL_CTX and the first thread. */
static int keylog_fd = -1;

void tls_keylog_use(int fd) { keylog_fd = fd; }

static void on_line(const SSL *ssl, const char *line) {
  (void)ssl;
  char text[512];
  struct buf b = buf_of(text, sizeof(text));
  buf_put(&b, span_str(line));
  buf_char(&b, '\n');
  if (b.full) return;
  ssize_t written = write(keylog_fd, b.ptr, b.len);
  (void)written; /* a full disk ends the log, not the connection */
}

void tls_keylog_set(SSL_CTX *ctx) {
  if (keylog_fd >= 0) SSL_CTX_set_keylog_callback(ctx, on_line);
}
