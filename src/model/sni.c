/* sni.c: the pool of a ClientHello. Rows are few and are looked at in turn: none is passed over
 * for its place. Called by proxy/front_pass.c and explain.c. */
#include "weir/model/sni.h"

#include "weir/model/parts.h"

/* fit is how well a row's name fits: 0 not, 1 as any, else the more the longer the wildcard. */
static size_t fit(const struct listener_sni *row, struct span host) {
  if (!row->name.len) return 1;
  if (row->name.ptr[0] != '.') return span_eq(row->name, host) ? SIZE_MAX : 0;
  return host.len > row->name.len && span_ends(host, row->name) ? 1 + row->name.len : 0;
}

static bool protocol_fits(const struct listener_sni *row, const struct client_hello *hello) {
  for (uint32_t i = 0; i < row->alpn_count; i++)
    if (client_hello_offers(hello, row->alpn[i])) return true;
  return row->alpn_count == 0;
}

enum sni_verdict sni_find(const struct listener *l, const struct client_hello *hello,
                          struct pool **pool) {
  size_t best = 0;
  for (uint32_t i = 0; i < l->sni_count; i++) {
    size_t f = fit(&l->sni[i], hello->host);
    if (f > best) best = f;
  }
  for (uint32_t i = 0; best && i < l->sni_count; i++) {
    if (fit(&l->sni[i], hello->host) != best || !protocol_fits(&l->sni[i], hello)) continue;
    *pool = l->sni[i].pool;
    return SNI_ROUTED;
  }
  if (best > 1) return SNI_NO_PROTOCOL; /* no fall-through to a less specific name */
  if (!l->pool) return best ? SNI_NO_PROTOCOL : SNI_NO_NAME;
  *pool = l->pool;
  return SNI_ROUTED;
}
