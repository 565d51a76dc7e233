/* secrets.c: certificates and keys: reads what "file:", "env:" and "cred:" name, again when their
 * files changed, and wipes keys when they go. It does not understand them (the TLS seam does).
 * Called by load.c and by control/'s certificate watch. */
#include <errno.h>
#include <stdio.h>

#include "load_priv.h"

static int read_file(const struct conf_reader *reader, struct span path, struct arena *arena,
                     struct text *out) {
  if (!reader->read) return -ENOSYS;
  int res = reader->read(reader->ctx, arena_str(arena, path), out);
  if (res == 0 && out->len == 0) {
    text_fini(out);
    return -ENODATA;
  }
  return res;
}

static int read_env(const struct conf_reader *reader, struct span name, struct arena *arena,
                    struct text *out) {
  const char *value = reader->env ? reader->env(reader->ctx, arena_str(arena, name)) : NULL;
  if (!value || !value[0]) return -ENOENT;
  text_put(out, span_str(value));
  return 0;
}

int secret_read(const struct conf_reader *reader, struct span secret, struct arena *arena,
                struct text *out, struct span *what) {
  size_t colon = span_find_char(secret, ':', 0);
  check(colon != SIZE_MAX); /* values_text.c checked the form */
  struct span kind = span_sub(secret, 0, colon), rest = span_from(secret, colon + 1);
  *what = rest;
  if (span_eq(kind, SPAN_LIT("file"))) return read_file(reader, rest, arena, out);
  if (span_eq(kind, SPAN_LIT("env"))) return read_env(reader, rest, arena, out);
  const char *dir = reader->env ? reader->env(reader->ctx, "CREDENTIALS_DIRECTORY") : NULL;
  if (!dir || !dir[0]) return -ENOTDIR;
  *what = arena_printf(arena, "%s/" SPAN_FMT, dir, SPAN_ARG(rest));
  return read_file(reader, *what, arena, out);
}

static void wipe(struct text *t) {
  if (t->ptr) mem_wipe(t->ptr, t->len);
  text_fini(t);
}

static void read_failed(struct conf_faults *faults, const struct conf_row *row, enum option_id id,
                        struct span what, int res) {
  struct place at = row_place(row, id);
  if (res == -ENOTDIR && !span_starts(what, SPAN_LIT("/"))) {
    fault_add(faults, FAULT_SECRET_READ, at,
              "credential " SPAN_FMT ": CREDENTIALS_DIRECTORY is not set", SPAN_ARG(what));
    fault_note(faults, "systemd sets it for LoadCredential=");
    return;
  }
  fault_add(faults, FAULT_SECRET_READ, at, SPAN_FMT ": %s", SPAN_ARG(what),
            res == -ENODATA ? "it is empty" : errno_text(-res));
}

/* cert_read reads one of a certificate's two halves. */
static void cert_read(const struct conf_reader *reader, struct conf_faults *faults,
                      struct arena *arena, const struct conf_cert_row *cert, enum option_id id,
                      struct text *out) {
  struct span secret = id == OPTION_CERT_KEY ? cert->key : cert->cert, what = SPAN_EMPTY;
  if (!secret.len) return; /* missing, or refused before */
  int res = secret_read(reader, secret, arena, out, &what);
  if (res < 0) {
    read_failed(faults, &cert->row, id, what, res);
    return;
  }
  bool file = id == OPTION_CERT_KEY && span_starts(what, SPAN_LIT("/"));
  if (!span_starts(secret, SPAN_LIT("file:")) && !file) return;
  if (id != OPTION_CERT_KEY || !reader->mode) return;
  int mode = reader->mode(reader->ctx, arena_str(arena, what));
  if (mode < 0 || !(mode & 04)) return;
  fault_add(faults, FAULT_KEY_READABLE, row_place(&cert->row, id),
            "every user can read the private key " SPAN_FMT, SPAN_ARG(what));
  fault_note(faults, "mode %04o; chmod 0600 it", (unsigned)mode & 07777u);
}

void secrets_load(struct conf *conf) {
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    rows_each(&listener->certs, struct conf_cert_row, cert) {
      cert_read(conf->reader, conf->faults, &conf->arena, cert, OPTION_CERT_CERT, &cert->cert_pem);
      cert_read(conf->reader, conf->faults, &conf->arena, cert, OPTION_CERT_KEY, &cert->key_pem);
    }
}

void secrets_free(struct conf *conf) {
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    rows_each(&listener->certs, struct conf_cert_row, cert) {
      wipe(&cert->cert_pem);
      wipe(&cert->key_pem);
    }
}

/* fresh is what was read again, until all of it is known to be good. */
struct fresh {
  struct conf_cert_row *cert;
  struct text cert_pem, key_pem;
};

static bool same(const struct text *a, const struct text *b) {
  return span_eq(text_span(a), text_span(b));
}

static void swap(struct text *a, struct text *b) {
  struct text t = *a;
  *a = *b;
  *b = t;
}

static uint32_t cert_count(const struct conf *conf) {
  uint32_t count = 0;
  rows_each(&conf->root.listeners, struct conf_listener, listener) count += listener->certs.count;
  return count;
}

uint32_t conf_reload_secrets(struct conf *conf, const struct conf_reader *reader,
                             struct conf_faults *faults, bool *changed) {
  struct arena arena;
  arena_init(&arena, ARENA_PAGES, 0);
  uint32_t before = conf_faults_errors(faults), count = 0;
  struct fresh *all = mem_array(cert_count(conf), sizeof *all);
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    rows_each(&listener->certs, struct conf_cert_row, cert) {
      struct fresh *f = &all[count++];
      f->cert = cert;
      cert_read(reader, faults, &arena, cert, OPTION_CERT_CERT, &f->cert_pem);
      cert_read(reader, faults, &arena, cert, OPTION_CERT_KEY, &f->key_pem);
    }
  uint32_t failed = conf_faults_errors(faults) - before;
  bool differs = false;
  for (uint32_t i = 0; i < count; i++) {
    struct fresh *f = &all[i];
    differs = differs || !same(&f->cert_pem, &f->cert->cert_pem) ||
              !same(&f->key_pem, &f->cert->key_pem);
    if (!failed) {
      swap(&f->cert_pem, &f->cert->cert_pem);
      swap(&f->key_pem, &f->cert->key_pem);
    }
    wipe(&f->cert_pem);
    wipe(&f->key_pem);
  }
  if (!failed) *changed = differs;
  mem_free(all);
  arena_reset(&arena);
  return failed;
}
