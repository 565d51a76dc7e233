/* proxied_udp.c: PROXY headers of datagrams (listeners.*.proxy_protocol and pools.*.proxy_protocol
 * with protocol = "udp"): each datagram has its own, always of version 2. In: it is cut off, and
 * tells whose session the datagram belongs to; only who is in trusted_proxies may send one
 * (THREATS.md row 28). Out: a session's header is made once, and goes before each of its
 * datagrams; answers have none. Called by front_udp.c and udp_session.c. */
#include "proxy/udp_priv.h"

enum { ID_LEN = 2 * PROXIED_ID_BYTES };

/* ---- in ---- */

static bool is_ip(const struct addr *a) {
  return a->len && (a->sa.sa_family == AF_INET || a->sa.sa_family == AF_INET6);
}

enum end udp_hear(const struct udp_port *p, const struct listener *l, struct udp_datagram *d,
                  struct udp_told *told) {
  struct proxy_header h;
  enum proxy_fault why;
  size_t len;
  *told = (struct udp_told){.client = {.len = 0}};
  uint8_t proxied = l ? l->proxied : p->proxied;
  if (proxied == PROXIED_NO) return END_OK;
  /* Where the listener is gone only sessions that it let begin are found. */
  bool trusted = !l || gate_trusts(l, &d->from);
  bool good = proxy_datagram_parse(d->bytes, &h, &len, &why) == HTTP_DONE;
  if (!good && why == PROXY_FAULT_SIGNATURE && proxied == PROXIED_SOME) return END_OK;
  if (!trusted) return END_PROXY_UNTRUSTED;
  if (!good) {
    told->reason = proxy_fault_text(why);
    return proxy_fault_end(why);
  }
  if (d->segment) { /* a train of before a reload */
    told->reason = SPAN_LIT("one header for many datagrams");
    return END_PROXY_LENGTH;
  }
  d->bytes = span_from(d->bytes, len);
  if (h.local || !is_ip(&h.src) || !is_ip(&h.dst)) return END_OK;
  *told = (struct udp_told){.client = h.src, .to = h.dst, .id = h.unique_id};
  return END_OK;
}

/* ---- out ---- */

/* local_of is what the client sent to: its own proxy's address, or ours. */
static struct addr local_of(const struct udp_session *s, const struct udp_told *told) {
  if (told->to.len) return told->to;
  struct addr to = s->port->own;
  struct peer own = {.family = s->key.local_family, .port = addr_port(&to)};
  if (!own.family) return to;
  memcpy(own.ip, s->key.local_ip, sizeof own.ip);
  peer_addr(&own, &to);
  return to;
}

static struct udp_header *header_of(struct udp_session *s) {
  if (!s->header) s->header = slab_new(&udp_worker(s->port)->udp->headers);
  check(s->header != NULL); /* there are as many as sessions */
  return s->header;
}

static void keep_id(struct udp_session *s, struct span id) {
  struct udp_header *header = header_of(s);
  check(id.len <= sizeof header->id);
  memcpy(header->id, id.ptr, id.len);
  header->id_len = (uint8_t)id.len;
}

static void make_header(struct udp_session *s, unsigned tlvs, const struct udp_told *told) {
  struct udp_header *header = header_of(s);
  struct buf out = buf_of(header->bytes, sizeof header->bytes);
  char id[ID_LEN];
  if (!header->id_len && tlvs & PROXY_TLV_UNIQUE_ID) {
    proxied_draw_id(id);
    keep_id(s, span_of(id, sizeof id));
  }
  struct proxy_header h = {.version = 2,
                           .datagram = true,
                           .checksum = true,
                           .dst = local_of(s, told),
                           .unique_id = span_of(header->id, header->id_len)};
  udp_client(s, &h.src);
  proxy_header_keep(&h, tlvs);
  check(proxy_header_write(&out, &h)); /* two IPv6 addresses, the longest id and a checksum */
  header->len = (uint8_t)out.len;
}

bool udp_tell(struct udp_session *s, const struct pool *pool, struct udp_datagram *d,
              const struct udp_told *told) {
  if (told->id.len && !s->header) keep_id(s, told->id);
  if (pool) s->tells = pool->connections.proxied != 0;
  if (!s->tells) return true;
  if (!s->header || !s->header->len)
    make_header(s, pool ? pool->connections.tlvs : PROXY_TLV_ALL, told);
  d->front = span_of(s->header->bytes, s->header->len);
  return d->segment || d->front.len + d->bytes.len <= UDP_BYTES_MAX;
}

struct span udp_id(const struct udp_session *s) {
  return s->header ? span_of(s->header->id, s->header->id_len) : SPAN_EMPTY;
}
