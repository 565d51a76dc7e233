/* base64.c: see base64.h. Strict: the padding bits are zero, nothing else stands between groups.
 * Called by websocket.c and by proxy/ for gRPC-Web. */
#include "weir/http/base64.h"

enum { GROUP = 4 };

void base64_write(struct span bytes, struct buf *out) {
  static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const unsigned char *in = (const unsigned char *)bytes.ptr;
  for (size_t i = 0; i < bytes.len; i += 3) {
    uint32_t word = 0;
    for (size_t k = 0; k < 3; k++) word = word << 8 | (i + k < bytes.len ? in[i + k] : 0u);
    for (size_t k = 0; k < GROUP; k++)
      buf_char(out, i + k > bytes.len ? '=' : digits[word >> (18 - 6 * k) & 63]);
  }
}

/* value_of is 0 to 63; -1: no digit. */
static int value_of(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* take adds a character to the group; false: it may not stand there. */
static bool take(struct base64_in *in, char c) {
  int value = value_of(c);
  if (c == '=' && in->count >= 2) {
    in->pad++;
    value = 0;
  } else if (value < 0 || in->pad) {
    return false;
  }
  in->bits = in->bits << 6 | (uint32_t)value;
  in->count++;
  return true;
}

/* end gives the bytes of a group that is whole; false: bits of the padding are set. */
static bool end(struct base64_in *in, struct buf *out) {
  uint32_t left = in->pad == 2 ? 0xffff : in->pad == 1 ? 0xff : 0;
  if (in->bits & left) return false;
  for (unsigned i = 0; i < 3u - in->pad; i++) buf_char(out, (char)(in->bits >> (16 - 8 * i)));
  *in = (struct base64_in){0};
  return true;
}

bool base64_read(struct base64_in *in, struct span text, size_t *used, struct buf *out) {
  size_t at = 0;
  while (at < text.len && buf_room(out) >= 3) {
    if (!take(in, text.ptr[at++])) return false;
    if (in->count == GROUP && !end(in, out)) return false;
  }
  *used = at;
  return true;
}
