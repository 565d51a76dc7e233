/* websocket.c: keys of the WebSocket handshake and their answers (RFC 6455 section 4.2.2). SHA-1
 * protects nothing here: it shows that the other side has read the key. Called by proxy/ where
 * clients and endpoints speak different versions, and by the built-in origin. */
#include "weir/http/websocket.h"

#include "weir/base/buf.h"
#include "weir/base/crypto.h"
#include "weir/http/base64.h"

#define GUID SPAN_LIT("258EAFA5-E914-47DA-95CA-C5AB0DC85B11") /* section 1.3 */
enum { GUID_LEN = 36 };

bool websocket_is(struct span protocol) {
  return span_eq_nocase(protocol, SPAN_LIT("websocket"));
}

void websocket_key(const uint8_t nonce[WEBSOCKET_NONCE_LEN], char out[WEBSOCKET_KEY_LEN]) {
  struct buf b = buf_of(out, WEBSOCKET_KEY_LEN);
  base64_write(span_of((const char *)nonce, WEBSOCKET_NONCE_LEN), &b);
  check(!b.full);
}

bool websocket_accept(struct span key, char out[WEBSOCKET_ACCEPT_LEN]) {
  char room[WEBSOCKET_KEY_LEN + GUID_LEN];
  uint8_t digest[CRYPTO_SHA1_LEN];
  if (key.len != WEBSOCKET_KEY_LEN) return false;
  struct buf text = buf_of(room, sizeof(room)), b = buf_of(out, WEBSOCKET_ACCEPT_LEN);
  buf_put(&text, key);
  buf_put(&text, GUID);
  crypto_sha1(buf_span(&text), digest);
  base64_write(span_of((const char *)digest, sizeof(digest)), &b);
  check(!b.full);
  return true;
}
