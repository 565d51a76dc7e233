/* secrets.c: TLS policies from certificate bytes, kept by content; and the watch on the files: a
 * change is read, verified and published under the same generation. What is no good keeps its last
 * good content (config/renew.c) and is logged once. Polling sees what inotify would miss (network
 * file systems, the symlink swaps of Kubernetes). Called by publish.c and compiler.c, in the
 * compile thread. */
#include "control/compiler_priv.h"
#include "control/log_priv.h"
#include "control/poller_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_client_auth.h"
#include "weir/io/tls_warnings.h"
#include "weir/io/tls_ech.h"

/* ---- compiled policies ---- */

_Static_assert(TLS_BAD_OCSP == CONF_TLS_BAD_OCSP && TLS_BAD_ECH == CONF_TLS_BAD_ECH,
               "one numbering");
_Static_assert(TLS_BAD_GROUPS == CONF_TLS_BAD_GROUPS && TLS_BAD_CIPHERS == CONF_TLS_BAD_CIPHERS &&
                   TLS_BAD_TICKETS == CONF_TLS_BAD_TICKETS,
               "one numbering: config/ does not see io/");
_Static_assert(CONF_TLS_BAD_NAMES == TLS_BAD_NAMES && CONF_TLS_BAD_SUITES == TLS_BAD_SUITES &&
                   CONF_TLS_BAD_NAMELESS == TLS_BAD_NAMELESS,
               "one number for both");
_Static_assert(CONF_BAD_CLIENT == TLS_BAD_AUTH, "one number for both");

static struct tls_auth_conf *auths_of(const struct conf_tls *tls) {
  struct tls_auth_conf *auths =
      (struct tls_auth_conf *)mem_array(tls->client_count, sizeof *auths);
  for (uint32_t i = 0; i < tls->client_count; i++) {
    const struct conf_client_policy *from = &tls->clients[i];
    auths[i] = (struct tls_auth_conf){.names = from->names,
                                      .name_count = from->name_count,
                                      .required = from->required,
                                      .ca_pem = from->ca_pem,
                                      .ca_label = from->ca_label,
                                      .crl_pem = from->crl_pem,
                                      .crl_label = from->crl_label,
                                      .crl_shared = from->crl_shared,
                                      .depth = from->depth,
                                      .forward = from->forward};
  }
  return auths;
}

struct tls_server *secrets_make(const struct conf_tls *tls, uint32_t workers, uint32_t *bad_cert,
                                struct buf *why) {
  struct tls_cert_conf *certs =
      (struct tls_cert_conf *)mem_array(tls->cert_count, sizeof *certs);
  for (uint32_t i = 0; i < tls->cert_count; i++) {
    const struct conf_cert *from = &tls->certs[i];
    certs[i] = (struct tls_cert_conf){.names = from->names,
                                      .name_count = from->name_count,
                                      .cert_pem = from->cert_pem,
                                      .key_pem = from->key_pem,
                                      .label = from->label,
                                      .ocsp_der = from->ocsp_der,
                                      .ocsp_label = from->ocsp_label,
                                      .is_default = from->is_default};
  }
  struct tls_auth_conf *auths = auths_of(tls);
  const struct tls_server_conf conf = {.certs = certs,
                                       .cert_count = tls->cert_count,
                                       .auths = auths,
                                       .auth_count = tls->client_count,
                                       .auth_closed = tls->client_closed,
                                       .min_version = tls->min_version,
                                       .max_version = tls->max_version,
                                       .alpn = tls->alpn,
                                       .alpn_optional = tls->alpn_optional,
                                       .groups = tls->groups,
                                       .ciphers = tls->ciphers,
                                       .tickets_off = !tls->tickets,
                                       .ticket_keys = tls->ticket_keys,
                                       .ticket_key_count = tls->ticket_key_count,
                                       .policy_id = tls->policy,
                                       .workers = workers,
                                       .early_data = tls->early_data,
                                       .ech_pem = tls->ech_pem,
                                       .ech_label = tls->ech_label};
  struct tls_server *server = tls_server_new(&conf, bad_cert, why);
  if (server) (void)tls_server_stale(server, (int64_t)(clock_wall_ms() / 1000), bad_cert, why);
  mem_free(auths);
  mem_free(certs);
  return server;
}

bool secrets_warning(const struct tls_server *server, uint32_t *from, uint32_t *bad,
                     struct buf *why) {
  return tls_server_warning(server, (int64_t)(clock_wall_ms() / 1000), from, bad, why);
}

bool secrets_stapled(const struct tls_server *server, uint32_t i) {
  return tls_server_stapled(server, i, (int64_t)(clock_wall_ms() / 1000));
}

struct tls_server *secrets_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                               struct buf *why) {
  struct compiler *c = (struct compiler *)ctx;
  for (uint32_t i = 0; i < c->tls_slot_count; i++) {
    if (c->tls_slots[i].content == tls->content) {
      tls_server_ref(c->tls_slots[i].server);
      return c->tls_slots[i].server;
    }
  }
  struct tls_server *server = secrets_make(tls, c->config.workers->count, bad_cert, why);
  if (!server) return NULL;
  c->tls_slots = (struct tls_slot *)mem_grow(c->tls_slots, c->tls_slot_count + 1,
                                             sizeof *c->tls_slots);
  c->tls_slots[c->tls_slot_count++] = (struct tls_slot){.content = tls->content, .server = server};
  tls_server_ref(server);
  return server;
}

static bool in_use(const struct snapshot *s, const struct tls_server *server) {
  for (uint32_t i = 0; s && i < s->listener_count; i++) {
    if (s->listeners[i].listener->tls == server) {
      return true;
    }
  }
  return false;
}

void secrets_prune(struct compiler *c) {
  upstream_tls_prune(c);
  for (uint32_t i = c->tls_slot_count; i-- > 0;) {
    if (!in_use(c->published.current, c->tls_slots[i].server)) {
      tls_server_unref(c->tls_slots[i].server);
      c->tls_slots[i] = c->tls_slots[--c->tls_slot_count];
    }
  }
}

/* ---- the watch ---- */

static void watch_free(struct compiler *c) {
  for (uint32_t i = 0; i < c->watch_count; i++) {
    mem_free(c->watch[i].path);
  }
  mem_free(c->watch);
  c->watch = NULL;
  c->watch_count = 0;
}

void secrets_fini(struct compiler *c) {
  upstream_tls_fini(c);
  watch_free(c);
  for (uint32_t i = 0; i < c->tls_slot_count; i++) {
    tls_server_unref(c->tls_slots[i].server);
  }
  mem_free(c->tls_slots);
}

/* outcome_count adds to what is shown of the files; refused: so many are not in service now. */
static void outcome_count(struct compiler *c, bool taken, uint32_t told, uint32_t refused_now) {
  pthread_mutex_lock(&c->published.lock);
  c->published.secrets_published += taken;
  c->published.secrets_failed += told;
  c->published.secrets_refused = refused_now;
  pthread_mutex_unlock(&c->published.lock);
}

void secrets_watch(struct compiler *c) {
  const struct conf_file *files;
  uint32_t count = conf_files(c->conf, &files);
  outcome_count(c, false, 0, 0);
  watch_free(c);
  c->watch = (struct watch_file *)mem_array(count, sizeof *c->watch);
  for (uint32_t i = 0; i < count; i++) {
    if (files[i].secret) {
      struct watch_file *w = &c->watch[c->watch_count++];
      w->path = mem_str(span_str(files[i].path));
      if (loader_stat(c->config.loader, w->path, &w->stat) < 0) {
        w->stat = (struct loader_stat){.dev = 0}; /* differs from any file */
      }
    }
  }
  /* They may have changed between being read and being looked at: read them once more, soon. */
  c->watch_changed = c->watch_count > 0;
  c->publish_owed = false;
  c->watch_due_ms = c->watch_count ? clock_ms() + COMPILER_SETTLE_MS : UINT64_MAX;
}

static bool stat_eq(const struct loader_stat *a, const struct loader_stat *b) {
  return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
         a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

/* look_at tells whether a file differs from what is remembered, and remembers it. One that is
 * missing right now may be about to come back: it is gone when the next look misses it too. */
static bool look_at(struct compiler *c, struct watch_file *w) {
  struct loader_stat now = {.dev = 0};
  bool missing = loader_stat(c->config.loader, w->path, &now) < 0;
  bool waits = missing && !w->missing;
  w->missing = missing;
  if (missing) now = (struct loader_stat){.dev = 0}; /* differs from any file */
  if (waits || stat_eq(&now, &w->stat)) return false;
  w->stat = now;
  return true;
}

static bool look(struct compiler *c) {
  bool changed = false;
  for (uint32_t i = 0; i < c->watch_count; i++) changed = look_at(c, &c->watch[i]) || changed;
  return changed;
}

/* refused says what was not taken, and why. */
static void refused(struct compiler *c, const struct conf_faults *faults, const char *why) {
  struct text text = {.ptr = NULL};
  text_lit(&text, "changed certificates or keys not taken, the old ones stay in service\n");
  conf_faults_print(faults, &text, false);
  text_put(&text, span_str(why));
  log_text(c->config.log, END_LEVEL_ERROR, text_span(&text));
  text_fini(&text);
}

/* warn says what is in service now and is not valid, or of no use: a clock may be wrong. */
static void warn(struct compiler *c, const struct conf_faults *faults) {
  struct text text = {.ptr = NULL};
  if (!conf_faults_warnings(faults)) return;
  text_lit(&text, "changed certificates or keys are in service, but:\n");
  conf_faults_print(faults, &text, false);
  log_text(c->config.log, END_LEVEL_WARN, text_span(&text));
  text_fini(&text);
}

/* owe: what was taken could not be published; the next look does it. It is told once. While weir
 * drains there is nobody to publish it for. */
static void owe(struct compiler *c, const struct conf_faults *faults, const char *why) {
  bool open = workers_open(c->config.workers);
  if (open) workers_release(c->config.workers);
  if (!c->publish_owed) {
    refused(c, faults, why);
    outcome_count(c, false, 1, c->published.secrets_refused);
  }
  c->publish_owed = c->watch_changed = open;
}

/* put_in_service publishes what is new. Of changed listeners and pools the policies were tried
 * before and were good: what can still fail is something else, like memory. */
static bool put_in_service(struct compiler *c) {
  struct conf_faults *faults = conf_faults_new();
  struct publish_result result = {.code = 0};
  const struct snapshot *now = c->published.current;
  publish(c, c->conf, now->generation, now->revision + 1, faults, &result);
  if (result.code) {
    owe(c, faults, result.why);
  } else {
    c->publish_owed = false;
    if (result.changes)
      log_text(c->config.log, END_LEVEL_INFO,
               SPAN_LIT("changed certificates or keys are in service"));
    warn(c, faults);
  }
  bool taken = !result.code && result.changes;
  publish_result_fini(&result);
  conf_faults_free(faults);
  return taken;
}

/* mended says that a file that was not taken before is no fault any more. */
static void mended(struct span name, void *ctx) {
  struct compiler *c = (struct compiler *)ctx;
  log_line(c->config.log, END_LEVEL_INFO, SPAN_FMT " is good again", SPAN_ARG(name));
}

static void take(struct compiler *c) {
  struct conf_faults *faults = conf_faults_new();
  struct conf_hooks hooks = publish_hooks(c, false);
  struct conf_renewed renewed;
  conf_renew(c->conf, &c->config.reader, &hooks, faults, &renewed);
  if (loader_ended(c->config.loader)) renewed.told = renewed.refused = 0; /* that is told */
  if (renewed.told) refused(c, faults, "");
  conf_faults_free(faults);
  bool taken = (renewed.changed || c->publish_owed) && put_in_service(c);
  conf_mended(c->conf, mended, c);
  outcome_count(c, taken, renewed.told, renewed.refused);
  secrets_prune(c); /* policies that were tried */
}

/* stapling_look logs each OCSP response that ended since the last look, once. */
static void stapling_look(struct compiler *c) {
  int64_t now = (int64_t)(clock_wall_ms() / 1000), next;
  for (uint32_t s = 0; s < c->tls_slot_count; s++) {
    struct tls_slot *slot = &c->tls_slots[s];
    struct span label, of;
    int64_t not_after;
    for (uint32_t i = 0; tls_server_cert(slot->server, i, &of, &not_after); i++) {
      if (!tls_server_ocsp(slot->server, i, &label, &next)) continue;
      if (next > now || next <= slot->stapling_looked_s) continue;
      log_line(c->config.log, END_LEVEL_WARN,
               "certificate " SPAN_FMT ": its OCSP response " SPAN_FMT
               " has ended and is not stapled; put a new one there",
               SPAN_ARG(of), SPAN_ARG(label));
    }
    slot->stapling_looked_s = now;
  }
}

/* Certificate and key are two files: what was seen to change is read only when nothing has changed
 * for a moment, so that a pair is not read half way through. */
void secrets_look(struct compiler *c, uint64_t now_ms) {
  if (look(c) && !loader_ended(c->config.loader)) {
    c->watch_changed = true;
    c->watch_due_ms = now_ms + COMPILER_SETTLE_MS;
    return;
  }
  c->watch_due_ms = now_ms + COMPILER_WATCH_MS;
  if (c->watch_changed && !loader_ended(c->config.loader)) {
    c->watch_changed = false;
    take(c);
  }
  stapling_look(c);
}
