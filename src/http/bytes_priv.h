/* bytes_priv.h: classes of bytes and the scans that use them. The scans have SSE2 bodies and
 * scalar twins, which a test compares. Called by the parsers of http/ only. */
#ifndef WEIR_HTTP_BYTES_PRIV_H
#define WEIR_HTTP_BYTES_PRIV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum byte_class {
  BYTE_TOKEN = 1,      /* tchar (RFC 9110 5.6.2) */
  BYTE_UNDERSCORE = 2, /* "_": a name with it may be an alias */
  BYTE_VALUE = 4,      /* HTAB, SP, VCHAR, obs-text (RFC 9110 5.5) */
  BYTE_TARGET = 8,     /* 0x21 to 0x7e */
  BYTE_PATH = 16,      /* in a path, needs no second look */
  BYTE_HEX = 32,
};

extern const uint8_t http_byte_class[256];

static inline unsigned byte_class(char c) { return http_byte_class[(unsigned char)c]; }

/* bytes_end_of is the first index in [at, len) whose byte is not of the class, or len. */
static inline size_t bytes_end_of(unsigned class, const char *p, size_t at, size_t len) {
  while (at < len && (byte_class(p[at]) & class)) at++;
  return at;
}

#ifdef __SSE2__
static inline __m128i bytes_load(const char *p) {
  return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* bytes_not_value marks controls other than HTAB, and DEL. */
static inline unsigned bytes_not_value(__m128i x) {
  __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
  control = _mm_andnot_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('\t')), control);
  return (unsigned)_mm_movemask_epi8(
      _mm_or_si128(control, _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f))));
}

/* bytes_not_target marks all but 0x21 to 0x7e (bytes from 0x80 on are negative here). */
static inline unsigned bytes_not_target(__m128i x) {
  __m128i graph = _mm_andnot_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f)),
                                   _mm_cmpgt_epi8(x, _mm_set1_epi8(0x20)));
  return (unsigned)_mm_movemask_epi8(graph) ^ 0xffffu;
}
#endif

/* bytes_value_end is the end of a run of field value bytes that begins at `at`. Bytes before `at`,
 * which are the caller's too, may be read. */
static inline size_t bytes_value_end(const char *p, size_t at, size_t len) {
#ifdef __SSE2__
  for (; len - at >= 16; at += 16) {
    unsigned stop = bytes_not_value(bytes_load(p + at));
    if (stop) return at + (unsigned)__builtin_ctz(stop);
  }
  if (at < len && len >= 16) { /* the rest, with bytes before it that are shifted out */
    unsigned stop = bytes_not_value(bytes_load(p + len - 16)) >> (16 - (len - at));
    return stop ? at + (unsigned)__builtin_ctz(stop) : len;
  }
#endif
  return bytes_end_of(BYTE_VALUE, p, at, len);
}

/* bytes_target_end is the end of a run of visible ASCII, likewise. */
static inline size_t bytes_target_end(const char *p, size_t at, size_t len) {
#ifdef __SSE2__
  for (; len - at >= 16; at += 16) {
    unsigned stop = bytes_not_target(bytes_load(p + at));
    if (stop) return at + (unsigned)__builtin_ctz(stop);
  }
  if (at < len && len >= 16) { /* the rest, with bytes before it that are shifted out */
    unsigned stop = bytes_not_target(bytes_load(p + len - 16)) >> (16 - (len - at));
    return stop ? at + (unsigned)__builtin_ctz(stop) : len;
  }
#endif
  return bytes_end_of(BYTE_TARGET, p, at, len);
}

#endif
