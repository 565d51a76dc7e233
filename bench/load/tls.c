/* The client side of TLS, OpenSSL straight on the descriptor with read-ahead, so that a small
 * response costs one recv. The offer is pinned (TLS 1.3, AES-128-GCM, X25519): every proxy does
 * the same cryptography. Certificates are not verified against a root: only the generator would
 * pay for it.
 * Called by client.c. */
#include "load.h"

#include "../common/net.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>

enum { READ_BUFFER = 65536 };

static int keep_session(SSL *ssl, SSL_SESSION *session) {
    SSL_SESSION **slot = SSL_get_app_data(ssl);
    if (slot == NULL) {
        return 0;
    }
    SSL_SESSION_free(*slot);
    *slot = session;
    return 1;
}

SSL_CTX *tls_context_new(void) {
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    if (ctx == NULL || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(ctx, "X25519") != 1) {
        bench_die("SSL_CTX");
    }
    SSL_CTX_set_read_ahead(ctx, 1);
    SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER);
    SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_quiet_shutdown(ctx, 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    return ctx;
}

/* OpenSSL lets a session of TLS 1.3 be used once. A copy goes into each connection, because not
 * every server (h2o) sends a new ticket on one that was resumed. */
static void resume_from(SSL *ssl, const SSL_SESSION *session) {
    SSL_SESSION *copy = SSL_SESSION_dup(session);
    if (copy == NULL || SSL_set_session(ssl, copy) != 1) {
        bench_die("SSL_set_session");
    }
    SSL_SESSION_free(copy);
}

SSL *tls_open(SSL_CTX *ctx, int fd, SSL_SESSION **session, bool resume) {
    SSL *ssl = SSL_new(ctx);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 ||
        SSL_set_tlsext_host_name(ssl, "localhost") != 1) {
        bench_die("SSL_new");
    }
    if (resume) {
        SSL_set_app_data(ssl, session);
        if (*session != NULL) {
            resume_from(ssl, *session);
        }
    }
    SSL_set_connect_state(ssl);
    return ssl;
}

static int verdict(SSL *ssl, int rc) {
    int why = SSL_get_error(ssl, rc);
    if (why == SSL_ERROR_WANT_READ) {
        return -EAGAIN;
    }
    if (why == SSL_ERROR_WANT_WRITE) {
        return -EINPROGRESS;
    }
    ERR_clear_error();
    return why == SSL_ERROR_ZERO_RETURN ? 0 : -EPROTO;
}

int tls_handshake(SSL *ssl) {
    int rc = SSL_do_handshake(ssl);
    return rc == 1 ? 1 : verdict(ssl, rc);
}

long tls_read(SSL *ssl, void *buf, size_t len) {
    size_t got = 0;
    int rc = SSL_read_ex(ssl, buf, len, &got);
    return rc == 1 ? (long)got : verdict(ssl, rc);
}

long tls_write(SSL *ssl, const void *buf, size_t len) {
    size_t sent = 0;
    int rc = SSL_write_ex(ssl, buf, len, &sent);
    return rc == 1 ? (long)sent : verdict(ssl, rc);
}

/* Sends nothing (quiet shutdown), but a connection freed without it would spoil its session. */
void tls_close(SSL *ssl) {
    if (ssl != NULL) {
        SSL_shutdown(ssl);
        SSL_free(ssl);
    }
}

void tls_describe(SSL *ssl, char *out, size_t size) {
    EVP_PKEY *key = SSL_get0_peer_certificate(ssl) == NULL
                        ? NULL
                        : X509_get0_pubkey(SSL_get0_peer_certificate(ssl));
    const char *group = OBJ_nid2sn((int)SSL_get_negotiated_group(ssl));
    snprintf(out, size, "%s %s %s %s", SSL_get_version(ssl), SSL_get_cipher(ssl),
             group == NULL ? "?" : group, key == NULL ? "?" : EVP_PKEY_get0_type_name(key));
}
