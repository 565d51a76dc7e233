/* hpack_static.c: what is known of names before any byte came: the static table (RFC 7541 appendix
 * A), and the encoder's policy. Tables only, and two look-ups. Called by hpack_decode.c and
 * hpack_encode.c. */
#include "hpack_priv.h"

#define TEXT(s) \
  { s, sizeof(s) - 1 }

const struct hpack_name hpack_names[HPACK_KNOWN_COUNT] = {
#define HPACK_STATIC(index, name, value, id, pseudo) [index] = {TEXT(name), id, pseudo},
#include "hpack_static.def"
#undef HPACK_STATIC
    [HPACK_KNOWN_PROTOCOL] = {TEXT(":protocol"), HTTP_NAME_OTHER, HPACK_PSEUDO_PROTOCOL},
#define NAME(id, name, slot, flags) \
  [HPACK_KNOWN_NAME(HTTP_NAME_##id)] = {TEXT(name), HTTP_NAME_##id, PSEUDO_NONE},
#include "weir/http/name.def"
#undef NAME
};

const struct span hpack_values[HPACK_STATIC_COUNT + 1] = {
#define HPACK_STATIC(index, name, value, id, pseudo) [index] = TEXT(value),
#include "hpack_static.def"
#undef HPACK_STATIC
};

const struct hpack_way hpack_ways[HTTP_NAME_COUNT] = {
#define HPACK_KNOWN(id, index, policy) [HTTP_NAME_##id] = {index, HPACK_POLICY_##policy},
#define HPACK_OTHER(text, index, slot, policy)
#include "hpack_policy.def"
#undef HPACK_KNOWN
#undef HPACK_OTHER
};

struct other_row {
  struct span text;
  struct hpack_way way;
};

#define HPACK_KNOWN(id, index, policy)
static const struct other_row others[] = {
    {SPAN_EMPTY, {0, HPACK_POLICY_INDEX}}, /* all that have no row */
#define HPACK_OTHER(text, index, slot, policy) {TEXT(text), {index, HPACK_POLICY_##policy}},
#include "hpack_policy.def"
#undef HPACK_OTHER
};

enum other_number {
  OTHER_NONE,
#define HPACK_OTHER(text, index, slot, policy) OTHER_AT_##slot,
#include "hpack_policy.def"
#undef HPACK_OTHER
};

static const uint8_t other_slots[256] = {
#define HPACK_OTHER(text, index, slot, policy) [slot] = OTHER_AT_##slot,
#include "hpack_policy.def"
#undef HPACK_OTHER
};
#undef HPACK_KNOWN

enum { OTHER_LEN_MIN = 3 };

static unsigned other_slot(struct span name) {
  unsigned third = (unsigned char)name.ptr[name.len / 3];
  unsigned middle = (unsigned char)name.ptr[name.len / 2];
  unsigned near = (unsigned char)name.ptr[name.len - 3];
  unsigned last = (unsigned char)name.ptr[name.len - 1];
  return ((unsigned)name.len * 9 + middle * 229 + last * 215 + third * 3 + near * 7) & 255;
}

struct hpack_way hpack_way_other(struct span name) {
  if (name.len < OTHER_LEN_MIN) return others[0].way;
  const struct other_row *row = &others[other_slots[other_slot(name)]];
  return span_eq(row->text, name) ? row->way : others[0].way;
}

enum hpack_pseudo hpack_pseudo_find(struct span name, uint8_t *known) {
#define HPACK_PSEUDO(id, text, first, count, policy) \
  if (span_eq(name, SPAN_LIT(text))) { \
    *known = (first) ? (first) : HPACK_KNOWN_PROTOCOL; \
    return HPACK_PSEUDO_##id; \
  }
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  return PSEUDO_NONE;
}
