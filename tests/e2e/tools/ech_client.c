/* ech_client.c: one TLS 1.3 connection with Encrypted Client Hello, for test_tls_ech.py: says how
 * the handshake came out, as lines "word value". Built by harness/ech.py with the BoringSSL of the
 * tree. ech_client PORT NAME CA CONFIG-LIST-FILE|grease|none [CERT-AND-KEY]: with a certificate it
 * connects twice, the second time with the first one's ticket if it got one. */
#include <arpa/inet.h>
#include <openssl/base64.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int dial(const char *port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 ? fd : -1;
}

static void offer(SSL *ssl, const char *how) {
  uint8_t list[4096];
  if (strcmp(how, "none") == 0) return;
  if (strcmp(how, "grease") == 0) {
    SSL_set_enable_ech_grease(ssl, 1);
    return;
  }
  FILE *file = fopen(how, "rb");
  size_t len = file ? fread(list, 1, sizeof list, file) : 0;
  if (!len || !SSL_set1_ech_config_list(ssl, list, len)) exit(2);
  fclose(file);
}

static void say_base64(const char *word, const uint8_t *bytes, size_t len) {
  static uint8_t text[8192];
  if (len > sizeof text / 2) exit(2);
  text[EVP_EncodeBlock(text, bytes, len)] = 0;
  printf("%s %s\n", word, text);
}

static void say_cert(SSL *ssl) {
  char name[256] = "";
  X509 *cert = SSL_get_peer_certificate(ssl);
  if (cert) X509_NAME_get_text_by_NID(X509_get_subject_name(cert), NID_commonName, name, 256);
  printf("certificate %s\n", name);
  X509_free(cert);
}

static void refused(SSL *ssl) {
  const uint8_t *configs = NULL;
  const char *name = NULL;
  size_t len = 0, name_len = 0;
  SSL_get0_ech_name_override(ssl, &name, &name_len);
  printf("refused %s\n", ERR_reason_error_string(ERR_peek_error()));
  printf("outer %.*s\n", (int)name_len, name ? name : "");
  if (ERR_GET_REASON(ERR_peek_error()) != SSL_R_ECH_REJECTED) return;
  SSL_get0_ech_retry_configs(ssl, &configs, &len);
  say_base64("retry", configs, len);
}

static void ask(SSL *ssl, const char *name) {
  char bytes[8192];
  int len = snprintf(bytes, sizeof bytes,
                     "GET /ech HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name);
  if (SSL_write(ssl, bytes, len) != len) return;
  len = SSL_read(ssl, bytes, 12);
  if (len == 12) printf("answer %.12s\n", bytes);
}

static SSL_SESSION *kept;

static int keep(SSL *ssl, SSL_SESSION *session) {
  (void)ssl;
  SSL_SESSION_free(kept);
  kept = session;
  return 1;
}

/* show: a client with a certificate, which keeps its ticket, and offers what browsers do as far
 * as the library has it. */
static void show(SSL_CTX *ctx, const char *pem) {
  if (SSL_CTX_use_certificate_chain_file(ctx, pem) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, pem, SSL_FILETYPE_PEM) != 1)
    exit(2);
  if (SSL_CTX_set1_groups_list(ctx, "X25519MLKEM768:X25519:P-256") != 1) ERR_clear_error();
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
  SSL_CTX_sess_set_new_cb(ctx, keep);
}

static void visit(SSL_CTX *ctx, char **argv) {
  SSL *ssl = SSL_new(ctx);
  int fd = dial(argv[1]);
  if (fd < 0 || !SSL_set_tlsext_host_name(ssl, argv[2]) || !SSL_set_fd(ssl, fd)) exit(2);
  if (kept) SSL_set_session(ssl, kept);
  offer(ssl, argv[4]);
  if (SSL_connect(ssl) == 1) {
    printf("ech %d\n", SSL_ech_accepted(ssl));
    ask(ssl, argv[2]);
    printf("reused %d\n", SSL_session_reused(ssl));
  } else {
    refused(ssl);
  }
  say_cert(ssl);
  close(fd);
  SSL_free(ssl);
}

int main(int argc, char **argv) {
  if (argc != 5 && argc != 6) return 2;
  SSL_CTX *ctx = SSL_CTX_new(TLS_method());
  SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION);
  if (!SSL_CTX_load_verify_locations(ctx, argv[3], NULL)) return 2;
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
  if (argc == 6) show(ctx, argv[5]);
  for (int turn = 0; turn < argc - 4; turn++) visit(ctx, argv);
  SSL_SESSION_free(kept);
  SSL_CTX_free(ctx);
  return 0;
}
