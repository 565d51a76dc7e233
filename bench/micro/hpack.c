/* hpack.c: what a typical request and response head cost HPACK (http/hpack_*.c), decoded and
 * encoded, beside nghttp2's inflater and deflater in the same run. A head comes for the first time
 * on a connection ("first": tables are empty, connections are made and freed in the figure) and
 * again and again with other paths, lengths and dates ("again"). Rounds of the two are interleaved;
 * the medians are printed. Not a test.
 *
 *   bench-micro-hpack              (bench/micro.sh hpack builds and runs it) */
#include <nghttp2/nghttp2.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "weir/http/hpack.h"

enum { VARIANTS = 16, FIELDS_MOST = 24, ROUNDS = 41, HEADS = 4000, BLOCK_MAX = 2048 };

struct pair {
  const char *name, *value;
};

/* In these values every digit 7 is another in each variant. */
static const struct pair request[] = {
    {":method", "GET"},
    {":scheme", "https"},
    {":authority", "www.example.com"},
    {":path", "/assets/app/main-7f3c7a97.js?v=7777"},
    {"user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
                   "Chrome/126.0.0.0 Safari/537.36"},
    {"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"},
    {"accept-encoding", "gzip, deflate, br, zstd"},
    {"accept-language", "en-US,en;q=0.9"},
    {"cookie", "session=7d7a7f7e7c7b4a5b6c; theme=dark"},
    {"referer", "https://www.example.com/"},
    {"sec-fetch-mode", "no-cors"},
    {"sec-fetch-site", "same-origin"},
};
static const struct pair response[] = {
    {":status", "200"},
    {"date", "Mon, 21 Oct 2013 20:13:27 GMT"},
    {"content-type", "application/javascript; charset=utf-8"},
    {"content-length", "17777"},
    {"server", "weir"},
    {"cache-control", "public, max-age=31536000, immutable"},
    {"etag", "\"77aa77bb-77cc\""},
    {"vary", "Accept-Encoding"},
    {"strict-transport-security", "max-age=63072000; includeSubDomains"},
    {"x-request-id", "77777777-7777-4777-8777-777777777777"},
};

/* head is one list in both libraries' form, and its block in a connection's order. */
struct head {
  nghttp2_nv nv[FIELDS_MOST];
  struct http_field rows[FIELDS_MOST];
  char text[2048];
};
struct set {
  struct head heads[VARIANTS];
  size_t count, pseudos;
  char blocks[VARIANTS + 1][BLOCK_MAX]; /* the first is for an empty table */
  size_t lens[VARIANTS + 1];
};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static enum hpack_pseudo pseudo_of(struct span name) {
#define HPACK_PSEUDO(id, text, first, count, policy) \
  if (span_eq(name, SPAN_LIT(text))) return HPACK_PSEUDO_##id;
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  return HPACK_PSEUDO_COUNT;
}

static void make_head(struct head *h, const struct pair *pairs, size_t count, unsigned variant) {
  struct buf text = buf_of(h->text, sizeof(h->text));
  for (size_t i = 0; i < count; i++) {
    struct span name = span_str(pairs[i].name), value = span_str(pairs[i].value);
    char *copy = text.ptr + text.len;
    buf_put(&text, value);
    for (size_t c = 0; c < value.len; c++)
      if (copy[c] == '7') copy[c] = (char)('0' + (variant * 3 + c) % 10);
    bool same = i != 3 && pairs[i].name[0] != 'd' && pairs == request && i != 8;
    if (same) memcpy(copy, value.ptr, value.len);
    h->rows[i] = (struct http_field){.name = name, .value = span_of(copy, value.len)};
    h->rows[i].id = (uint16_t)http_name_find(name);
    h->nv[i] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)copy, name.len, value.len,
                            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    if (h->rows[i].id == HTTP_NAME_COOKIE) h->nv[i].flags |= NGHTTP2_NV_FLAG_NO_INDEX;
  }
  check(!text.full);
}

static size_t encode_ours(struct hpack_encoder *enc, const struct set *s, const struct head *h,
                          char *room) {
  struct buf out = buf_of(room, BLOCK_MAX);
  hpack_encode_begin(enc, &out);
  for (size_t i = 0; i < s->pseudos; i++)
    hpack_encode_pseudo(enc, pseudo_of(h->rows[i].name), h->rows[i].value, &out);
  for (size_t i = s->pseudos; i < s->count; i++) hpack_encode_field(enc, &h->rows[i], &out);
  check(hpack_encode_end(enc, &out));
  return out.len;
}

static size_t encode_peer(nghttp2_hd_deflater *d, const struct set *s, const struct head *h,
                          char *room) {
  ssize_t len = nghttp2_hd_deflate_hd(d, (uint8_t *)room, BLOCK_MAX, h->nv, s->count);
  check(len > 0);
  return (size_t)len;
}

/* Blocks to decode are nghttp2's, so that neither side reads its own handwriting alone. */
static void make_set(struct set *s, const struct pair *pairs, size_t count, size_t pseudos) {
  nghttp2_hd_deflater *d;
  check(nghttp2_hd_deflate_new(&d, 4096) == 0);
  s->count = count;
  s->pseudos = pseudos;
  for (unsigned v = 0; v < VARIANTS; v++) make_head(&s->heads[v], pairs, count, v);
  for (unsigned v = 0; v <= VARIANTS; v++) /* no variant comes twice, or all would be indexed */
    s->lens[v] = encode_peer(d, s, &s->heads[v % VARIANTS], s->blocks[v]);
  nghttp2_hd_deflate_del(d);
}

static const struct hpack_limits limits = {100, 65536, 1 << 20, 65536};

static void decode_ours(struct hpack_decoder *dec, struct arena *arena, const struct set *s,
                        unsigned at) {
  struct hpack_block b;
  hpack_block_init(&b, &limits, arena);
  check(hpack_decode(dec, &b, span_of(s->blocks[at], s->lens[at]), true) == HPACK_DONE);
  check(b.count == s->count);
  arena_reset(arena);
}

static void decode_peer(nghttp2_hd_inflater *inflater, const struct set *s, unsigned at) {
  const uint8_t *p = (const uint8_t *)s->blocks[at];
  size_t left = s->lens[at], count = 0;
  for (int flags = 0; !(flags & NGHTTP2_HD_INFLATE_FINAL);) {
    nghttp2_nv nv;
    ssize_t used = nghttp2_hd_inflate_hd2(inflater, &nv, &flags, p, left, 1);
    check(used >= 0);
    p += used;
    left -= (size_t)used;
    count += (flags & NGHTTP2_HD_INFLATE_EMIT) != 0;
  }
  check(count == s->count);
  nghttp2_hd_inflate_end_headers(inflater);
}

/* Each of these gives the ns of one head. `again` goes on where a connection left its first head;
 * the literals in blocks 1 and on repeat, which changes no entry but theirs. */
static double ours_decodes(const struct set *s, bool again, struct arena *arena) {
  struct hpack_decoder dec;
  hpack_decoder_init(&dec, 4096);
  double start = now_ns();
  if (!again) {
    for (unsigned i = 0; i < HEADS; i++) {
      hpack_decoder_fini(&dec);
      hpack_decoder_init(&dec, 4096);
      decode_ours(&dec, arena, s, 0);
    }
  } else {
    for (unsigned i = 0; i < HEADS / (VARIANTS + 1); i++) {
      hpack_decoder_fini(&dec);
      hpack_decoder_init(&dec, 4096);
      decode_ours(&dec, arena, s, 0);
      double from = now_ns();
      for (unsigned v = 1; v <= VARIANTS; v++) decode_ours(&dec, arena, s, v);
      start += from - now_ns() < 0 ? 0 : 0;
    }
  }
  double ns = (now_ns() - start) / HEADS;
  hpack_decoder_fini(&dec);
  return ns;
}
