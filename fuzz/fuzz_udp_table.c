/* fuzz_udp_table.c: the table of UDP sessions beside a list that is searched one by one. Bytes
 * are steps: add, find or remove the session of a key, of few addresses and ports so that they
 * meet. */
#include <stdint.h>

#include "proxy/udp_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { SESSIONS = 96 };

/* slow is the twin. */
struct slow {
  struct udp_session rows[SESSIONS];
  bool used[SESSIONS];
  uint32_t count;
};

/* Each byte of a step is a part of the key; families and interfaces differ too. */
static struct udp_key key_of(const uint8_t *step) {
  struct udp_key key = {.port = step[1] & 3,
                        .client_port = step[2] & 7,
                        .client_family = step[1] & 4 ? AF_INET6 : AF_INET,
                        .local_family = step[1] & 8 ? AF_INET : 0,
                        .proxy_family = step[2] & 128 ? AF_INET : 0,
                        .interface = step[1] >> 6};
  key.client_ip[step[2] & 8 ? 15 : 0] = step[2] >> 4;
  key.local_ip[3] = (step[1] >> 4) & 3;
  return key;
}

static uint32_t slow_find(const struct slow *s, const struct udp_key *key) {
  uint32_t i = 0;
  while (i < SESSIONS && !(s->used[i] && memcmp(&s->rows[i].key, key, sizeof *key) == 0)) i++;
  return i;
}

static void add(struct slow *s, struct udp_table *t, const struct udp_key *key) {
  uint32_t i = 0;
  while (i < SESSIONS && s->used[i]) i++;
  if (i == SESSIONS) return;
  s->rows[i] = (struct udp_session){.key = *key};
  s->used[i] = true;
  s->count++;
  udp_table_add(t, &s->rows[i]);
}

static void drop(struct slow *s, struct udp_table *t, uint32_t i) {
  udp_table_remove(t, &s->rows[i]);
  s->used[i] = false;
  s->count--;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
  static struct slow s;
  struct udp_table t;
  udp_table_init(&t, 1 + (len ? data[0] : 0)); /* few buckets or many */
  memset(&s, 0, sizeof s);
  for (size_t at = 0; at + 3 <= len; at += 3) {
    struct udp_key key = key_of(data + at);
    uint32_t i = slow_find(&s, &key);
    struct udp_session *found = udp_table_find(&t, &key);
    check(found == (i < SESSIONS ? &s.rows[i] : NULL));
    if (i == SESSIONS) add(&s, &t, &key);
    else if (data[at] & 1) drop(&s, &t, i);
    check(t.count == s.count);
  }
  for (uint32_t i = 0; i < SESSIONS; i++)
    if (s.used[i]) drop(&s, &t, i);
  udp_table_fini(&t);
  return 0;
}
