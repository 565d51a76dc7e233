/* publish_priv.h: what the compile thread does at a publication: publish.c hands a snapshot to the
 * workers, binds.c keeps the listening descriptors, secrets.c the certificates. */
#ifndef WEIR_CONTROL_PUBLISH_PRIV_H
#define WEIR_CONTROL_PUBLISH_PRIV_H

#include "control/loader_priv.h"
#include "control/workers_priv.h"

struct compiler;
struct tls_server;

struct bind {
  char *listener, *text;
  int *fds;            /* one per worker; the workers' own once posted */
  uint32_t fd_count;
  struct listener_state *state; /* ref */
  struct loader_stat file;      /* of a unix socket */
  bool datagrams; /* of UDP */
  bool fresh; /* opened by this attempt */
  bool shared; /* inherited: who gave it goes on with it */
  bool keep;  /* in the snapshot that is being published */
  struct listener_state *heir; /* of UDP: its listener there, if that is another one */
  uint64_t leave_seq; /* of the last WORKER_UNLISTEN; 0: in service */
};

struct binds {
  struct bind *rows;
  uint32_t count;
};

struct retired {
  struct snapshot *snapshot;
  uint64_t seq; /* workers that have carried this out use a newer one */
};

/* tls_slot keeps a compiled policy by content, so that a reload does not build it again. */
struct tls_slot {
  uint64_t content;
  struct tls_server *server; /* ref */
  int64_t stapling_looked_s; /* OCSP responses that had ended by then are logged */
};

/* watch_file is a certificate or key file as it was when its bytes were taken. */
struct watch_file {
  char *path;
  struct loader_stat stat;
  bool missing; /* when it was looked at last */
};

/* ---- publish.c ---- */

/* publish_result is why a publication did not happen, or what it changed. */
struct publish_result {
  int code;          /* 0, 78 (faults say why), 75 (why) */
  char why[1024];    /* a sentence */
  uint32_t changes;
  struct text diff, diff_json;
};
void publish_result_fini(struct publish_result *r);
/* publish_hooks are conf_compile's, of the compile thread. */
struct conf_hooks publish_hooks(struct compiler *c, bool trial);
/* publish compiles conf, binds what is new, hands it to the workers and retires the old one. */
void publish(struct compiler *c, const struct conf *conf, uint64_t generation, uint32_t revision,
             struct conf_faults *faults, struct publish_result *result);
/* publish_resolved publishes the running configuration with the addresses that are known now: a
 * revision of the same generation; nothing, when no pool is another. */
void publish_resolved(struct compiler *c, struct conf_faults *faults,
                      struct publish_result *result);
/* publish_plan compiles conf and tells what publish would change, but changes nothing. */
void publish_plan(struct compiler *c, const struct conf *conf, struct conf_faults *faults,
                  struct publish_result *result);
/* publish_collect frees what no worker uses any more; false while something still waits. */
bool publish_collect(struct compiler *c);
/* publish_wait waits until every worker has carried out seq, at most COMPILER_ACK_MS. */
bool publish_wait(struct compiler *c, uint64_t seq);

/* ---- binds.c ---- */

/* binds_stage finds or opens the descriptors of every listener of s; false and a sentence: nothing
 * has changed. */
MUST_USE bool binds_stage(struct compiler *c, const struct snapshot *s, struct buf *why);
void binds_unstage(struct compiler *c);
/* binds_rename, before the snapshot: sockets of UDP whose listener has another name are its own
 * there. */
void binds_rename(struct compiler *c);
/* binds_listen posts fresh ones, binds_unlisten takes away those that are not kept. */
void binds_listen(struct compiler *c);
void binds_unlisten(struct compiler *c);
/* binds_collect forgets those that the workers have let go of and whose sessions of UDP are over;
 * false while some wait. */
bool binds_collect(struct compiler *c);
void binds_fini(struct compiler *c);

/* ---- secrets.c ---- */

/* secrets_warning is conf_hooks.tls_warning, of now. */
bool secrets_warning(const struct tls_server *server, uint32_t *from, uint32_t *bad,
                     struct buf *why);
/* secrets_stapled is conf_hooks.tls_stapled, of now. */
bool secrets_stapled(const struct tls_server *server, uint32_t i);
/* secrets_make compiles a policy; NULL with a sentence. */
struct tls_server *secrets_make(const struct conf_tls *tls, uint32_t workers, uint32_t *bad_cert,
                                struct buf *why);
/* secrets_tls is conf_hooks.tls, with a cache by content; ctx is the compiler. */
struct tls_server *secrets_tls(void *ctx, const struct conf_tls *tls, uint32_t *bad_cert,
                               struct buf *why);
/* ---- upstream_tls.c ---- */

/* upstream_tls_make compiles a pool's policy; NULL with a sentence. upstream_tls_get is
 * conf_hooks.upstream_tls, with a cache by content: pools with equal policies share one. */
struct tls_client *upstream_tls_make(const struct conf_upstream_tls *tls, uint32_t workers,
                                     enum conf_tls_bad *bad, struct buf *why);
struct tls_client *upstream_tls_get(void *ctx, const struct conf_upstream_tls *tls,
                                    enum conf_tls_bad *bad, struct buf *why);
void upstream_tls_prune(struct compiler *c);
void upstream_tls_fini(struct compiler *c);

/* secrets_prune drops compiled policies that the current snapshot does not use. */
void secrets_prune(struct compiler *c);
/* secrets_watch remembers the files of conf; secrets_look looks at them and publishes changes. */
void secrets_watch(struct compiler *c);
void secrets_look(struct compiler *c, uint64_t now_ms);
void secrets_fini(struct compiler *c);

#endif
