/* upstream_tls.c: TLS policies of pools from the configuration's bytes, kept by content: one that
 * did not change keeps its sessions over reloads, and pools with the same one share it. Called by
 * secrets.c, publish.c and check.c. */
#include "control/compiler_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client.h"

struct upstream_tls_slot {
  uint64_t content;
  struct tls_client *client; /* a ref */
};

_Static_assert(CONF_PIN_BYTES == TLS_PIN_BYTES, "a pin is a SHA-256");

struct tls_client *upstream_tls_make(const struct conf_upstream_tls *tls, uint32_t workers,
                                     enum conf_tls_bad *bad, struct buf *why) {
  static const enum conf_tls_bad kinds[] = {[TLS_BAD_NONE] = CONF_TLS_BAD_NONE,
                                            [TLS_BAD_CA] = CONF_TLS_BAD_CA,
                                            [TLS_BAD_CERT] = CONF_TLS_BAD_CERT,
                                            [TLS_BAD_POOL_GROUPS] = CONF_TLS_BAD_POOL_GROUPS};
  const struct tls_client_conf conf = {.verify = tls->verify,
                                       .ca_pem = tls->ca_pem,
                                       .ca_label = tls->ca_label,
                                       .cert_pem = tls->cert_pem,
                                       .key_pem = tls->key_pem,
                                       .cert_label = tls->cert_label,
                                       .sni = tls->sni,
                                       .groups = tls->groups,
                                       .names = tls->names,
                                       .name_count = tls->name_count,
                                       .pins = tls->pins,
                                       .pin_count = tls->pin_count,
                                       .min_version = tls->min_version,
                                       .alpn = tls->alpn,
                                       .h2_only = tls->h2_only,
                                       .workers = workers};
  enum tls_client_bad what;
  struct tls_client *client = tls_client_new(&conf, &what, why);
  *bad = kinds[what];
  return client;
}

struct tls_client *upstream_tls_get(void *ctx, const struct conf_upstream_tls *tls,
                                    enum conf_tls_bad *bad, struct buf *why) {
  struct compiler *c = (struct compiler *)ctx;
  for (uint32_t i = 0; i < c->upstream_tls_count; i++) {
    if (c->upstream_tls[i].content == tls->content) {
      tls_client_ref(c->upstream_tls[i].client);
      return c->upstream_tls[i].client;
    }
  }
  /* One more than workers: checks have their own part (tls_line). */
  struct tls_client *client = upstream_tls_make(tls, c->config.workers->count + 1, bad, why);
  if (!client) {
    return NULL;
  }
  c->upstream_tls = (struct upstream_tls_slot *)mem_grow(
      c->upstream_tls, c->upstream_tls_count + 1, sizeof *c->upstream_tls);
  c->upstream_tls[c->upstream_tls_count++] = (struct upstream_tls_slot){tls->content, client};
  tls_client_ref(client);
  return client;
}

static bool in_use(const struct snapshot *s, const struct tls_client *client) {
  for (uint32_t i = 0; s && i < s->pool_count; i++) {
    if (s->pools[i]->tls == client) {
      return true;
    }
  }
  return false;
}

void upstream_tls_prune(struct compiler *c) {
  for (uint32_t i = c->upstream_tls_count; i-- > 0;) {
    if (!in_use(c->published.current, c->upstream_tls[i].client)) {
      tls_client_unref(c->upstream_tls[i].client);
      c->upstream_tls[i] = c->upstream_tls[--c->upstream_tls_count];
    }
  }
}

void upstream_tls_fini(struct compiler *c) {
  for (uint32_t i = 0; i < c->upstream_tls_count; i++) {
    tls_client_unref(c->upstream_tls[i].client);
  }
  mem_free(c->upstream_tls);
}
