/* config.h: from a file's text to a compiled snapshot. Runs in the compile thread or in the CLI,
 * never in a worker. Opens nothing itself: bytes come through conf_reader (in `weir run` the
 * loader process). All faults are found at once; nothing is published here. DESIGN.md, 7. */
#ifndef WEIR_CONFIG_CONFIG_H
#define WEIR_CONFIG_CONFIG_H

#include "weir/base/buf.h"
#include "weir/config/tls_policy.h"
#include "weir/model/discover.h"
#include "weir/model/model.h"

/* conf_reader gives file bytes. read: heap bytes (mem_free by the caller) in *out, or -errno.
 * glob: calls each for every match in byte order; 0 or -errno. Limit per file: CONF_FILE_MAX. */
struct conf_reader {
  int (*read)(void *ctx, const char *path, struct text *out);
  int (*glob)(void *ctx, const char *pattern, void (*each)(const char *path, void *arg),
              void *arg);
  const char *(*env)(void *ctx, const char *name); /* NULL: unset */
  int (*mode)(void *ctx, const char *path); /* permission bits, or -errno; may be NULL */
  void *ctx;
};
#define CONF_FILE_MAX (16u << 20)

/* conf_reader_direct reads with plain system calls and getenv, for CLI use. */
extern const struct conf_reader conf_reader_direct;

/* conf_faults collects errors and warnings with file:line:column, caret, suggestion and code. */
struct conf_faults;
struct conf_faults *conf_faults_new(void);
void conf_faults_free(struct conf_faults *f);
uint32_t conf_faults_errors(const struct conf_faults *f);
uint32_t conf_faults_warnings(const struct conf_faults *f);
/* conf_faults_print: for a terminal (color) or plain; conf_faults_json: one array. The last line
 * is the count, "2 errors, 1 warning", without line break: the tail ("; nothing was changed,
 * generation 7 keeps running.") is the caller's. Nothing at all when there is no fault. */
void conf_faults_print(const struct conf_faults *f, struct text *out, bool color);
void conf_faults_json(const struct conf_faults *f, struct text *out);

/* conf is one validated configuration: typed, with the origin of every value. Owns everything. */
struct conf;

/* conf_load reads path, its includes and the secrets it names (certificates, keys), expands
 * ${env:...}, checks all there is to check without the network. NULL when there are errors. */
MUST_USE struct conf *conf_load(const struct conf_reader *reader, const char *path,
                                struct conf_faults *faults);
/* conf_load_text is conf_load of text given in memory, named `name` in messages. */
MUST_USE struct conf *conf_load_text(const struct conf_reader *reader, const char *name,
                                     struct span text, struct conf_faults *faults);
void conf_free(struct conf *conf);

/* conf_dump prints the effective configuration, defaults included, each value with its origin
 * (file:line, default, env NAME) as a comment; loads again to the same. Secrets are never
 * printed. */
void conf_dump(const struct conf *conf, struct text *out, bool with_defaults);
/* conf_options prints the option table as a file with every option (conf/full.conf);
 * conf_reference as tables in Markdown, with the fault codes (conf/README.md). */
void conf_options(struct text *out);
void conf_reference(struct text *out);

/* What the process needs before and beside the snapshot. */
struct conf_process {
  uint32_t workers /* resolved from "auto" */, signers;
  bool workers_auto;
  const char *user; /* NULL: stay */
  uint32_t drain_ms;
  uint32_t drain_settle_ms; /* readiness fails, and for so long everything goes on */
  uint32_t max_connections; /* as configured; 0: "auto", what the descriptors allow */
  const char *admin_listen; /* "unix:/path", NULL: none */
  bool admin_auto;          /* it is the default: a failure to make it is only a warning */
  const char *status_listen; /* "host:port", NULL: none */
  const char *log_level;    /* "debug" "info" "warn" "error" */
  const char *log_to;       /* "stderr", "stdout" or a path */
  const char *access_to;    /* "stdout", "stderr", a path, "off" */
  const char *access_format; /* "json", "text" */
  uint32_t access_sample_ppm;
  const char *tls_keys; /* a path, NULL: none */
};
/* conf_admin_default is what admin.listen = "auto" means: $RUNTIME_DIRECTORY/admin.sock (systemd),
 * else /run/weir/admin.sock for root, else $XDG_RUNTIME_DIR/weir/admin.sock, else none (false).
 * For a CLI that has no (good) file. */
MUST_USE bool conf_admin_default(const struct conf_reader *reader, struct text *out);
const struct conf_process *conf_process(const struct conf *conf);

/* conf_file is a file that the configuration used; changed certificates are found by these. */
struct conf_file {
  const char *path;
  bool secret; /* certificate or key: watched, and re-read without a reload */
};
uint32_t conf_files(const struct conf *conf, const struct conf_file **out);

struct conf_hooks { /* what compiling needs from above */
  /* tls gives the tls_server for a policy (with a ref for the listener object), or NULL after it
   * wrote a sentence to why and the faulty certificate's index (or a CONF_TLS_BAD) to *bad.
   * A sentence beside a server is about an OCSP response that is not valid now. */
  struct tls_server *(*tls)(void *ctx, const struct conf_tls *tls, uint32_t *bad, struct buf *why);
  void (*tls_unref)(struct tls_server *server);
  /* tls_warning gives a sentence about the next thing from *from (0 at first) on that is not valid
   * now, or of no use, and whose it is (as above, or CONF_BAD_CLIENT + row); tls_lacks about what
   * clients meet instead of a certificate of host (or, "*.x", below x). NULL: not asked. */
  bool (*tls_warning)(const struct tls_server *server, uint32_t *from, uint32_t *bad,
                      struct buf *why);
  bool (*tls_lacks)(const struct tls_server *server, struct span host, struct buf *why);
  /* tls_stapled: the OCSP response of certificate i has not ended. NULL: not asked. */
  bool (*tls_stapled)(const struct tls_server *server, uint32_t i);
  /* tls_pem: does one file of tls.client have CRLs (crl), or certificates? NULL: not looked at. */
  bool (*tls_pem)(struct span pem, struct span label, bool crl, struct buf *why);
  /* upstream_tls gives the tls_client of a pool's policy, with a ref; NULL: a sentence, *bad. */
  struct tls_client *(*upstream_tls)(void *ctx, const struct conf_upstream_tls *tls,
                                     enum conf_tls_bad *bad, struct buf *why);
  void (*upstream_tls_unref)(struct tls_client *client);
  /* resolve gives the addresses of a name that are known now; none: unresolved. */
  void (*resolve)(void *ctx, const struct name_query *q, struct arena *arena,
                  struct name_answers *out);
  uint32_t connections_max; /* so many can be open at all: no more are used; 0: not known */
  bool trial; /* nobody will run the snapshot: its rates and listeners get no tables */
  void *ctx;
};

/* conf_renewed is what became of files that were read again. */
struct conf_renewed {
  bool changed;     /* conf has new bytes */
  uint32_t refused; /* files whose last good bytes stay in it, now */
  uint32_t told;    /* things of which faults say that they were refused; not twice for the same */
};
/* conf_renew reads certificates, keys and what belongs to them again and takes what is good: the
 * rest keeps its last good bytes. With hooks (tls, upstream_tls and their unref; NULL: none) each
 * policy that has something new is made, and what the hook refuses is not good. */
void conf_renew(struct conf *conf, const struct conf_reader *reader,
                const struct conf_hooks *hooks, struct conf_faults *faults,
                struct conf_renewed *out);
/* conf_mended calls fn for each name ("file:/path") that the last conf_renew found good again. */
void conf_mended(struct conf *conf, void (*fn)(struct span name, void *ctx), void *ctx);
/* conf_names calls fn for every name that pools use. */
void conf_names(const struct conf *conf, void (*fn)(const struct name_query *q, void *ctx),
                void *ctx);

/* conf_compile builds the snapshot of conf, taking objects of equal content from before (may be
 * NULL). NULL when a hook refused, or there is no memory for a table (faults say where). */
MUST_USE struct snapshot *conf_compile(const struct conf *conf, const struct conf_hooks *hooks,
                                       struct registry *registry, const struct snapshot *before,
                                       struct conf_faults *faults);

/* snapshot_diff says what changed, one line per object: "+ route api", "~ pool app: endpoint
 * 10.0.0.1:80 added", "- listener old"; lists endpoints, binds and certificates. Returns the
 * number of changed objects. json: an array of {change, kind, name, detail}. */
uint32_t snapshot_diff(const struct snapshot *before, const struct snapshot *after,
                       struct text *out, bool json);

#endif
