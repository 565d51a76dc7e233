/* load.c: from a path to a validated conf: reads the file and its includes, parses each with both
 * readers, applies the option table, checks, reads secrets. Reports every fault it can find and
 * publishes nothing. Called by the CLI and the compile thread. */
#include <errno.h>

#include "doubt_priv.h"
#include "load_priv.h"
#include "weir/config/where.h"

static struct conf *conf_new(const struct conf_reader *reader, struct conf_faults *faults) {
  struct conf *conf = mem_alloc(sizeof *conf);
  arena_init(&conf->arena, ARENA_PAGES, 0);
  conf->reader = reader;
  conf->faults = faults;
  conf->errors_before = conf_faults_errors(faults);
  conf_root_init(conf);
  return conf;
}

void conf_free(struct conf *conf) {
  if (!conf) return;
  secrets_free(conf);
  arena_reset(&conf->arena);
  mem_free(conf);
  regex_sweep();
}

/* ---- texts ---- */

/* agree lets libconfig read the same text: what it understands must be what weir understood. */
static void agree(struct conf *conf, struct source *src) {
  uint32_t line = 1;
  const struct node *where = src->root;
  struct arena arena;
  arena_init(&arena, ARENA_PAGES, 0);
  struct node *other = read_source(src, &arena, &line);
  if (!other) {
    struct place at = {.src = src, .len = 1, .line = line};
    for (uint32_t i = 1; i < line && at.offset < src->text.len; i++) {
      size_t nl = span_find_char(src->text, '\n', at.offset);
      at.offset = (uint32_t)(nl == SIZE_MAX ? src->text.len : nl + 1);
    }
    fault_add(conf->faults, FAULT_DISAGREE, at, "libconfig refuses this line, weir does not");
  } else if (!tree_same(src->root, other, &where)) {
    fault_add(conf->faults, FAULT_DISAGREE, where->at,
              "libconfig reads this differently from weir");
  }
  arena_reset(&arena);
}

static void add_source(struct conf *conf, struct span path, struct span text) {
  struct source *src = arena_get(&conf->arena, sizeof *src), **tail = &conf->sources;
  while (*tail) tail = &(*tail)->next;
  *tail = src;
  src->path = arena_copy(&conf->arena, path, NULL);
  src->text = arena_copy(&conf->arena, text, NULL);
  if (parse_source(src, &conf->arena, conf->faults)) agree(conf, src);
}

/* read_path reads a configuration file; false after a fault. `at` is the include that named it. */
static bool read_path(struct conf *conf, const char *path, struct place at) {
  struct text text = {0};
  int res = conf->reader->read ? conf->reader->read(conf->reader->ctx, path, &text) : -ENOSYS;
  if (res == 0 && text.len > CONF_FILE_MAX) res = -EFBIG;
  if (res == 0) add_source(conf, span_str(path), text_span(&text));
  text_fini(&text);
  if (res == 0) return true;
  if (at.src)
    fault_add(conf->faults, FAULT_FILE_READ, at, "%s: %s", path, errno_text(-res));
  else
    fault_add_file(conf->faults, FAULT_FILE_READ, span_str(path), "%s: %s", path,
                   errno_text(-res));
  return false;
}

/* ---- includes ---- */

/* globbing collects the files of one pattern. */
struct globbing {
  struct conf *conf;
  struct conf_item *paths;
  uint32_t count, cap;
};

static void glob_each(const char *path, void *arg) {
  struct globbing *g = arg;
  if (g->count == CONF_SOURCES_MAX) return; /* one more than may be read: include_files says so */
  if (g->count == g->cap) {
    g->cap = g->cap ? g->cap * 2 : 16;
    g->paths = mem_grow(g->paths, g->cap, sizeof *g->paths);
  }
  g->paths[g->count++].text = span_str(arena_str(&g->conf->arena, span_str(path)));
}

static bool is_loaded(const struct conf *conf, struct span path) {
  for (const struct source *s = conf->sources; s; s = s->next)
    if (span_eq(s->path, path)) return true;
  return false;
}

static uint32_t source_count(const struct conf *conf) {
  uint32_t count = 0;
  for (const struct source *s = conf->sources; s; s = s->next) count++;
  return count;
}

static bool has_wildcard(struct span pattern) {
  return span_find_char(pattern, '*', 0) != SIZE_MAX ||
         span_find_char(pattern, '?', 0) != SIZE_MAX ||
         span_find_char(pattern, '[', 0) != SIZE_MAX;
}

/* missing is the directory that a pattern looks in first, if there is no such thing. */
static struct span missing(struct conf *conf, struct span pattern) {
  const struct conf_reader *reader = conf->reader;
  size_t slash = 0;
  for (size_t i = 0; i < pattern.len && !has_wildcard(span_sub(pattern, i, 1)); i++)
    if (pattern.ptr[i] == '/') slash = i;
  struct span dir = span_sub(pattern, 0, slash);
  if (!slash || !reader->mode) return SPAN_EMPTY;
  int mode = reader->mode(reader->ctx, arena_str(&conf->arena, dir));
  return mode == -ENOENT ? dir : SPAN_EMPTY;
}

/* nothing_found: a pattern may find nothing, but a directory that is not there is a slip. */
static void nothing_found(struct conf *conf, const struct conf_item *pattern) {
  if (!has_wildcard(pattern->text)) {
    fault_add(conf->faults, FAULT_INCLUDE_NONE, pattern->at, SPAN_FMT " does not exist",
              SPAN_ARG(pattern->text));
    return;
  }
  struct span dir = missing(conf, pattern->text);
  if (!dir.len) return;
  fault_add(conf->faults, FAULT_INCLUDE_EMPTY, pattern->at,
            SPAN_FMT " matches nothing: the directory " SPAN_FMT " does not exist",
            SPAN_ARG(pattern->text), SPAN_ARG(dir));
  fault_note(conf->faults, "make the directory, or take the pattern out");
}

static void include_pattern(struct conf *conf, const struct conf_item *pattern) {
  struct globbing g = {.conf = conf};
  const struct conf_reader *reader = conf->reader;
  const char *text = arena_str(&conf->arena, pattern->text);
  int res = reader->glob ? reader->glob(reader->ctx, text, glob_each, &g) : -ENOSYS;
  if (res < 0)
    fault_add(conf->faults, FAULT_INCLUDE_READ, pattern->at, "%s: %s", text, errno_text(-res));
  else if (g.count == 0)
    nothing_found(conf, pattern);
  for (uint32_t i = 0; i < g.count; i++) {
    if (is_loaded(conf, g.paths[i].text)) continue;
    if (source_count(conf) == CONF_SOURCES_MAX) {
      fault_add(conf->faults, FAULT_INCLUDE_MANY, pattern->at, "more than %u files",
                CONF_SOURCES_MAX);
      break;
    }
    read_path(conf, g.paths[i].text.ptr, pattern->at);
  }
  mem_free(g.paths);
}

static void include_files(struct conf *conf) {
  const struct option *option = option_get(OPTION_INCLUDE);
  const struct source *main = conf->sources;
  const struct node *node = node_find(main->root, SPAN_LIT("include"));
  if (!node) return;
  apply_value(conf, &conf->root.row, option, node);
  for (uint32_t i = 0; i < conf->root.include.count; i++)
    include_pattern(conf, &conf->root.include.items[i]);
  for (const struct source *s = main->next; s; s = s->next) {
    const struct node *nested = node_find(s->root, SPAN_LIT("include"));
    if (!nested) continue;
    fault_add(conf->faults, FAULT_INCLUDE_NESTED, nested->key_at,
              "an included file includes no others");
    fault_note(conf->faults, "move it to " SPAN_FMT, SPAN_ARG(main->path));
  }
}

/* ---- the whole ---- */

static void add_file(struct conf *conf, struct span path, bool secret) {
  for (uint32_t i = 0; i < conf->file_count; i++)
    if (span_eq(span_str(conf->files[i].path), path)) return;
  conf->files[conf->file_count++] =
      (struct conf_file){.path = arena_str(&conf->arena, path), .secret = secret};
}

static void add_secret(struct conf *conf, struct span secret) {
  static const struct span mark = SPAN_LIT("file:");
  if (span_starts(secret, mark)) add_file(conf, span_from(secret, mark.len), true);
}

static void add_secrets(struct conf *conf, const struct conf_list *list) {
  for (uint32_t i = 0; i < list->count; i++) add_secret(conf, list->items[i].text);
}

static void list_files(struct conf *conf) {
  uint32_t most = source_count(conf);
  rows_each(&conf->root.listeners, struct conf_listener, l)
    most += 3 * l->certs.count + l->ticket_keys.count + 1;
  rows_each(&conf->root.listeners, struct conf_listener, l)
    rows_each(&l->clients, struct conf_client_auth, it) most += it->ca.count + it->crl.count;
  most += 4 * conf->root.pools.count + 1;
  conf->files = arena_get(&conf->arena, most * sizeof *conf->files);
  for (const struct source *s = conf->sources; s; s = s->next) add_file(conf, s->path, false);
  rows_each(&conf->root.listeners, struct conf_listener, listener) {
    add_secret(conf, listener->tls_ech);
    rows_each(&listener->certs, struct conf_cert_row, cert) {
      add_secret(conf, cert->cert);
      add_secret(conf, cert->key);
      add_secret(conf, cert->ocsp);
    }
    for (uint32_t i = 0; i < listener->ticket_keys.count; i++)
      add_secret(conf, listener->ticket_keys.items[i].text);
  }
  rows_each(&conf->root.listeners, struct conf_listener, listener)
    rows_each(&listener->clients, struct conf_client_auth, it) {
      add_secrets(conf, &it->ca);
      add_secrets(conf, &it->crl);
    }
  rows_each(&conf->root.pools, struct conf_pool, pool) {
    add_secret(conf, pool->sticky_key);
    add_secret(conf, pool->tls.ca);
    add_secret(conf, pool->tls.cert);
    add_secret(conf, pool->tls.key);
  }
  add_secret(conf, conf->system_store);
}

/* finish does all that follows the first text. */
static struct conf *finish(struct conf *conf) {
  struct conf_faults *faults = conf->faults;
  include_files(conf);
  apply_sources(conf);
  check_conf(conf);
  secrets_load(conf);
  files_load(conf);
  process_fill(conf);
  list_files(conf);
  conf->reader = NULL;
  conf->faults = NULL;
  if (conf_faults_errors(faults) == conf->errors_before) return conf;
  conf_free(conf);
  return NULL;
}

struct conf *conf_load(const struct conf_reader *reader, const char *path,
                       struct conf_faults *faults) {
  struct conf *conf = conf_new(reader, faults);
  if (read_path(conf, path, (struct place){0})) return finish(conf);
  conf_free(conf);
  return NULL;
}

struct conf *conf_load_text(const struct conf_reader *reader, const char *name, struct span text,
                            struct conf_faults *faults) {
  if (text.len > CONF_FILE_MAX) {
    fault_add_file(faults, FAULT_FILE_READ, span_str(name), "%s: %s", name, errno_text(EFBIG));
    return NULL;
  }
  struct conf *conf = conf_new(reader, faults);
  add_source(conf, span_str(name), text);
  return finish(conf);
}

/* ---- admin.listen of a file that has faults ---- */

/* of_root: is path an option of the root, or a group of some? */
static bool of_root(struct span path) {
  const struct scope *scope = scope_get(SCOPE_ROOT);
  for (uint32_t i = 0; i < scope->count; i++) {
    struct span local = option_local(option_get((enum option_id)(scope->first + i)));
    if (!span_starts(local, path)) continue;
    if (local.len == path.len || local.ptr[path.len] == '.') return true;
  }
  return false;
}

/* admin_misspelt: may a key of this text be meant for admin.listen? */
static bool admin_misspelt(struct conf *conf, const struct source *src) {
  static const struct span group = SPAN_LIT("admin");
  for (const struct node *key = src->root->first; key; key = key->next) {
    bool here = span_eq(key->key, group);
    if (!of_root(key->key) || (here && key->kind != NODE_GROUP)) return true;
    for (const struct node *n = here ? key->first : NULL; n; n = n->next)
      if (!of_root(arena_printf(&conf->arena, "admin." SPAN_FMT, SPAN_ARG(n->key)))) return true;
  }
  return false;
}

/* admin_absent: nothing sets it, and nothing that cannot be read might. */
static bool admin_absent(struct conf *conf) {
  static const enum fault_id hiding[] = {FAULT_FILE_READ, FAULT_INCLUDE_READ, FAULT_INCLUDE_MANY,
                                         FAULT_INCLUDE_NONE, FAULT_INCLUDE_NESTED};
  for (size_t i = 0; i < array_count(hiding); i++)
    if (faults_has(conf->faults, hiding[i])) return false;
  for (const struct source *s = conf->sources; s; s = s->next)
    if (admin_misspelt(conf, s)) return false;
  const struct conf_origin *include = row_origin(&conf->root.row, OPTION_INCLUDE);
  return !include->node || conf->root.include.count > 0;
}

static bool admin_readable(struct conf *conf) {
  const struct option *option = option_get(OPTION_ADMIN_LISTEN);
  const struct node *node = row_origin(&conf->root.row, OPTION_ADMIN_LISTEN)->node;
  struct value value;
  if (faults_has_syntax(conf->faults) || faults_has(conf->faults, FAULT_SET_TWICE)) return false;
  if (!node) return admin_absent(conf);
  if (node_guessed(node)) return false;
  struct value_job job = {&conf->arena, conf->faults, conf->reader, option,
                          node,         SPAN_EMPTY,   SPAN_EMPTY};
  return value_parse(&job, &value);
}

enum conf_admin conf_admin_read(const struct conf_reader *reader, const char *path,
                                struct text *out) {
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_new(reader, faults);
  enum conf_admin found = CONF_ADMIN_UNKNOWN;
  if (read_path(conf, path, (struct place){0})) {
    include_files(conf);
    apply_sources(conf);
    process_fill(conf);
    const char *listen = conf->process.admin_listen;
    if (admin_readable(conf)) found = listen ? CONF_ADMIN_KNOWN : CONF_ADMIN_OFF;
    if (found == CONF_ADMIN_KNOWN) text_put(out, span_str(listen));
  }
  conf_free(conf);
  conf_faults_free(faults);
  return found;
}

const struct conf_process *conf_process(const struct conf *conf) { return &conf->process; }

uint32_t conf_files(const struct conf *conf, const struct conf_file **out) {
  *out = conf->files;
  return conf->file_count;
}
