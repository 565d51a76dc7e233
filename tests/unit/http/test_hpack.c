/* test_hpack.c: HPACK beside nghttp2's, on random lists of fields over long connections, with
 * sizes of the table that change: it reads what we write, we read what it writes, and on random
 * bytes both accept the same blocks and read the same from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "hpack_peer.h"
#include "weir/base/mem.h"

enum { FIELDS_MOST = 40, TEXT_MOST = 4000 };

/* list is one random head: its bytes are in room, pseudo-fields come first. */
struct list {
  nghttp2_nv nv[FIELDS_MOST];
  struct http_field rows[FIELDS_MOST];
  size_t count, pseudos;
  struct arena arena;
};

static const char *const names[] = {
    "accept",
    "accept-encoding",
    "accept-language",
    "age",
    "cache-control",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "etag",
    "set-cookie",
    "x-request-id",
    "x-one",
    "x-two",
    "x-three-with-a-name",
    "server",
    "vary",
    "via",
    "x-api-key",
    "authorization",
    "x-b3-traceid",
    "grpc-message",
    "user-agent",
    "x-amz-cf-id",
    "te",
    "link",
    "referer",
    "x-forwarded-for",
    "cdn-cache",
    "priority",
};

static struct span random_text(struct list *l, uint64_t *rng, bool wide) {
  static const uint8_t most[] = {4, 12, 12, 30, 60, 120, 255};
  size_t len = rng_next(rng) % (most[rng_next(rng) % 7] + (size_t)1);
  if (rng_next(rng) % 300 == 0) len = rng_next(rng) % TEXT_MOST;
  char *p = arena_alloc(&l->arena, len + 1);
  for (size_t i = 0; i < len; i++) {
    unsigned c = (unsigned)(rng_next(rng) >> 32);
    p[i] = (char)(wide ? 0x21 + c % 94 : (unsigned char)"eaionst012357/-.lrhdcu%=;:"[c % 26]);
    if (wide && c % 37 == 0) p[i] = (char)(0x80 + (c >> 8) % 128);
  }
  return span_of(p, len);
}

/* Values come from a small set often, so that entries are found again. */
static struct span random_value(struct list *l, uint64_t *rng) {
  static const char *const usual[] = {"",          "gzip, deflate",
                                      "text/html", "GET",
                                      "no-cache",  "gzip",
                                      "a",         "b",
                                      "/",         "private, max-age=0, must-revalidate"};
  uint64_t kind = rng_next(rng) % 4;
  if (kind < 2) return span_str(usual[rng_next(rng) % array_count(usual)]);
  return random_text(l, rng, kind == 3);
}

static void push(struct list *l, struct span name, struct span value, bool secret) {
  uint8_t flags = secret ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE;
  l->nv[l->count] = (nghttp2_nv){(uint8_t *)(uintptr_t)name.ptr, (uint8_t *)(uintptr_t)value.ptr,
                                 name.len, value.len, flags};
  l->rows[l->count++] = (struct http_field){
      .name = name, .value = value, .id = (uint16_t)http_name_find(name), .secret = secret};
}

static const char *const pseudos[] = {
#define HPACK_PSEUDO(id, name, first, count, policy) name,
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
};

static void random_list(struct list *l, uint64_t *rng) {
  arena_reset(&l->arena);
  l->count = l->pseudos = 0;
  for (unsigned i = 0; i < HPACK_PSEUDO_COUNT; i++) {
    static const char *const usual[] = {"GET", "https", "example.com", "/", "200", "websocket"};
    if (rng_next(rng) % 2) continue;
    bool plain = rng_next(rng) % 2;
    push(l, span_str(pseudos[i]), plain ? span_str(usual[i]) : random_text(l, rng, false),
         rng_next(rng) % 20 == 0);
    l->pseudos++;
  }
  size_t fields = rng_next(rng) % (FIELDS_MOST - HPACK_PSEUDO_COUNT);
  for (size_t i = 0; i < fields; i++) {
    struct span name = span_str(names[rng_next(rng) % array_count(names)]);
    if (rng_next(rng) % 8 == 0)
      name = arena_printf(&l->arena, "x-%x", (unsigned)(rng_next(rng) % 500));
    push(l, name, random_value(l, rng), rng_next(rng) % 20 == 0);
  }
}

/* list_text writes the list as a decoder should say it. Secrets: only the names that the encoder's
 * policy says and the rows that are marked. */
static void list_text(const struct list *l, struct text *out, bool secrets) {
  for (size_t i = 0; i < l->count; i++)
    peer_line(out, l->rows[i].name, l->rows[i].value, secrets && l->rows[i].secret);
}

/* without_marks takes " (secret)" out, which the two encoders give to different fields. */
static void without_marks(struct text *t) {
  static const char mark[] = " (secret)\n";
  size_t to = 0;
  for (size_t at = 0; at < t->len; at++) {
    if (t->len - at >= sizeof(mark) - 1 && memcmp(t->ptr + at, mark, sizeof(mark) - 1) == 0)
      at += sizeof(mark) - 2;
    t->ptr[to++] = t->ptr[at];
  }
  t->len = to;
}

/* write_list writes a block; now and then into too little room first. */
static struct span write_list(struct hpack_encoder *enc, const struct list *l, char *room,
                              size_t cap, uint64_t *rng) {
  bool fits = false;
  struct buf out;
  for (unsigned tries = 0; !fits; tries++) {
    out = buf_of(room, tries < 2 && rng_next(rng) % 3 == 0 ? rng_next(rng) % 600 : cap);
    hpack_encode_begin(enc, &out);
    for (size_t i = 0; i < l->pseudos; i++) {
      unsigned which = 0;
      while (!span_eq(l->rows[i].name, span_str(pseudos[which]))) which++;
      hpack_encode_pseudo(enc, (enum hpack_pseudo)which, l->rows[i].value, l->rows[i].secret,
                          &out);
    }
    for (size_t i = l->pseudos; i < l->count; i++) hpack_encode_field(enc, &l->rows[i], &out);
    fits = hpack_encode_end(enc, &out);
    assert_true(fits || (out.cap != cap && out.len == 0));
  }
  return buf_span(&out);
}

/* Each marked row came as a literal that is never indexed. */
static void check_marks(const struct list *l, const struct text *got) {
  struct span rest = text_span(got), line;
  for (size_t i = 0; i < l->count; i++) {
    size_t len = l->rows[i].name.len + 2 + l->rows[i].value.len;
    line = span_from(rest, len);
    bool marked = span_starts(line, SPAN_LIT(" (secret)\n"));
    assert_true(marked || !l->rows[i].secret);
    rest = span_from(line, marked ? 10 : 1);
  }
}

static char room[1 << 19];

static void it_reads_what_we_write(void **state) {
  (void)state;
  struct list l = {.count = 0};
  arena_init(&l.arena, NULL, 0);
  for (uint64_t conn = 1; conn <= 60; conn++) {
    uint64_t rng = conn;
    struct hpack_encoder enc;
    struct hpack_decoder own;
    nghttp2_hd_inflater *inflater;
    hpack_encoder_init(&enc, conn % 3 == 0 ? 65536 : 4096);
    hpack_decoder_init(&own, 4096);
    assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
    for (unsigned block = 0; block < 120; block++) {
      for (uint64_t n = rng_next(&rng) % 16; n < 3; n++) {
        uint32_t size = (uint32_t)(rng_next(&rng) % (rng_next(&rng) % 2 ? 500 : 65537));
        hpack_encoder_set(&enc, size);
        hpack_decoder_set(&own, size);
        assert_int_equal(nghttp2_hd_inflate_change_table_size(inflater, size), 0);
      }
      random_list(&l, &rng);
      struct span wire = write_list(&enc, &l, room, sizeof(room), &rng);
      struct peer_list got = {.count = 0};
      size_t piece = rng_next(&rng) % 2 ? SIZE_MAX : 1 + rng_next(&rng) % 50;
      assert_true(peer_inflate(inflater, wire, piece, &got));
      check_marks(&l, &got.text);
      without_marks(&got.text);
      struct text want = {0};
      list_text(&l, &want, false);
      assert_true(span_eq(text_span(&want), text_span(&got.text)));
      struct hpack_block b;
      hpack_block_init(&b, &hpack_wide, &l.arena);
      assert_int_equal(hpack_decode_cut(&own, &b, wire, piece), HPACK_DONE);
      assert_true(enc.table.used <= own.table.used);
      assert_int_equal(enc.table.limit, own.table.limit);
      text_fini(&want);
      text_fini(&got.text);
    }
    nghttp2_hd_inflate_del(inflater);
    hpack_encoder_fini(&enc);
    hpack_decoder_fini(&own);
  }
  arena_reset(&l.arena);
}

static void we_read_what_it_writes(void **state) {
  (void)state;
  struct list l = {.count = 0};
  arena_init(&l.arena, NULL, 0);
  for (uint64_t conn = 1; conn <= 60; conn++) {
    uint64_t rng = conn + 1000;
    struct hpack_decoder dec;
    struct arena arena;
    nghttp2_hd_deflater *deflater;
    hpack_decoder_init(&dec, 4096);
    arena_init(&arena, NULL, 0);
    assert_int_equal(nghttp2_hd_deflate_new(&deflater, 65536), 0);
    for (unsigned block = 0; block < 120; block++) {
      for (uint64_t n = rng_next(&rng) % 16; n < 3; n++) {
        uint32_t size = (uint32_t)(rng_next(&rng) % (rng_next(&rng) % 2 ? 500 : 65537));
        assert_int_equal(nghttp2_hd_deflate_change_table_size(deflater, size), 0);
        hpack_decoder_set(&dec, size);
      }
      random_list(&l, &rng);
      ssize_t len = nghttp2_hd_deflate_hd(deflater, (uint8_t *)room, sizeof(room), l.nv, l.count);
      assert_true(len >= 0);
      struct hpack_block b;
      hpack_block_init(&b, &hpack_wide, &arena);
      size_t piece = rng_next(&rng) % 2 ? SIZE_MAX : 1 + rng_next(&rng) % 50;
      assert_int_equal(hpack_decode_cut(&dec, &b, span_of(room, (size_t)len), piece), HPACK_DONE);
      hpack_check_rows(&b);
      struct text want = {0}, got = {0};
      list_text(&l, &want, false);
      hpack_list_text(&b, &got);
      without_marks(&got);
      assert_true(span_eq(text_span(&want), text_span(&got)));
      text_fini(&want);
      text_fini(&got);
      arena_reset(&arena);
    }
    nghttp2_hd_deflate_del(deflater);
    hpack_decoder_fini(&dec);
  }
  arena_reset(&l.arena);
}

/* damage changes a few bytes, or cuts the block. */
static size_t damage(char *p, size_t len, uint64_t *rng) {
  for (uint64_t n = rng_next(rng) % 4; n > 0 && len > 0; n--) {
    size_t at = rng_next(rng) % (rng_next(rng) % 2 ? len : len < 12 ? len : 12);
    p[at] = (char)(rng_next(rng) % 3 ? p[at] ^ (1 << rng_next(rng) % 8) : (int)rng_next(rng));
  }
  return len > 0 && rng_next(rng) % 8 == 0 ? rng_next(rng) % len : len;
}

struct agreed {
  unsigned accepted, refused, malformed;
};

/* agree runs damaged blocks on a connection until one is refused, by both. */
static void agree(struct list *l, uint64_t rng, struct agreed *sum) {
  struct hpack_decoder dec;
  nghttp2_hd_deflater *deflater;
  nghttp2_hd_inflater *inflater;
  hpack_decoder_init(&dec, 4096);
  assert_int_equal(nghttp2_hd_deflate_new(&deflater, 4096), 0);
  assert_int_equal(nghttp2_hd_inflate_new(&inflater), 0);
  for (bool going = true; going;) {
    random_list(l, &rng);
    ssize_t made = nghttp2_hd_deflate_hd(deflater, (uint8_t *)room, sizeof(room), l->nv, l->count);
    assert_true(made >= 0);
    size_t len = damage(room, (size_t)made, &rng), piece = 1 + rng_next(&rng) % 50;
    struct hpack_block b;
    struct peer_list theirs = {.count = 0};
    hpack_block_init(&b, &hpack_wide, &l->arena);
    enum hpack_result ours = hpack_decode_cut(&dec, &b, span_of(room, len), piece);
    going = peer_inflate(inflater, span_of(room, len), SIZE_MAX, &theirs);
    assert_int_equal(going, ours < HPACK_BAD);
    if (going) {
      hpack_check_rows(&b);
      assert_int_equal(b.count, theirs.count);
      assert_int_equal(dec.table.used, nghttp2_hd_inflate_get_dynamic_table_size(inflater));
    }
    sum->accepted += ours == HPACK_DONE;
    sum->malformed += ours == HPACK_MALFORMED;
    sum->refused += !going;
    text_fini(&theirs.text);
  }
  nghttp2_hd_inflate_del(inflater);
  nghttp2_hd_deflate_del(deflater);
  hpack_decoder_fini(&dec);
}

static void both_refuse_the_same(void **state) {
  (void)state;
  struct list l = {.count = 0};
  struct agreed sum = {.accepted = 0};
  arena_init(&l.arena, NULL, 0);
  for (uint64_t conn = 1; conn <= 3000; conn++) agree(&l, conn, &sum);
  arena_reset(&l.arena);
  assert_int_equal(sum.refused, 3000);
  assert_true(sum.accepted > 1000 && sum.malformed > 100);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(it_reads_what_we_write),
      cmocka_unit_test(we_read_what_it_writes),
      cmocka_unit_test(both_refuse_the_same),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
