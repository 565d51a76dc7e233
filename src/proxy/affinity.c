/* affinity.c: what ties a request to a pool and an endpoint: the part of a split, the hash of a
 * key, the sticky cookie. Reads the request once, as it came (after trust, before any filter);
 * what is chosen for it is upstream/'s. Called by route.c, attempt.c and response.c. */
#include "proxy_priv.h"
#include "weir/base/hash.h"
#include "weir/upstream/breaker.h"

/* ---- splits ---- */

/* at_point is the part where a running sum of weights passes at (at < split_weight). */
static struct pool *at_point(const struct route *route, uint64_t at) {
  uint32_t i = 0;
  while (at >= route->splits[i].weight) at -= route->splits[i++].weight;
  return route->splits[i].pool;
}

/* takes_requests: it has an endpoint in service, and its breaker does not refuse. */
static bool takes_requests(const struct pool *pool, uint64_t now) {
  return pool_in_service(pool, now) && !breaker_refuses(pool, now);
}

/* heaviest_taking is where a pool that takes none passes its requests; NULL: nowhere. */
static struct pool *heaviest_taking(const struct route *route, uint64_t now) {
  const struct route_split *best = NULL;
  for (uint32_t i = 0; i < route->split_count; i++) {
    const struct route_split *split = &route->splits[i];
    if (!split->weight || (best && split->weight <= best->weight)) continue;
    if (takes_requests(split->pool, now)) best = split;
  }
  return best ? best->pool : NULL;
}

static struct pool *part_of(const struct route *route, uint64_t draw) {
  return at_point(route, (uint64_t)(((unsigned __int128)draw * route->split_weight) >> 64));
}

/* The key's hash is mixed with the route's name: who is in the canary of one route is not for
 * that in the canary of all, nor at one end of a pool's ring. */
struct pool *affinity_by_key(const struct route *route, const struct http_request *request,
                             struct span client) {
  uint64_t hash = 0;
  if (!hash_key_find(&route->split_by, request, client, &hash)) return NULL;
  return part_of(route, hash_mix(hash, hash_bytes(route->obj.name)));
}

struct pool *affinity_pool(struct stream *s, const struct route *route) {
  if (route->action != ROUTE_SPLIT) return route->pool;
  struct pool *pool = affinity_by_key(route, &s->x->req, s->x->ctx.client);
  if (!pool) pool = part_of(route, rng_next(&s->w->rng));
  if (!route->split_failover || takes_requests(pool, now_ms(s->w))) return pool;
  struct pool *other = heaviest_taking(route, now_ms(s->w));
  return other ? other : pool;
}

/* ---- the endpoint ---- */

void affinity_init(struct stream *s, const struct pool *pool) {
  s->x->want = (struct pool_want){.sticky = PLACE_NONE, .tried = &s->x->tried};
  if (balance_hashed(pool->balance))
    s->x->want.hashed =
        hash_key_find(&pool->spread.hash, &s->x->req, s->x->ctx.client, &s->x->want.hash);
  if (pool->sticky) s->x->want.sticky = sticky_find(pool->sticky, &s->x->req.fields);
}

/* place_in is where another pool has the endpoint of a place of ours. */
static uint32_t place_in(const struct pool *to, const struct pool *from, uint32_t place) {
  if (place >= from->member_count) return PLACE_NONE;
  const struct endpoint *e = from->members[place].endpoint;
  for (uint32_t i = 0; i < to->member_count; i++)
    if (to->members[i].endpoint == e) return i;
  return PLACE_NONE;
}

void affinity_renew(struct stream *s, const struct pool *to) {
  struct pool_tried *tried = &s->x->tried;
  const struct pool_tried before = *tried;
  struct pool_want *want = &s->x->want;
  want->sticky = to->sticky ? place_in(to, s->pool, want->sticky) : PLACE_NONE;
  s->x->picked = PLACE_NONE;
  *tried = (struct pool_tried){0};
  for (uint32_t i = 0; i < before.count; i++) {
    uint32_t place = place_in(to, s->pool, before.place[i]);
    if (place == PLACE_NONE) continue;
    tried->refused |= (before.refused >> i & 1u) << tried->count;
    tried->place[tried->count++] = place;
  }
}

const struct pool_member *affinity_pick(struct stream *s) {
  s->x->want.now_ms = now_ms(s->w);
  const struct pool_member *m = pool_pick(&s->w->upstream, s->pool, &s->x->want);
  s->x->picked = m ? (uint32_t)(m - s->pool->members) : PLACE_NONE;
  return m;
}

/* place_of the stream's endpoint. It is looked for only when another than the one that was picked
 * was taken, for want of connections. */
static uint32_t place_of(const struct stream *s) {
  const struct pool *pool = s->pool;
  const struct endpoint *e = s->try.endpoint;
  uint32_t picked = s->x->picked, i = 0;
  if (picked != PLACE_NONE && pool->members[picked].endpoint == e) return picked;
  while (i < pool->member_count && pool->members[i].endpoint != e) i++;
  return i < pool->member_count ? i : PLACE_NONE;
}

/* away: the endpoint that the cookie names was only passed by (all its connections were taken);
 * the session stays its own. */
static bool away(const struct stream *s) {
  uint32_t home = s->x->want.sticky;
  if (home == PLACE_NONE) return false;
  for (uint32_t i = 0; i < s->x->tried.count; i++)
    if (s->x->tried.place[i] == home) return false;
  return endpoint_in_service(s->pool->members[home].endpoint, now_ms(s->w));
}

void affinity_response(struct stream *s) {
  const struct pool_sticky *sticky = s->pool->sticky;
  struct pool_row *row = &s->pool->state->rows[s->w->config.index];
  if (!sticky) return;
  uint32_t place = place_of(s);
  if (place == PLACE_NONE) return;
  if (place == s->x->want.sticky) {
    stat_add(&row->sticky_kept, 1);
  } else if (!away(s)) {
    stat_add(&row->sticky_set, 1);
    s->x->ctx.set_cookie = s->x->ctx.tls ? sticky->secured[place] : sticky->plain[place];
  }
}
