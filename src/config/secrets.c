/* secrets.c: certificates, their keys and those of cookies: reads what "file:", "env:" and "cred:"
 * name, and wipes keys when they go. It does not understand them (the TLS seam does). Called by
 * load.c, and by renew.c when files changed. */
#include <errno.h>
#include <stdio.h>

#include "secrets_priv.h"

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
  if (!value) return -ENOENT;
  if (!value[0]) return -ENODATA;
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

void secret_wipe(struct text *t) {
  if (t->ptr) mem_wipe(t->ptr, t->len);
  text_fini(t);
}

static void read_failed(struct conf_faults *faults, struct place at, struct span name,
                        struct span what, int res) {
  if (span_starts(name, SPAN_LIT("env:"))) {
    fault_add(faults, FAULT_SECRET_READ, at, "the environment variable " SPAN_FMT " is %s",
              SPAN_ARG(what), res == -ENODATA ? "empty" : "not set");
    fault_note(faults, "it holds the bytes themselves; a file is named by \"file:/path\"");
    return;
  }
  if (res == -ENOTDIR && !span_starts(what, SPAN_LIT("/"))) {
    fault_add(faults, FAULT_SECRET_READ, at,
              "credential " SPAN_FMT ": CREDENTIALS_DIRECTORY is not set", SPAN_ARG(what));
    fault_note(faults, "systemd sets it for LoadCredential=");
    return;
  }
  fault_add(faults, FAULT_SECRET_READ, at, SPAN_FMT ": %s", SPAN_ARG(what),
            res == -ENODATA ? "it is empty" : errno_text(-res));
}

static struct place secret_place(const struct secret *s) {
  return s->item ? s->item->at : row_place(s->row, s->id);
}

/* ---- the system's store ---- */

/* stores: where distributions have the certificates that they trust, in one file. */
static const char *const stores[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Arch, Gentoo, Alpine */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, RHEL */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* RHEL before */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/ssl/cert.pem",                                 /* Alpine without the package */
};

static bool store_needed(const struct conf_pool *pool) {
  bool own = row_origin(&pool->row, OPTION_POOL_TLS_CA)->node != NULL;
  return pool->tls.on && pool->tls.verify == VERIFY_SYSTEM && !own;
}

static bool is_there(const struct conf_reader *reader, const char *path) {
  struct text text = {0};
  if (reader->mode) return reader->mode(reader->ctx, path) >= 0;
  bool there = reader->read && reader->read(reader->ctx, path, &text) == 0;
  text_fini(&text);
  return there;
}

/* store_find: the variable is that of OpenSSL's programs; what it names is not looked for. */
static const char *store_find(const struct conf_reader *reader) {
  const char *named = reader->env ? reader->env(reader->ctx, "SSL_CERT_FILE") : NULL;
  if (named && named[0] == '/') return named;
  for (size_t i = 0; i < array_count(stores); i++)
    if (is_there(reader, stores[i])) return stores[i];
  return NULL;
}

static void store_choose(struct conf *conf) {
  const struct conf_pool *first = NULL;
  rows_each(&conf->root.pools, struct conf_pool, pool)
    if (!first && store_needed(pool)) first = pool;
  if (!first) return;
  const char *path = store_find(conf->reader);
  if (path) {
    conf->system_store = arena_printf(&conf->arena, "file:%s", path);
    return;
  }
  fault_add(conf->faults, FAULT_NO_STORE, row_place(&first->row, OPTION_POOL_TLS_VERIFY),
            "pool \"" SPAN_FMT "\": this system has no store of trusted certificates (like %s)",
            SPAN_ARG(first->row.name), stores[0]);
  fault_note(conf->faults,
             "install ca-certificates, or name a file by tls.ca or $SSL_CERT_FILE");
}

/* ---- all of them ---- */

/* ticket_list gives the ticket keys of a listener; out NULL only counts. */
static uint32_t ticket_list(struct conf_listener *listener, struct secret *out) {
  const struct conf_list *keys = &listener->ticket_keys;
  uint32_t count = keys->count < CONF_TICKET_KEYS_MAX ? keys->count : CONF_TICKET_KEYS_MAX;
  for (uint32_t i = 0; out && i < count; i++)
    out[i] = (struct secret){&listener->row, OPTION_LISTENER_TICKET_KEYS, keys->items[i].text,
                             &listener->ticket_bytes[i], &keys->items[i]};
  return count;
}

static uint32_t list_add(struct secret *out, uint32_t count, const struct conf_row *row,
                         enum option_id id, const struct conf_list *list, struct text *bytes) {
  for (uint32_t i = 0; bytes && i < list->count; i++, count++)
    if (out) out[count] = (struct secret){row, id, list->items[i].text, &bytes[i], NULL};
  return count;
}

/* clients_list adds what a listener knows of clients from `count` on. */
static uint32_t clients_list(const struct conf_listener *listener, struct secret *out,
                             uint32_t count) {
  rows_each(&listener->clients, struct conf_client_auth, it) {
    count = list_add(out, count, &it->row, OPTION_CLIENT_CA, &it->ca, it->ca_pem);
    count = list_add(out, count, &it->row, OPTION_CLIENT_CRL, &it->crl, it->crl_pem);
  }
  return count;
}

/* clients_room makes the places of their bytes. */
static void clients_room(struct conf *conf) {
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    rows_each(&listener->clients, struct conf_client_auth, it) {
      it->ca_pem = arena_get(&conf->arena, (it->ca.count + 1) * sizeof *it->ca_pem);
      it->crl_pem = arena_get(&conf->arena, (it->crl.count + 1) * sizeof *it->crl_pem);
    }
}

uint32_t secrets_list(struct conf *conf, struct secret *out) {
  uint32_t count = 0;
  bool store = conf->system_store.len > 0;
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    if (listener->tls_ech.len) {
      struct secret one = {&listener->row, OPTION_LISTENER_TLS_ECH, listener->tls_ech,
                           &listener->ech_pem, NULL};
      if (out) out[count] = one;
      count++;
    }
    rows_each(&listener->certs, struct conf_cert_row, cert) {
      struct secret both[] = {
          {&cert->row, OPTION_CERT_CERT, cert->cert, &cert->cert_pem, NULL},
          {&cert->row, OPTION_CERT_KEY, cert->key, &cert->key_pem, NULL}};
      if (out) memcpy(out + count, both, sizeof both);
      count += 2;
      if (!cert->ocsp.len) continue;
      if (out)
        out[count] =
            (struct secret){&cert->row, OPTION_CERT_OCSP, cert->ocsp, &cert->ocsp_der, NULL};
      count++;
    }
    count += ticket_list(listener, out ? out + count : NULL);
    count = clients_list(listener, out, count);
  }
  rows_each(&conf->root.pools, struct conf_pool, pool) {
    struct conf_pool_tls *tls = &pool->tls;
    struct secret three[] = {{&pool->row, OPTION_POOL_TLS_CA, tls->ca, &tls->ca_pem, NULL},
                             {&pool->row, OPTION_POOL_TLS_CERT, tls->cert, &tls->cert_pem, NULL},
                             {&pool->row, OPTION_POOL_TLS_KEY, tls->key, &tls->key_pem, NULL}};
    for (size_t i = 0; i < array_count(three); i++) {
      if (!three[i].name.len) continue;
      if (out) out[count] = three[i];
      count++;
    }
    if (store && store_needed(pool)) {
      struct secret one = {&pool->row, OPTION_POOL_TLS_VERIFY, conf->system_store,
                           &conf->system_pem, NULL};
      if (out) out[count] = one;
      store = false;
      count++;
    }
    if (!pool->sticky_key.len) continue;
    if (out)
      out[count] = (struct secret){&pool->row, OPTION_POOL_STICKY_KEY, pool->sticky_key,
                                   &pool->sticky_key_bytes, NULL};
    count++;
  }
  return count;
}

static bool is_key(enum option_id id) {
  return id == OPTION_CERT_KEY || id == OPTION_POOL_TLS_KEY || id == OPTION_POOL_STICKY_KEY ||
         id == OPTION_LISTENER_TLS_ECH || id == OPTION_LISTENER_TICKET_KEYS;
}

static void check_readable(const struct conf_reader *reader, struct conf_faults *faults,
                           struct arena *arena, const struct secret *s, struct span path) {
  int mode = reader->mode ? reader->mode(reader->ctx, arena_str(arena, path)) : -ENOSYS;
  if (mode < 0 || !(mode & 04)) return;
  fault_add(faults, FAULT_KEY_READABLE, secret_place(s), "every user can read the %skey " SPAN_FMT,
            s->id == OPTION_POOL_STICKY_KEY        ? ""
            : s->id == OPTION_LISTENER_TICKET_KEYS ? "ticket "
                                                   : "private ",
            SPAN_ARG(path));
  fault_note(faults, "mode %04o; chmod 0600 it", (unsigned)mode & 07777u);
}

#define STICKY_KEY_MIN 16u

/* sticky_key_done takes the line end off that editors and `openssl rand -hex` leave. */
static void sticky_key_done(struct conf_faults *faults, const struct secret *s,
                            struct text *bytes) {
  while (bytes->len && strchr("\r\n", bytes->ptr[bytes->len - 1])) bytes->len--;
  if (bytes->len >= STICKY_KEY_MIN) return;
  fault_add(faults, FAULT_KEY_SHORT, row_place(s->row, s->id), "the key has %zu bytes",
            bytes->len);
  fault_note(faults, "at least %u, like those of openssl rand -hex 32", STICKY_KEY_MIN);
}

void secret_take(const struct conf_reader *reader, struct conf_faults *faults, struct arena *arena,
                 const struct secret *s, struct text *out) {
  struct span what = SPAN_EMPTY;
  if (!s->name.len) return;
  int res = secret_read(reader, s->name, arena, out, &what);
  if (res < 0) {
    read_failed(faults, secret_place(s), s->name, what, res);
    return;
  }
  bool file = span_starts(s->name, SPAN_LIT("file:")) || span_starts(what, SPAN_LIT("/"));
  if (file && is_key(s->id)) check_readable(reader, faults, arena, s, what);
  if (s->id == OPTION_POOL_STICKY_KEY) sticky_key_done(faults, s, out);
  if (s->id == OPTION_LISTENER_TICKET_KEYS)
    (void)ticket_key_check(faults, secret_place(s), what, text_span(out));
}

/* list_check looks at the ticket keys that begin with `first`, as they were read. */
static void list_check(struct conf_faults *faults, const struct secret *first, uint32_t count) {
  const struct text *texts[CONF_TICKET_KEYS_MAX];
  for (uint32_t i = 0; i < count; i++) texts[i] = first[i].bytes;
  secrets_keys_check(faults, first, texts, count);
}

void secrets_keys_check(struct conf_faults *faults, const struct secret *keys,
                        const struct text *const *texts, uint32_t count) {
  struct conf_item items[CONF_TICKET_KEYS_MAX];
  struct span bytes[CONF_TICKET_KEYS_MAX];
  check(count <= CONF_TICKET_KEYS_MAX);
  for (uint32_t i = 0; i < count; i++) {
    items[i] = *keys[i].item;
    bytes[i] = text_span(texts[i]);
  }
  ticket_keys_check(faults, items, count, bytes);
}

void secrets_load(struct conf *conf) {
  store_choose(conf);
  clients_room(conf);
  uint32_t count = secrets_list(conf, NULL);
  struct secret *all = mem_array(count, sizeof *all);
  (void)secrets_list(conf, all);
  for (uint32_t i = 0, first = 0; i < count; i++) {
    secret_take(conf->reader, conf->faults, &conf->arena, &all[i], all[i].bytes);
    bool last = i + 1 == count || !all[i + 1].item || all[i + 1].row != all[i].row;
    if (all[i].item && !last) continue; /* of a list: only ticket keys */
    if (all[i].item) list_check(conf->faults, &all[first], i + 1 - first);
    first = i + 1;
  }
  mem_free(all);
}

void secrets_free(struct conf *conf) {
  uint32_t count = secrets_list(conf, NULL);
  struct secret *all = mem_array(count, sizeof *all);
  (void)secrets_list(conf, all);
  for (uint32_t i = 0; i < count; i++) secret_wipe(all[i].bytes);
  mem_free(all);
}
