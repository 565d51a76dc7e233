/* websocket.h: the opening handshake of WebSocket (RFC 6455 sections 4.1 and 4.2.2), for who is
 * one of its two sides: weir, when the other version carries it without (RFC 8441 section 5.1). */
#ifndef WEIR_HTTP_WEBSOCKET_H
#define WEIR_HTTP_WEBSOCKET_H

#include "weir/base/span.h"

#define WEBSOCKET_NONCE_LEN 16u
#define WEBSOCKET_KEY_LEN 24u    /* Sec-WebSocket-Key: a nonce in base64 */
#define WEBSOCKET_ACCEPT_LEN 28u /* Sec-WebSocket-Accept */

/* websocket_is: the protocol of an upgrade is WebSocket. */
bool websocket_is(struct span protocol);
/* websocket_key writes the key of a nonce, which is random. */
void websocket_key(const uint8_t nonce[WEBSOCKET_NONCE_LEN], char out[WEBSOCKET_KEY_LEN]);
/* websocket_accept writes what answers a key; false: that is not as long as one. */
MUST_USE bool websocket_accept(struct span key, char out[WEBSOCKET_ACCEPT_LEN]);

#endif
