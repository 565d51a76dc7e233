/* compile_sni.c: the rows of sni of a listener that passes TLS on. Called by compile_listener.c.
 */
#include "compile_priv.h"

uint64_t sni_content(const struct conf_listener *row) {
  uint64_t hash = row->snis.count;
  rows_each(&row->snis, struct conf_sni, it) hash = hash_mix(hash, row_hash(&it->row));
  return hash;
}

static uint32_t names_count(const struct conf_sni *row) {
  return row->names.count ? row->names.count : 1;
}

bool sni_same(const struct compile *c, const struct listener *listener,
              const struct conf_listener *row) {
  uint32_t i = 0;
  rows_each(&row->snis, struct conf_sni, it) {
    const struct pool *pool = names_find(&c->pools, it->pool);
    if (i >= listener->sni_count || listener->sni[i].pool != pool) return false;
    i += names_count(it);
  }
  return i == listener->sni_count;
}

/* add_row makes one row for each name; "*.x" is kept as ".x". */
static void add_row(struct compile *c, struct listener *listener, const struct conf_sni *row) {
  struct arena *arena = &listener->obj.arena;
  struct pool *pool = names_find(&c->pools, row->pool);
  check(pool != NULL); /* check_tcp.c saw to it */
  struct span *alpn = arena_get(arena, (row->alpn.count + 1) * sizeof *alpn);
  for (uint32_t i = 0; i < row->alpn.count; i++)
    alpn[i] = arena_copy(arena, row->alpn.items[i].text, NULL);
  for (uint32_t i = 0; i < names_count(row); i++) {
    struct span name = row->names.count ? row->names.items[i].text : SPAN_EMPTY;
    if (span_starts(name, SPAN_LIT("*."))) name = span_from(name, 1);
    object_ref(c->registry, &pool->obj);
    listener->sni[listener->sni_count++] =
        (struct listener_sni){.name = arena_copy(arena, name, NULL),
                              .alpn = alpn,
                              .alpn_count = row->alpn.count,
                              .pool = pool};
  }
}

void sni_fill(struct compile *c, struct listener *listener, const struct conf_listener *row) {
  uint32_t count = 0;
  rows_each(&row->snis, struct conf_sni, it) count += names_count(it);
  listener->sni = arena_get(&listener->obj.arena, (count + 1) * sizeof *listener->sni);
  rows_each(&row->snis, struct conf_sni, it) add_row(c, listener, it);
}
