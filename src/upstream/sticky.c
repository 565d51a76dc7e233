/* sticky.c: the cookie that names an endpoint. Its value is the first half of HMAC-SHA256 over
 * pool and address, in hexadecimal: it tells nothing to who has not the key, nobody can make one
 * up, and every weir with the same key and the same names makes the same. There is nothing else in
 * it, so a request costs one search, no cryptography. The values and the whole Set-Cookie texts
 * are made by the compile thread. RFC 6265 section 4.1. */
#include <stdlib.h>

#include "upstream_priv.h"
#include "weir/base/crypto.h"
#include "weir/http/pairs.h"

#define ID_BYTES 16u
#define ID_DIGITS (2 * ID_BYTES)

static void *get(struct pool *pool, size_t size) {
  void *bytes = arena_zalloc(&pool->obj.arena, size);
  check(bytes != NULL);
  return bytes;
}

static int by_id(const void *a, const void *b) {
  const struct sticky_slot *x = a, *y = b;
  int first = (x->id[0] > y->id[0]) - (x->id[0] < y->id[0]);
  return first ? first : (x->id[1] > y->id[1]) - (x->id[1] < y->id[1]);
}

static uint64_t load(const uint8_t *bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < 8; i++) value = value << 8 | bytes[i];
  return value;
}

/* id_make signs what identifies an endpoint; NUL stands in none of the parts. */
static void id_make(const struct endpoint *e, struct span key, uint64_t id[2]) {
  struct arena scratch;
  uint8_t mac[CRYPTO_MAC_LEN];
  arena_init(&scratch, NULL, 0);
  struct span what = arena_printf(&scratch, "weir sticky%c" SPAN_FMT "%c" SPAN_FMT "%c" SPAN_FMT,
                                  0, SPAN_ARG(e->pool), 0, SPAN_ARG(e->text), 0,
                                  SPAN_ARG(e->label));
  crypto_mac(key, what, mac);
  arena_reset(&scratch);
  id[0] = load(mac);
  id[1] = load(mac + 8);
}

/* field_make writes "name=id; Path=/; ..." with or without Secure. */
static struct span field_make(struct pool *pool, const struct sticky_settings *s,
                              const uint64_t id[2], bool secure) {
  static const char *const samesite[] = {[SAMESITE_LAX] = "; SameSite=Lax",
                                         [SAMESITE_STRICT] = "; SameSite=Strict",
                                         [SAMESITE_NONE] = "; SameSite=None",
                                         [SAMESITE_OFF] = ""};
  char age[40] = "";
  struct buf b = buf_of(age, sizeof age);
  if (s->max_age_ms) buf_printf(&b, "; Max-Age=%llu", (unsigned long long)(s->max_age_ms / 1000));
  return arena_printf(&pool->obj.arena,
                      SPAN_FMT "=%016llx%016llx; Path=" SPAN_FMT SPAN_FMT "%s%s%s",
                      SPAN_ARG(s->cookie), (unsigned long long)id[0], (unsigned long long)id[1],
                      SPAN_ARG(s->path), SPAN_ARG(buf_span(&b)), s->httponly ? "; HttpOnly" : "",
                      samesite[s->samesite], secure ? "; Secure" : "");
}

void sticky_prepare(struct pool *pool, const struct sticky_settings *settings, struct span key) {
  uint32_t count = pool->member_count;
  struct pool_sticky *sticky = get(pool, sizeof *sticky);
  sticky->cookie = arena_copy(&pool->obj.arena, settings->cookie, NULL);
  sticky->count = count;
  sticky->slots = get(pool, (count + 1) * sizeof *sticky->slots);
  sticky->plain = get(pool, (count + 1) * sizeof *sticky->plain);
  sticky->secured = get(pool, (count + 1) * sizeof *sticky->secured);
  for (uint32_t i = 0; i < count; i++) {
    struct sticky_slot *slot = &sticky->slots[i];
    slot->place = i;
    id_make(pool->members[i].endpoint, key, slot->id);
    sticky->plain[i] = field_make(pool, settings, slot->id, settings->secure == SECURE_ON);
    sticky->secured[i] = field_make(pool, settings, slot->id, settings->secure != SECURE_OFF);
  }
  if (count) qsort(sticky->slots, count, sizeof *sticky->slots, by_id);
  pool->sticky = sticky;
}

/* id_parse reads exactly what field_make writes. */
static bool id_parse(struct span text, uint64_t id[2]) {
  if (text.len != ID_DIGITS) return false;
  id[0] = id[1] = 0;
  for (size_t i = 0; i < ID_DIGITS; i++) {
    char c = text.ptr[i];
    bool digit = c >= '0' && c <= '9', letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) return false;
    uint64_t *half = &id[i / (ID_DIGITS / 2)];
    *half = *half << 4 | (uint64_t)(digit ? c - '0' : c - 'a' + 10);
  }
  return true;
}

uint32_t sticky_find(const struct pool_sticky *sticky, const struct http_fields *fields) {
  struct http_cookies at = {0};
  struct span value;
  while (http_cookie_next(&at, fields, sticky->cookie, &value)) {
    struct sticky_slot want;
    if (!sticky->count || !id_parse(value, want.id)) continue;
    const struct sticky_slot *found =
        bsearch(&want, sticky->slots, sticky->count, sizeof want, by_id);
    if (found) return found->place;
  }
  return PLACE_NONE;
}
