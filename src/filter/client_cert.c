/* client_cert.c: tells the pool who the client is: its certificate in Client-Cert, those that it
 * sent with it in Client-Cert-Chain (RFC 9440). What the client itself wrote there was marked
 * HTTP_FIELD_FORWARDING by the parser and is not sent (forwarded.c). */
#include "filter_priv.h"
#include "weir/http/base64.h"

/* put_bytes writes a byte sequence (RFC 8941 section 3.3.5). */
static void put_bytes(struct buf *out, struct span der) {
  buf_char(out, ':');
  base64_write(der, out);
  buf_char(out, ':');
}

static size_t bytes_len(struct span der) { return base64_len(der.len) + 2; }

static enum filter_result add_chain(struct filter_ctx *ctx) {
  size_t room = 0;
  for (uint32_t i = 0; i < ctx->cert_chain_count; i++) room += bytes_len(ctx->cert_chain[i]) + 2;
  char *bytes = room ? arena_bytes(ctx->arena, room) : NULL;
  if (!room) return FILTER_NEXT;
  struct buf b = buf_of(bytes, bytes ? room : 0);
  for (uint32_t i = 0; i < ctx->cert_chain_count; i++) {
    if (i) buf_lit(&b, ", ");
    put_bytes(&b, ctx->cert_chain[i]);
  }
  if (b.full) return filter_full(ctx);
  return filter_add(ctx, &ctx->request->fields, SPAN_LIT("Client-Cert-Chain"), buf_span(&b));
}

enum filter_result client_cert_request(struct filter_ctx *ctx) {
  if (!ctx->cert_forward || !ctx->cert_der.len) return FILTER_NEXT;
  size_t room = bytes_len(ctx->cert_der);
  char *bytes = arena_bytes(ctx->arena, room);
  struct buf b = buf_of(bytes, bytes ? room : 0);
  put_bytes(&b, ctx->cert_der);
  if (b.full) return filter_full(ctx);
  enum filter_result r =
      filter_add(ctx, &ctx->request->fields, SPAN_LIT("Client-Cert"), buf_span(&b));
  return r == FILTER_NEXT ? add_chain(ctx) : r;
}
