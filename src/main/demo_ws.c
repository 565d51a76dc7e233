/* demo_ws.c: a WebSocket echo (RFC 6455) for the built-in origin, with the SHA-1 (FIPS 180-4) that
 * its handshake asks for; SHA-1 protects nothing here. Frames up to DEMO_ECHO_MAX are echoed as
 * they are framed; larger ones end the connection. */
#include "demo_priv.h"

/* ---- SHA-1 of a short text ---- */

static uint32_t rotate(uint32_t v, unsigned n) { return v << n | v >> (32 - n); }

static void sha1_block(uint32_t h[5], const unsigned char *block) {
  static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
  uint32_t w[80], v[5];
  for (unsigned i = 0; i < 16; i++) {
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  }
  for (unsigned i = 16; i < 80; i++) {
    w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
  }
  memcpy(v, h, sizeof v);
  for (unsigned i = 0; i < 80; i++) {
    uint32_t b = v[1], c = v[2], d = v[3];
    uint32_t f = i < 20   ? (b & c) | (~b & d)
                 : i < 40 ? b ^ c ^ d
                 : i < 60 ? (b & c) | (b & d) | (c & d)
                          : b ^ c ^ d;
    uint32_t next = rotate(v[0], 5) + f + v[4] + k[i / 20] + w[i];
    v[4] = d;
    v[3] = c;
    v[2] = rotate(b, 30);
    v[1] = v[0];
    v[0] = next;
  }
  for (unsigned i = 0; i < 5; i++) {
    h[i] += v[i];
  }
}

/* sha1_short hashes at most 119 bytes (two blocks with the padding). */
static void sha1_short(struct span s, unsigned char out[20]) {
  uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
  unsigned char block[128] = {0};
  check(s.len <= 119);
  memcpy(block, s.ptr, s.len);
  block[s.len] = 0x80;
  size_t total = s.len < 56 ? 64 : 128;
  block[total - 2] = (unsigned char)(s.len * 8 >> 8);
  block[total - 1] = (unsigned char)(s.len * 8 & 0xff);
  for (size_t at = 0; at < total; at += 64) {
    sha1_block(h, block + at);
  }
  for (unsigned i = 0; i < 20; i++) {
    out[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
  }
}

static void base64(const unsigned char *in, size_t len, struct buf *out) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < len; i += 3) {
    uint32_t v = (uint32_t)in[i] << 16 | (i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0) |
                 (i + 2 < len ? in[i + 2] : 0u);
    for (size_t k = 0; k < 4; k++) {
      buf_char(out, i + k > len ? '=' : digits[v >> (18 - 6 * k) & 63]);
    }
  }
}

/* ---- the handshake ---- */

static bool handshake(struct demo_conn *c) {
  const struct http_field *key =
      http_fields_find_name(&c->req.fields, SPAN_LIT("sec-websocket-key"));
  char text[128], head[256];
  unsigned char digest[20];
  struct buf b = buf_of(text, 100), out = buf_of(head, sizeof head);
  if (!span_eq_nocase(c->req.upgrade, SPAN_LIT("websocket")) || !key || key->value.len != 24) {
    return false;
  }
  buf_put(&b, key->value);
  buf_lit(&b, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"); /* RFC 6455 section 1.3 */
  sha1_short(buf_span(&b), digest);
  buf_lit(&out, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                "Sec-WebSocket-Accept: ");
  base64(digest, sizeof digest, &out);
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
