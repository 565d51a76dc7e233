/* hpack.c: what a typical request and response head cost HPACK (http/hpack_*.c), decoded and
 * encoded, beside nghttp2's inflater and deflater in the same run. Connections
 * have one head ("first") or a hundred with other paths, lengths, dates and tags ("again"); making
 * and freeing them is in the figure. Rounds of the two are interleaved, medians are printed. Not
 * a test.
 *
 *   bench-micro-hpack              (bench/micro.sh hpack builds and runs it) */
#include <nghttp2/nghttp2.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "weir/base/hash.h"
#include "weir/http/hpack.h"

enum { VARIANTS = 100, FIELDS_MOST = 24, ROUNDS = 101, HEADS = 1000, BLOCK_MAX = 2048 };

/* pair is a field. Where it changes every digit 7 is another one in each head; the date is the
 * same in 25 of them. */
struct pair {
  const char *name, *value;
  bool changes;
};

static const struct pair request[] = {
    {":method", "GET", false},
    {":scheme", "https", false},
    {":authority", "www.example.com", false},
    {":path", "/assets/app/main-7f3c7a97.js?v=7777", true},
    {"user-agent",
     "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
     "Chrome/126.0.0.0 Safari/537.36",
     false},
    {"accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
     false},
    {"accept-encoding", "gzip, deflate, br, zstd", false},
    {"accept-language", "en-US,en;q=0.9", false},
    {"cookie", "session=7d7a7f7e7c7b4a5b6c; theme=dark", false},
    {"referer", "https://www.example.com/", false},
    {"sec-fetch-mode", "no-cors", false},
    {"sec-fetch-site", "same-origin", false},
};
static const struct pair response[] = {
    {":status", "200", false},
    {"date", "Mon, 21 Oct 2013 20:13:27 GMT", true},
    {"content-type", "application/javascript; charset=utf-8", false},
    {"content-length", "17777", true},
    {"server", "weir", false},
    {"cache-control", "public, max-age=31536000, immutable", false},
    {"etag", "\"77aa77bb-77cc\"", true},
    {"vary", "Accept-Encoding", false},
    {"strict-transport-security", "max-age=63072000; includeSubDomains", false},
    {"x-request-id", "77777777-7777-4777-8777-777777777777", true},
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
  char blocks[VARIANTS][BLOCK_MAX]; /* of one connection, in order */
  size_t lens[VARIANTS];
};

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
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
    uint64_t rng = span_eq(name, SPAN_LIT("date")) ? variant / 25 : variant + 1000;
    for (size_t c = 0; c < value.len && pairs[i].changes; c++)
      if (copy[c] == '7') copy[c] = (char)('0' + rng_next(&rng) % 10);
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
    hpack_encode_pseudo(enc, pseudo_of(h->rows[i].name), h->rows[i].value, false, &out);
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
  for (unsigned v = 0; v < VARIANTS; v++)
    s->lens[v] = encode_peer(d, s, &s->heads[v], s->blocks[v]);
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

/* Each of these plays connections of so many heads, and gives ns per head. */
typedef double play(const struct set *s, unsigned heads);

static double ours_decode(const struct set *s, unsigned heads) {
  struct arena_blocks blocks;
  struct arena arena;
  arena_blocks_init(&blocks, 8192, 4);
  arena_init(&arena, &blocks, 0);
  double start = now_ns();
  for (unsigned i = 0; i < HEADS / heads; i++) {
    struct hpack_decoder dec;
    hpack_decoder_init(&dec, 4096);
    for (unsigned v = 0; v < heads; v++) decode_ours(&dec, &arena, s, v);
    hpack_decoder_fini(&dec);
  }
  double ns = (now_ns() - start) / HEADS;
  arena_blocks_fini(&blocks);
  return ns;
}

static double peer_decode(const struct set *s, unsigned heads) {
  double start = now_ns();
  for (unsigned i = 0; i < HEADS / heads; i++) {
    nghttp2_hd_inflater *inflater;
    check(nghttp2_hd_inflate_new(&inflater) == 0);
    for (unsigned v = 0; v < heads; v++) decode_peer(inflater, s, v);
    nghttp2_hd_inflate_del(inflater);
  }
  return (now_ns() - start) / HEADS;
}

static size_t written[2]; /* bytes in the last play of each encoder */

static double ours_encode(const struct set *s, unsigned heads) {
  char room[BLOCK_MAX];
  double start = now_ns();
  for (unsigned i = 0; i < HEADS / heads; i++) {
    struct hpack_encoder enc;
    hpack_encoder_init(&enc, 4096);
    written[0] = 0;
    for (unsigned v = 0; v < heads; v++) written[0] += encode_ours(&enc, s, &s->heads[v], room);
    hpack_encoder_fini(&enc);
  }
  return (now_ns() - start) / HEADS;
}

static double peer_encode(const struct set *s, unsigned heads) {
  char room[BLOCK_MAX];
  double start = now_ns();
  for (unsigned i = 0; i < HEADS / heads; i++) {
    nghttp2_hd_deflater *d;
    check(nghttp2_hd_deflate_new(&d, 4096) == 0);
    written[1] = 0;
    for (unsigned v = 0; v < heads; v++) written[1] += encode_peer(d, s, &s->heads[v], room);
    nghttp2_hd_deflate_del(d);
  }
  return (now_ns() - start) / HEADS;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(const char *what, play *ours, play *peer, const struct set *s,
                    unsigned heads) {
  double a[ROUNDS], b[ROUNDS], ratio[ROUNDS];
  for (unsigned i = 0; i < ROUNDS; i++) {
    a[i] = ours(s, heads);
    b[i] = peer(s, heads);
    ratio[i] = a[i] / b[i];
  }
  qsort(a, ROUNDS, sizeof(a[0]), by_value);
  qsort(b, ROUNDS, sizeof(b[0]), by_value);
  qsort(ratio, ROUNDS, sizeof(ratio[0]), by_value);
  printf("%-9s %-6s %9.0f %9.0f %7.2f", what, heads == 1 ? "first" : "again", a[ROUNDS / 2],
         b[ROUNDS / 2], ratio[ROUNDS / 2]);
  if (ours == ours_encode) printf(" %8zu %8zu", written[0] / heads, written[1] / heads);
  printf("\n");
}

static struct set sets[2];

int main(void) {
  make_set(&sets[0], request, array_count(request), 4);
  make_set(&sets[1], response, array_count(response), 1);
  static const char *const names[2][2] = {{"dec req", "enc req"}, {"dec resp", "enc resp"}};
  printf("                   weir ns  nghttp2 ns  ratio  weir B  nghttp2 B per head\n");
  for (unsigned i = 0; i < 2; i++) {
    for (unsigned heads = 1; heads <= VARIANTS; heads += VARIANTS - 1) {
      measure(names[i][0], ours_decode, peer_decode, &sets[i], heads);
      measure(names[i][1], ours_encode, peer_encode, &sets[i], heads);
    }
  }
  return 0;
}
