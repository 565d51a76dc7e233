/* tls_sni.c: host names of certificates: canonical form, and the table that an SNI is looked up
 * in: exact name, else a wildcard of one label, else the default (DESIGN.md section 7, RFC 6125
 * section 6.4.3, RFC 6066 section 3). One sorted table, so a small and a large one behave alike
 * (THREATS.md 15). Immutable after tls_names_build; called by tls_server.c and tls_select.c. */
#include <stdlib.h>

#include "io/tls_priv.h"

static bool label_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* labels_ok: one or more labels of 1 to 63 bytes (RFC 1035 section 2.3.4). */
static bool labels_ok(struct span name) {
  size_t label_len = 0;
  for (size_t i = 0; i < name.len; i++) {
    if (name.ptr[i] == '.') {
      if (label_len == 0) return false;
      label_len = 0;
    } else if (!label_char(name.ptr[i]) || ++label_len > 63) {
      return false;
    }
  }
  return label_len > 0;
}

bool tls_name_canon(struct span in, bool pattern, char *out, size_t *len) {
  if (in.len > 0 && in.ptr[in.len - 1] == '.') in = span_sub(in, 0, in.len - 1);
  if (in.len == 0 || in.len > TLS_NAME_MAX) return false;
  struct buf lower = buf_of(out, TLS_NAME_MAX);
  for (size_t i = 0; i < in.len; i++) buf_char(&lower, ascii_lower(in.ptr[i]));
  struct span name = buf_span(&lower);
  if (pattern && span_starts(name, SPAN_LIT("*."))) name = span_from(name, 2);
  if (!labels_ok(name)) return false;
  *len = lower.len;
  return true;
}

static int row_cmp(const struct tls_name *a, bool wildcard, struct span name) {
  if (a->wildcard != wildcard) return a->wildcard ? 1 : -1;
  return span_cmp(a->name, name);
}

static int row_sort(const void *left, const void *right) {
  const struct tls_name *b = (const struct tls_name *)right;
  return row_cmp((const struct tls_name *)left, b->wildcard, b->name);
}

static struct tls_name *row_find(const struct tls_names *names, bool wildcard, struct span name) {
  uint32_t low = 0, high = names->row_count;
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    int order = row_cmp(&names->rows[mid], wildcard, name);
    if (order == 0) return &names->rows[mid];
    if (order < 0) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  return NULL;
}

const struct tls_choice *tls_names_find(const struct tls_names *names, struct span host) {
  if (host.len > 0) {
    const struct tls_name *row = row_find(names, false, host);
    size_t dot = span_find_char(host, '.', 0);
    if (!row && dot < host.len) row = row_find(names, true, span_from(host, dot + 1));
    if (row) return &row->choice;
    return names->has_fallback ? &names->fallback : NULL;
  }
  return names->has_fallback ? &names->fallback : &names->first;
}

/* rows_unique sorts the rows and drops repeated ones; their choices are filled afterwards. */
static void rows_unique(struct tls_names *names) {
  if (names->row_count == 0) return;
  qsort(names->rows, names->row_count, sizeof(names->rows[0]), row_sort);
  uint32_t kept = 1;
  for (uint32_t i = 1; i < names->row_count; i++) {
    const struct tls_name *last = &names->rows[kept - 1];
    if (row_cmp(last, names->rows[i].wildcard, names->rows[i].name) != 0) {
      names->rows[kept++] = names->rows[i];
    }
  }
  names->row_count = kept;
}

static struct tls_name row_of(struct span name) {
  bool wildcard = span_starts(name, SPAN_LIT("*."));
  return (struct tls_name){.name = wildcard ? span_from(name, 2) : name, .wildcard = wildcard};
}

/* claim puts certificate i into a choice. A name that the configuration gives wins over one that a
 * certificate merely contains; the first of equals wins, but two given ones are a fault. */
static bool claim(struct tls_choice *choice, const struct tls_cert *certs, uint32_t i,
                  struct span name, struct buf *why) {
  uint32_t *slot = &choice->cert[certs[i].key];
  const struct tls_cert *had = *slot ? &certs[*slot - 1] : NULL;
  if (!had || (certs[i].names_given && !had->names_given)) {
    *slot = i + 1;
  } else if (certs[i].names_given && had->names_given) {
    buf_printf(why,
               "certificate " SPAN_FMT ": " SPAN_FMT " is already served by " SPAN_FMT
               " with the same kind of key; remove one of the two",
               SPAN_ARG(certs[i].label), SPAN_ARG(name), SPAN_ARG(had->label));
    return false;
  }
  return true;
}

static bool claim_names(struct tls_names *names, const struct tls_cert *certs, uint32_t i,
                        struct buf *why) {
  for (uint32_t n = 0; n < certs[i].name_count; n++) {
    struct tls_name want = row_of(certs[i].names[n]);
    struct tls_name *row = row_find(names, want.wildcard, want.name);
    check(row != NULL);
    if (row->choice.cert[certs[i].key] == i + 1) continue;
    if (!claim(&row->choice, certs, i, certs[i].names[n], why)) return false;
  }
  return true;
}

/* claim_fallback: two defaults of one kind are a fault, whoever gave their names. */
static bool claim_fallback(struct tls_names *names, const struct tls_cert *certs, uint32_t i,
                           struct buf *why) {
  uint32_t *slot = &names->fallback.cert[certs[i].key];
  if (*slot) {
    buf_printf(why,
               "certificate " SPAN_FMT ": " SPAN_FMT
               " is the default with the same kind of key already; one of them may be",
               SPAN_ARG(certs[i].label), SPAN_ARG(certs[*slot - 1].label));
    return false;
  }
  *slot = i + 1;
  names->has_fallback = true;
  return true;
}

/* first_fill: without a default, clients that send no SNI get the first certificate, and what
 * shares its first name with another kind of key. */
static void first_fill(struct tls_names *names, const struct tls_cert *certs) {
  if (certs[0].name_count > 0) {
    struct tls_name want = row_of(certs[0].names[0]);
    names->first = row_find(names, want.wildcard, want.name)->choice;
  }
  names->first.cert[certs[0].key] = 1;
}

bool tls_names_build(struct tls_names *names, const struct tls_cert *certs, uint32_t cert_count,
                     struct arena *arena, uint32_t *bad_cert, struct buf *why) {
  check(cert_count > 0);
  uint32_t total = 0;
  for (uint32_t i = 0; i < cert_count; i++) total += certs[i].name_count;
  names->rows = (struct tls_name *)arena_zalloc(arena, (total + 1) * sizeof(names->rows[0]));
  check(names->rows != NULL);
  for (uint32_t i = 0; i < cert_count; i++) {
    for (uint32_t n = 0; n < certs[i].name_count; n++) {
      names->rows[names->row_count++] = row_of(certs[i].names[n]);
    }
  }
  rows_unique(names);
  for (uint32_t i = 0; i < cert_count; i++) {
    bool ok = claim_names(names, certs, i, why) &&
              (!certs[i].is_default || claim_fallback(names, certs, i, why));
    if (!ok) {
      *bad_cert = i;
      return false;
    }
  }
  first_fill(names, certs);
  return true;
}
