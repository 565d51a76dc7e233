/* dns_hosts.c: the hosts file (hosts(5)) as a table of names: read once for each state of the
 * file, however many names are looked for in it. Lines that make no sense are passed by. Does not:
 * say when to look (resolver_round.c) or what a name without an entry means. Called by dns.c and
 * dns_addrs.c, in the control thread. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "control/dns_priv.h"
#include "weir/base/hash.h"
#include "weir/base/mem.h"

struct hosts_row {
  uint64_t hash;    /* name_hash */
  struct span name; /* in hosts.text */
  uint32_t number;  /* in the order of the file */
  struct addr addr; /* port 0 */
};

/* ---- lines ---- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

/* next_word cuts a word off *rest; empty: there is none. */
static struct span next_word(struct span *rest) {
  size_t from = 0, to;
  while (from < rest->len && is_blank(rest->ptr[from])) {
    from++;
  }
  for (to = from; to < rest->len && !is_blank(rest->ptr[to]);) {
    to++;
  }
  struct span word = span_sub(*rest, from, to - from);
  *rest = span_from(*rest, to);
  return word;
}

static bool parse_addr(struct span word, struct addr *out) {
  if (!word.len || !addr_from_ip(word, 0, out)) {
    return false;
  }
  if (out->sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&out->in6.sin6_addr)) {
    struct in_addr bytes;
    memcpy(&bytes, &out->in6.sin6_addr.s6_addr[12], sizeof bytes);
    *out = (struct addr){.len = sizeof out->in4};
    out->in4.sin_family = AF_INET;
    out->in4.sin_addr = bytes;
  }
  return true;
}

static void add(struct hosts *h, struct span name, const struct addr *addr) {
  if (h->count == h->room) {
    h->room = h->room ? h->room * 2 : 16;
    h->rows = (struct hosts_row *)mem_grow(h->rows, h->room, sizeof *h->rows);
  }
  h->rows[h->count] = (struct hosts_row){name_hash(name), name, h->count, *addr};
  h->count++;
}

static void take_line(struct hosts *h, struct span line) {
  struct span rest = span_sub(line, 0, span_find_char(line, '#', 0)), name;
  struct addr addr;
  if (!parse_addr(next_word(&rest), &addr)) {
    return;
  }
  while ((name = next_word(&rest)).len) {
    add(h, name, &addr);
  }
}

static int compare(const void *a, const void *b) {
  const struct hosts_row *x = (const struct hosts_row *)a, *y = (const struct hosts_row *)b;
  if (x->hash != y->hash) {
    return x->hash < y->hash ? -1 : 1;
  }
  return x->number < y->number ? -1 : x->number > y->number;
}

/* ---- the file ---- */

static uint64_t stamp_of(const char *path) {
  struct stat st;
  if (stat(path, &st) < 0) {
    return 1;
  }
  uint64_t stamp = hash_mix((uint64_t)st.st_dev, (uint64_t)st.st_ino);
  stamp = hash_mix(stamp, (uint64_t)st.st_size);
  return hash_mix(stamp, (uint64_t)st.st_mtim.tv_sec * 1000000000 + (uint64_t)st.st_mtim.tv_nsec);
}

/* read_text reads what there is now, at most HOSTS_BYTES_MAX. */
static struct span read_text(struct hosts *h, const char *path) {
  struct stat st;
  size_t len = 0;
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return SPAN_EMPTY;
  }
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
    size_t size = st.st_size < HOSTS_BYTES_MAX ? (size_t)st.st_size : HOSTS_BYTES_MAX;
    h->text = (char *)mem_alloc(size);
    for (ssize_t n; len < size && (n = pread(fd, h->text + len, size - len, (off_t)len)) > 0;) {
      len += (size_t)n;
    }
  }
  close(fd);
  return span_of(h->text, len);
}

bool hosts_look(struct hosts *h, const char *path) {
  uint64_t stamp = stamp_of(path);
  if (stamp == h->stamp) {
    return false;
  }
  hosts_fini(h);
  h->stamp = stamp;
  struct span rest = read_text(h, path);
  while (rest.len) {
    size_t end = span_find_char(rest, '\n', 0);
    take_line(h, span_sub(rest, 0, end));
    rest = end == SIZE_MAX ? SPAN_EMPTY : span_from(rest, end + 1);
  }
  if (h->count) {
    qsort(h->rows, h->count, sizeof *h->rows, compare);
  }
  return true;
}

uint32_t hosts_find(const struct hosts *h, struct span name, int family, struct addr *rows,
                    uint32_t room) {
  uint64_t hash = name_hash(name);
  uint32_t low = 0, high = h->count, count = 0;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    if (h->rows[middle].hash < hash) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  for (; low < h->count && h->rows[low].hash == hash && count < room; low++) {
    const struct hosts_row *row = &h->rows[low];
    if (row->addr.sa.sa_family == family && span_eq_nocase(row->name, name)) {
      rows[count++] = row->addr;
    }
  }
  return count;
}

void hosts_fini(struct hosts *h) {
  mem_free(h->text);
  mem_free(h->rows);
  *h = (struct hosts){.stamp = 0};
}
