/* demo_ws.c: a WebSocket echo (RFC 6455) for the built-in origin. Frames up to DEMO_ECHO_MAX are
 * echoed as they are framed; larger ones end the connection. */
#include "demo_priv.h"
#include "weir/http/websocket.h"

/* ---- the handshake ---- */

static bool handshake(struct demo_conn *c) {
  const struct http_field *key =
      http_fields_find_name(&c->req.fields, SPAN_LIT("sec-websocket-key"));
  char accept[WEBSOCKET_ACCEPT_LEN], head[256];
  struct buf out = buf_of(head, sizeof head);
  if (!websocket_is(c->req.upgrade) || !key || !websocket_accept(key->value, accept)) {
    return false;
  }
  buf_lit(&out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: ");
  buf_put(&out, span_of(accept, sizeof accept));
  buf_lit(&out, "\r\n\r\n");
  return demo_send(c, buf_span(&out));
}

/* ---- frames ---- */

struct frame {
  unsigned char first; /* FIN and opcode */
  unsigned char mask[4];
  uint64_t len;
  size_t head;
};

static bool need(struct demo_conn *c, size_t len) {
  while (c->in_len < len) {
    if (!demo_more(c)) {
      return false;
    }
  }
  return true;
}

/* frame_read reads a masked frame head (RFC 6455 section 5.2). */
static bool frame_read(struct demo_conn *c, struct frame *f) {
  if (!need(c, 2) || !(c->in[1] & 0x80)) {
    return false; /* a client masks */
  }
  unsigned code = c->in[1] & 0x7f;
  size_t extra = code == 126 ? 2 : code == 127 ? 8 : 0;
  f->head = 2 + extra + 4;
  if (!need(c, f->head)) {
    return false;
  }
  f->first = (unsigned char)c->in[0];
  f->len = extra ? 0 : code;
  for (size_t i = 0; i < extra; i++) {
    f->len = f->len << 8 | (unsigned char)c->in[2 + i];
  }
  memcpy(f->mask, c->in + 2 + extra, 4);
  return f->len <= DEMO_ECHO_MAX;
}

static bool head_send(struct demo_conn *c, unsigned char first, uint64_t len) {
  char head[10];
  struct buf b = buf_of(head, sizeof head);
  buf_char(&b, (char)first);
  if (len < 126) {
    buf_char(&b, (char)len);
  } else {
    buf_char(&b, len < 65536 ? 126 : 127);
    for (int shift = len < 65536 ? 8 : 56; shift >= 0; shift -= 8) {
      buf_char(&b, (char)(len >> shift & 0xff));
    }
  }
  return demo_send(c, buf_span(&b));
}

static bool echo(struct demo_conn *c, const struct frame *f) {
  uint64_t done = 0;
  unsigned char opcode = f->first & 0x0f;
  /* A ping (9) is answered by a pong (10); all else as it came. */
  unsigned char first = opcode == 9 ? 0x8a : f->first;
  if (!head_send(c, first, f->len)) {
    return false;
  }
  while (done < f->len) {
    if (!c->in_len && !demo_more(c)) {
      return false;
    }
    size_t take = c->in_len < f->len - done ? c->in_len : (size_t)(f->len - done);
    for (size_t i = 0; i < take; i++) {
      c->in[i] = (char)(c->in[i] ^ f->mask[(done + i) % 4]);
    }
    if (!demo_send(c, span_of(c->in, take))) {
      return false;
    }
    demo_consume(c, take);
    done += take;
  }
  return opcode != 8; /* close, echoed */
}

bool demo_ws_serve(struct demo_conn *c) {
  struct frame f;
  if (!handshake(c)) {
    return false;
  }
  do {
    if (!frame_read(c, &f)) {
      return true;
    }
    demo_consume(c, f.head);
  } while (echo(c, &f));
  return true;
}
