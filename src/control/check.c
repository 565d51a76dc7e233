/* check.c: `weir check`, `weir plan OLD NEW` and `weir explain -c FILE`: compile configurations as
 * a reload would, certificates included, without binding, resolving or publishing anything. Called
 * by main/. */
#include "control/compiler_priv.h"
#include "control/privilege_priv.h"
#include "weir/config/diff.h"
#include "weir/io/tls.h"
#include "weir/io/tls_client.h"
#include "weir/io/tls_client_auth.h"
#include "weir/io/tls_warnings.h"

static struct tls_server *check_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                                    struct buf *why) {
  (void)ctx;
  return secrets_make(tls, 1, bad_cert, why);
}

static struct tls_client *check_upstream_tls(void *ctx, const struct conf_upstream_tls *tls,
                                             enum conf_tls_bad *bad, struct buf *why) {
  (void)ctx;
  return upstream_tls_make(tls, 1, bad, why);
}

/* No hook resolves: nothing is asked here. */
static const struct conf_hooks hooks = {
    .tls = check_tls,
    .tls_unref = tls_server_unref,
    .tls_warning = secrets_warning,
    .tls_lacks = tls_server_lacks,
    .tls_stapled = secrets_stapled,
    .tls_pem = tls_pem_check,
    .upstream_tls = check_upstream_tls,
    .upstream_tls_unref = tls_client_unref,
    .trial = true};

static void forget(struct registry *registry, struct snapshot *s) {
  if (s) {
    snapshot_free(s);
  }
  (void)object_reap(registry);
}

bool control_check(const struct conf *conf, struct conf_faults *faults) {
  conf_check_machine(conf, &conf_reader_direct, privilege_known, faults);
  return control_trial(conf, faults, NULL, NULL);
}

bool control_trial(const struct conf *conf, struct conf_faults *faults,
                   void (*fn)(const struct snapshot *snapshot, void *ctx), void *ctx) {
  struct registry *registry = registry_new(1);
  struct snapshot *s = conf_compile(conf, &hooks, registry, NULL, faults);
  if (s && fn) {
    fn(s, ctx);
  }
  forget(registry, s);
  registry_free(registry);
  return s != NULL;
}

bool control_plan(struct control_plan *plan, struct conf_faults *faults, struct text *out) {
  struct registry *registry = registry_new(1);
  struct snapshot *a = conf_compile(plan->before, &hooks, registry, NULL, faults);
  struct snapshot *b = a ? conf_compile(plan->next, &hooks, registry, a, faults) : NULL;
  if (b) {
    const struct conf_side before = {plan->before, a}, after = {plan->next, b};
    plan->waiting = conf_keep_restart(plan->before, plan->next, faults);
    plan->changes = conf_diff(&before, &after, out, plan->json);
  }
  forget(registry, b);
  forget(registry, a);
  registry_free(registry);
  return b != NULL;
}
