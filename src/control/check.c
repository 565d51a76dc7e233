/* check.c: `weir check`: compiles a configuration as a reload would, certificates included,
 * without binding, resolving or publishing anything. Called by main/. */
#include "control/compiler_priv.h"
#include "weir/io/tls.h"

static struct tls_server *check_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                    struct buf *why) {
  (void)ctx;
  return secrets_make(tls, 1, bad_cert, why);
}

static uint32_t check_resolve(void *ctx, struct span host, uint16_t port, struct addr *out,
                              uint32_t cap) {
  (void)ctx, (void)host, (void)port, (void)out, (void)cap;
  return 0;
}

bool control_check(const struct conf *conf, struct conf_faults *faults) {
  const struct conf_hooks hooks = {
      .tls = check_tls, .tls_unref = tls_server_unref, .resolve = check_resolve};
  struct registry *registry = registry_new(1);
  struct snapshot *s = conf_compile(conf, &hooks, registry, NULL, faults);
  if (s) {
    snapshot_free(s);
  }
  (void)object_reap(registry);
  registry_free(registry);
  return s != NULL;
}
