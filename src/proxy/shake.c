/* shake.c: the opening handshake of WebSocket where the client and its endpoint speak different
 * versions: HTTP/1.1 proves by a key that both mean it (RFC 6455 section 4.1), HTTP/2 needs no
 * proof (RFC 8441 section 5.1). So for the one that has a key weir is the other side. */
#include "proxy_priv.h"
#include "weir/base/crypto.h"

#define KEY SPAN_LIT("sec-websocket-key")
#define ACCEPT SPAN_LIT("sec-websocket-accept")

void shake_of_h2(struct stream *s) {
  uint8_t nonce[WEBSOCKET_NONCE_LEN];
  http_fields_drop(&s->x->req.fields, KEY);
  crypto_random(nonce, sizeof nonce);
  websocket_key(nonce, s->x->ws_key);
  s->x->ws = WS_OURS;
}

bool shake_onward_h2(struct stream *s) {
  struct http_fields *fields = &s->x->req.fields;
  const struct http_field *row = http_fields_find_name(fields, KEY);
  if (s->x->ws != WS_NONE) return true;
  if (s->x->req.method != HTTP_METHOD_GET || !row || row->value.len != WEBSOCKET_KEY_LEN)
    return false;
  memcpy(s->x->ws_key, row->value.ptr, WEBSOCKET_KEY_LEN);
  s->x->ws = WS_CLIENTS;
  return http_fields_drop(fields, KEY) == 1;
}

/* answered: the endpoint has read the key that weir made for it; its answer is for weir alone. */
static bool answered(struct stream *s, struct span want) {
  struct http_fields *fields = &s->x->resp.fields;
  const struct http_field *row = http_fields_find_name(fields, ACCEPT);
  return row && span_eq(row->value, want) && http_fields_drop(fields, ACCEPT) == 1;
}

/* answer tells the client what shows that its key was read: it was, by weir. */
static bool answer(struct stream *s, struct span accept) {
  struct http_fields *fields = &s->x->resp.fields;
  bool ok;
  struct span value = arena_copy(&s->arena, accept, &ok);
  http_fields_drop(fields, ACCEPT);
  return ok && http_fields_add(fields, &s->arena, ACCEPT, value);
}

enum end shake_done(struct stream *s) {
  char text[WEBSOCKET_ACCEPT_LEN];
  bool by_h2 = s->x->resp.h2;
  bool ours = s->x->ws == WS_OURS && !by_h2, clients = s->x->ws == WS_CLIENTS && by_h2;
  if (!ours && !clients) return END_OK;
  if (!websocket_accept(span_of(s->x->ws_key, sizeof s->x->ws_key), text))
    return END_BAD_RESPONSE_WEBSOCKET;
  struct span accept = span_of(text, sizeof text);
  if (ours) return answered(s, accept) ? END_OK : END_BAD_RESPONSE_WEBSOCKET;
  return answer(s, accept) ? END_OK : END_LIMIT_STREAM_MEMORY;
}
