/* renew.c: certificates, keys and what belongs to them, read again while weir runs. What is good
 * is taken; what is not keeps its last good bytes and holds back nothing but what belongs to it:
 * a certificate and its key, the ticket keys of a listener, a pool's own certificate and key, one
 * file of CAs or CRLs (all of a row's, where only the hook finds fault). Whether they can be used
 * is for the hooks to say: a policy that they refuse is tried again without what they blamed, and
 * then with what was stepped back for another. Called by control/'s watch of the files. */
#include "compile_priv.h"
#include "secrets_priv.h"

/* tag is what a unit is. Its halves are taken or not each by itself, but tried together first: a
 * new certificate may need its new OCSP response, a new CA its CRL. */
enum tag { UNIT_CERT, UNIT_CLIENT, UNIT_TICKETS, UNIT_ECH, UNIT_POOL, UNIT_STORE, UNIT_STICKY };
enum half { HALF_FIRST = 1, HALF_SECOND = 2 };

/* part is one file: fresh are its new bytes, or, in use, the ones before. */
struct part {
  struct secret secret;
  struct text fresh;
  bool differs, lost; /* lost: it could not be read, or is none of what it must be */
  bool in_use;
};

/* what became of a part: of conf->parts_refused. MENDED: it was refused the time before. */
enum { PART_GOOD, PART_REFUSED, PART_MENDED };

/* unit is what belongs together: parts from first on. */
struct unit {
  const struct conf_row *row;
  enum tag tag;
  uint32_t first, count;
  uint8_t may, has; /* halves that are new and can be read; those of them that are in use */
  bool known;       /* the same was refused before: nothing more is said of it */
  bool blamed;      /* a hook said that it is bad, now */
  uint64_t content;
};

struct renewal {
  struct conf *conf;
  const struct conf_reader *reader;
  struct conf_faults *faults;
  struct part *parts;
  struct unit *units;
  uint32_t part_count, unit_count;
  struct compile compile; /* for the policies that are tried */
};

static enum tag tag_of(enum option_id id) {
  switch ((uint32_t)id) {
    case OPTION_CLIENT_CA:
    case OPTION_CLIENT_CRL: return UNIT_CLIENT;
    case OPTION_LISTENER_TICKET_KEYS: return UNIT_TICKETS;
    case OPTION_LISTENER_TLS_ECH: return UNIT_ECH;
    case OPTION_POOL_TLS_CA:
    case OPTION_POOL_TLS_CERT:
    case OPTION_POOL_TLS_KEY: return UNIT_POOL;
    case OPTION_POOL_TLS_VERIFY: return UNIT_STORE;
    case OPTION_POOL_STICKY_KEY: return UNIT_STICKY;
    default: return UNIT_CERT;
  }
}

static enum half half_of(enum option_id id) {
  bool second = id == OPTION_CERT_OCSP || id == OPTION_CLIENT_CRL || id == OPTION_POOL_TLS_CERT ||
                id == OPTION_POOL_TLS_KEY;
  return second ? HALF_SECOND : HALF_FIRST;
}

/* in_one: a file that is lost keeps the others of its half from being taken, for they are one
 * thing. CA files and CRLs are a list of things. */
static bool in_one(const struct unit *u) { return u->tag != UNIT_CLIENT; }

/* ---- reading ---- */

static void parts_list(struct renewal *r) {
  r->part_count = secrets_list(r->conf, NULL);
  struct secret *all = mem_array(r->part_count, sizeof *all);
  (void)secrets_list(r->conf, all);
  r->parts = mem_array(r->part_count, sizeof *r->parts);
  r->units = mem_array(r->part_count, sizeof *r->units);
  for (uint32_t i = 0; i < r->part_count; i++) {
    struct unit *u = r->unit_count ? &r->units[r->unit_count - 1] : NULL;
    enum tag tag = tag_of(all[i].id);
    r->parts[i].secret = all[i];
    if (!u || u->row != all[i].row || u->tag != tag) {
      u = &r->units[r->unit_count++];
      *u = (struct unit){.row = all[i].row, .tag = tag, .first = i};
    }
    u->count++;
  }
  mem_free(all);
}

static bool same(const struct text *a, const struct text *b) {
  return span_eq(text_span(a), text_span(b));
}

static void part_read(struct renewal *r, struct part *part, struct unit *u) {
  uint32_t before = conf_faults_errors(r->faults);
  secret_take(r->reader, r->faults, &r->compile.arena, &part->secret, &part->fresh);
  part->lost = conf_faults_errors(r->faults) > before;
  part->differs = part->lost || !same(&part->fresh, part->secret.bytes);
  if (u->tag == UNIT_CLIENT && part->differs && !part->lost)
    part->lost =
        !client_pem_good(&r->compile, u->row, part->secret.id, part->secret.name, &part->fresh);
  u->content = text_hash(hash_mix(u->content, part->lost), text_span(&part->fresh));
}

static void keys_read(struct renewal *r, struct unit *u) {
  const struct text *texts[CONF_TICKET_KEYS_MAX];
  struct secret keys[CONF_TICKET_KEYS_MAX];
  uint32_t before = conf_faults_errors(r->faults);
  for (uint32_t i = 0; i < u->count; i++) {
    keys[i] = r->parts[u->first + i].secret;
    texts[i] = &r->parts[u->first + i].fresh;
  }
  secrets_keys_check(r->faults, keys, texts, u->count);
  if (conf_faults_errors(r->faults) == before) return;
  for (uint32_t i = 0; i < u->count; i++) r->parts[u->first + i].lost = true;
}

/* halves_read: which of them can be taken. */
static uint8_t halves_read(const struct renewal *r, const struct unit *u) {
  uint8_t new = 0, lost = 0;
  for (uint32_t i = u->first; i < u->first + u->count; i++) {
    const struct part *part = &r->parts[i];
    uint8_t half = (uint8_t)half_of(part->secret.id);
    if (part->lost && in_one(u)) lost |= half;
    if (part->differs && !part->lost) new |= half;
  }
  return new &(uint8_t)~lost;
}

/* unit_read reads what belongs together; faults of what was refused before are not told again. */
static void unit_read(struct renewal *r, struct unit *u) {
  struct faults_mark mark;
  faults_mark(r->faults, &mark);
  u->content = 1;
  for (uint32_t i = 0; i < u->count; i++) part_read(r, &r->parts[u->first + i], u);
  if (u->tag == UNIT_TICKETS) keys_read(r, u);
  u->may = halves_read(r, u);
  u->known = r->conf->refused[u - r->units] == u->content;
  bool lost = conf_faults_errors(r->faults) > mark.errors;
  if (u->known || !lost) faults_rewind(r->faults, &mark); /* of warnings too */
}

/* ---- what is in use ---- */

static void swap(struct text *a, struct text *b) {
  struct text t = *a;
  *a = *b;
  *b = t;
}

/* unit_use makes exactly these halves the new ones. */
static void unit_use(struct renewal *r, struct unit *u, uint8_t halves) {
  for (uint32_t i = u->first; i < u->first + u->count; i++) {
    struct part *part = &r->parts[i];
    bool use = halves & half_of(part->secret.id) && part->differs && !part->lost;
    if (use != part->in_use) swap(&part->fresh, part->secret.bytes);
    part->in_use = use;
  }
  u->has = halves;
}

/* unit_back takes the next less of what is new: both halves, the first, the second, none. */
static void unit_back(struct renewal *r, struct unit *u) {
  uint8_t both = HALF_FIRST | HALF_SECOND;
  uint8_t next = u->has == both                           ? HALF_FIRST
                 : u->has == HALF_FIRST && u->may == both ? HALF_SECOND
                                                          : 0;
  unit_use(r, u, next);
}

/* ---- policies ---- */

static struct unit *unit_find(struct renewal *r, const struct conf_row *row, enum tag tag) {
  for (uint32_t i = 0; i < r->unit_count; i++)
    if (r->units[i].tag == tag && (r->units[i].row == row || tag == UNIT_STORE))
      return &r->units[i];
  return NULL;
}

static const struct conf_row *row_at(const struct conf_rows *rows, uint32_t index) {
  const struct conf_row *row = rows->first;
  while (row && index--) row = row->next;
  return row;
}

/* listener_blamed is what the hook says is bad, if it is new. */
static struct unit *listener_blamed(struct renewal *r, const struct conf_listener *l,
                                    uint32_t bad) {
  struct unit *u = NULL;
  if (bad == CONF_TLS_BAD_TICKETS)
    u = unit_find(r, &l->row, UNIT_TICKETS);
  else if (bad == CONF_TLS_BAD_ECH)
    u = unit_find(r, &l->row, UNIT_ECH);
  else if (bad < CONF_TLS_BAD_ECH && bad >= CONF_BAD_CLIENT)
    u = unit_find(r, row_at(&l->clients, bad - CONF_BAD_CLIENT), UNIT_CLIENT);
  else if (bad < CONF_BAD_CLIENT)
    u = unit_find(r, row_at(&l->certs, bad & ~CONF_TLS_BAD_OCSP), UNIT_CERT);
  return u && u->has ? u : NULL;
}

/* of_listener: the policy of l is made of it. */
static bool of_listener(const struct unit *u, const struct conf_listener *l) {
  if (u->row == &l->row) return true;
  rows_each(&l->certs, struct conf_cert_row, cert) if (u->row == &cert->row) return true;
  rows_each(&l->clients, struct conf_client_auth, client) if (u->row == &client->row) return true;
  return false;
}

static bool of_pool(const struct unit *u, const struct conf_pool *pool) {
  if (u->tag == UNIT_STORE) return pool->tls.verify == VERIFY_SYSTEM && !pool->tls.ca.len;
  return u->tag == UNIT_POOL && u->row == &pool->row;
}

/* any_of is something new that the policy has, where the hook blamed what is not: two certificates
 * for one name, say. */
static struct unit *any_of(struct renewal *r, const struct conf_listener *l,
                           const struct conf_pool *pool) {
  for (uint32_t i = 0; i < r->unit_count; i++) {
    struct unit *u = &r->units[i];
    if (u->has && (l ? of_listener(u, l) : of_pool(u, pool))) return u;
  }
  return NULL;
}

/* step_back: a policy with u was refused, as told since mark. That the half of u that was blamed
 * before is still bad is not told again. */
static void step_back(struct renewal *r, struct unit *u, const struct faults_mark *mark) {
  bool again = u->has == HALF_FIRST && u->may == (HALF_FIRST | HALF_SECOND);
  if (again) faults_rewind(r->faults, mark);
  unit_back(r, u);
}

/* listener_good is one try; the bytes that it joined are not kept. */
static bool listener_good(struct renewal *r, const struct conf_listener *l, uint32_t *bad) {
  bool good = listener_tls_try(&r->compile, l, bad);
  arena_reset(&r->compile.arena);
  return good;
}

/* AGAIN_FAILS_MAX bounds the tries that may be for nothing when one file changes. */
#define AGAIN_FAILS_MAX 8u

/* stand: how likely what was stepped back is no good itself. */
enum stand { STAND_INNOCENT, STAND_BLAMED, STAND_KNOWN, STANDS };

static enum stand stand_of(const struct unit *u) {
  return u->known ? STAND_KNOWN : u->blamed ? STAND_BLAMED : STAND_INNOCENT;
}

/* name_new names what of u is new. */
static struct span name_new(const struct renewal *r, const struct unit *u) {
  uint32_t i = u->first;
  while (i + 1 < u->first + u->count && !r->parts[i].differs) i++;
  return r->parts[i].secret.name;
}

/* unit_again tries a policy that stands with all that is new of u; false: it cannot have it. tell:
 * and this is what is said of it, else that was told when it was stepped back. */
static bool unit_again(struct renewal *r, const struct conf_listener *l, struct unit *u,
                       bool tell) {
  struct faults_mark mark;
  uint32_t bad = UINT32_MAX;
  uint8_t has = u->has;
  faults_mark(r->faults, &mark);
  unit_use(r, u, u->may);
  bool good = listener_good(r, l, &bad);
  if (!good && tell && listener_blamed(r, l, bad) != u)
    fault_note(r->faults, "that is in service already; what is new does not go with it: " SPAN_FMT,
               SPAN_ARG(name_new(r, u)));
  if (good || !tell) faults_rewind(r->faults, &mark); /* of warnings too */
  if (!good) unit_use(r, u, has);
  return good;
}

/* listener_again takes what was stepped back one by one, now that a policy stands: it may have
 * been another's fault, now or when it was refused before. What was blamed is tried only when not
 * all blame fell on what is new (guessed); then no more is said than what is found now. */
static void listener_again(struct renewal *r, const struct conf_listener *l, bool guessed) {
  uint32_t fails = 0;
  for (enum stand stand = STAND_INNOCENT; stand < STANDS; stand++)
    for (uint32_t i = 0; i < r->unit_count; i++) {
      struct unit *u = &r->units[i];
      bool tell = guessed && !u->known;
      if (u->has == u->may || stand_of(u) != stand || !of_listener(u, l)) continue;
      if (!tell && (stand == STAND_BLAMED || fails == AGAIN_FAILS_MAX)) continue;
      bool good = unit_again(r, l, u, tell);
      fails += !good && !tell;
    }
}

/* stapled is whether the OCSP response of a certificate has not ended, with what is in use. */
static bool stapled(struct renewal *r, const struct conf_listener *l, uint32_t i) {
  bool valid = listener_stapled(&r->compile, l, i);
  arena_reset(&r->compile.arena);
  return valid;
}

/* staple_keep leaves an OCSP response that holds in the place of a new one that has ended, where
 * its certificate stays. One that has yet to begin is taken: nobody would look at it again. */
static void staple_keep(struct renewal *r, const struct conf_listener *l, struct unit *u,
                        uint32_t i) {
  if (u->has != HALF_SECOND || stapled(r, l, i)) return;
  unit_use(r, u, 0);
  if (!stapled(r, l, i)) {
    unit_use(r, u, HALF_SECOND);
    return;
  }
  if (u->known) return;
  fault_add(r->faults, FAULT_OCSP_STALE, row_place(u->row, OPTION_CERT_OCSP),
            "listener \"" SPAN_FMT "\": the new OCSP response " SPAN_FMT
            " has ended: the one before, which has not, stays",
            SPAN_ARG(l->row.name), SPAN_ARG(name_new(r, u)));
}

static void staples_keep(struct renewal *r, const struct conf_listener *l) {
  uint32_t i = 0;
  if (!r->compile.hooks->tls_stapled) return;
  rows_each(&l->certs, struct conf_cert_row, cert) {
    struct unit *u = unit_find(r, &cert->row, UNIT_CERT);
    if (u) staple_keep(r, l, u, i);
    i++;
  }
}

/* The loops end: each step takes something back, and what was in use before is good. */
static void listener_try(struct renewal *r, const struct conf_listener *l) {
  struct unit *u = any_of(r, l, NULL);
  struct faults_mark start;
  bool guessed = false;
  faults_mark(r->faults, &start);
  while (u) {
    struct faults_mark mark;
    uint32_t bad = UINT32_MAX;
    faults_mark(r->faults, &mark);
    if (listener_good(r, l, &bad)) {
      faults_rewind(r->faults, guessed ? &start : &mark); /* of warnings; of innocents */
      listener_again(r, l, guessed);
      staples_keep(r, l);
      return;
    }
    u = listener_blamed(r, l, bad);
    if (u) u->blamed = true;
    guessed = guessed || !u;
    if (!u) u = any_of(r, l, NULL);
    if (u) step_back(r, u, &mark);
  }
}

/* pool_good is one try, as listener_good is. */
static bool pool_good(struct renewal *r, const struct conf_pool *pool, enum conf_tls_bad *bad) {
  *bad = CONF_TLS_BAD_NONE;
  bool good = upstream_tls_try(&r->compile, pool, bad);
  arena_reset(&r->compile.arena);
  return good;
}

/* pool_again takes the pool's own files if they were stepped back for the store's sake, now or
 * when they were refused before. Not the store: another pool may have refused it. */
static void pool_again(struct renewal *r, const struct conf_pool *pool, bool guessed) {
  struct unit *u = unit_find(r, &pool->row, UNIT_POOL);
  struct faults_mark mark;
  enum conf_tls_bad bad;
  if (!u || u->has == u->may || !(guessed || u->known)) return;
  uint8_t has = u->has;
  faults_mark(r->faults, &mark);
  unit_use(r, u, u->may);
  if (!pool_good(r, pool, &bad)) unit_use(r, u, has);
  faults_rewind(r->faults, &mark); /* as in unit_again */
}

static void pool_try(struct renewal *r, const struct conf_pool *pool) {
  struct unit *u = pool->tls.on ? any_of(r, NULL, pool) : NULL;
  bool guessed = false;
  while (u) {
    struct faults_mark mark;
    enum conf_tls_bad bad;
    faults_mark(r->faults, &mark);
    if (pool_good(r, pool, &bad)) {
      pool_again(r, pool, guessed);
      return;
    }
    bool store = bad == CONF_TLS_BAD_CA && !pool->tls.ca.len;
    u = unit_find(r, &pool->row, store ? UNIT_STORE : UNIT_POOL);
    guessed = guessed || !u || !u->has;
    if (!u || !u->has) u = any_of(r, NULL, pool);
    if (u) step_back(r, u, &mark);
  }
}

static void policies_try(struct renewal *r) {
  rows_each(&r->conf->root.listeners, struct conf_listener, l) if (l->certs.count)
      listener_try(r, l);
  rows_each(&r->conf->root.pools, struct conf_pool, pool) pool_try(r, pool);
}

/* ---- the outcome ---- */

static bool refused(const struct renewal *r, const struct unit *u, struct conf_renewed *out) {
  uint32_t before = out->refused;
  for (uint32_t i = u->first; i < u->first + u->count; i++) {
    const struct part *part = &r->parts[i];
    out->changed = out->changed || part->in_use;
    out->refused += part->differs && !part->in_use;
  }
  return out->refused > before;
}

/* part_note keeps of a file what conf_mended tells. */
static void part_note(struct renewal *r, uint32_t at) {
  const struct part *part = &r->parts[at];
  bool bad = part->differs && !part->in_use;
  bool was = r->conf->parts_refused[at] == PART_REFUSED;
  r->conf->parts_refused[at] = bad ? PART_REFUSED : was ? PART_MENDED : PART_GOOD;
}

static void outcome(struct renewal *r, struct conf_renewed *out) {
  *out = (struct conf_renewed){.refused = 0};
  for (uint32_t i = 0; i < r->unit_count; i++) {
    const struct unit *u = &r->units[i];
    bool bad = refused(r, u, out);
    out->told += bad && !u->known;
    r->conf->refused[i] = bad ? u->content : 0;
  }
  for (uint32_t i = 0; i < r->part_count; i++) part_note(r, i);
}

static void renewal_fini(struct renewal *r) {
  for (uint32_t i = 0; i < r->part_count; i++) secret_wipe(&r->parts[i].fresh);
  mem_free(r->parts);
  mem_free(r->units);
  arena_reset(&r->compile.arena);
}

void conf_renew(struct conf *conf, const struct conf_reader *reader,
                const struct conf_hooks *hooks, struct conf_faults *faults,
                struct conf_renewed *out) {
  struct renewal r = {.conf = conf, .reader = reader, .faults = faults};
  r.compile = (struct compile){.conf = conf, .hooks = hooks, .faults = faults};
  arena_init(&r.compile.arena, ARENA_PAGES, 0);
  parts_list(&r);
  if (!conf->refused) {
    conf->refused = arena_get(&conf->arena, (r.part_count + 1) * sizeof *conf->refused);
    conf->parts_refused = arena_get(&conf->arena, r.part_count + 1);
  }
  for (uint32_t i = 0; i < r.unit_count; i++) {
    unit_read(&r, &r.units[i]);
    unit_use(&r, &r.units[i], r.units[i].known ? 0 : r.units[i].may); /* known: later, or never */
  }
  if (hooks) policies_try(&r);
  outcome(&r, out);
  renewal_fini(&r);
}

/* told: of that name another part is still bad, or one before was told of. */
static bool told(const struct conf *conf, const struct secret *all, uint32_t count, uint32_t at) {
  for (uint32_t i = 0; i < count; i++) {
    uint8_t what = conf->parts_refused[i];
    if (what != PART_REFUSED && (what != PART_MENDED || i >= at)) continue;
    if (span_eq(all[i].name, all[at].name)) return true;
  }
  return false;
}

void conf_mended(struct conf *conf, void (*fn)(struct span name, void *ctx), void *ctx) {
  if (!conf->refused) return;
  uint32_t count = secrets_list(conf, NULL);
  struct secret *all = mem_array(count, sizeof *all);
  (void)secrets_list(conf, all);
  for (uint32_t i = 0; i < count; i++)
    if (conf->parts_refused[i] == PART_MENDED && !told(conf, all, count, i)) fn(all[i].name, ctx);
  mem_free(all);
}
