/* hpack_rows.c: from decoded strings to the fields of a block: grammar of names and values, which
 * pseudo-fields came and in what order (RFC 9113 8.2, 8.3), limits, memory. Knows no wire format.
 * Called by hpack_decode.c. */
#include "hpack_rows_priv.h"

#include "bytes_priv.h"
#include "message_priv.h"

enum { ROOM_USUAL = 768 }; /* bytes taken from the arena at once: the strings of most heads */

void hpack_block_init(struct hpack_block *block, const struct hpack_limits *limits,
                      struct arena *arena) {
  *block = (struct hpack_block){.limits = limits, .arena = arena, .too_large = arena == NULL};
}

static bool lower_token(struct span s) {
  unsigned all = BYTE_TOKEN, upper = 0;
  for (size_t i = 0; i < s.len; i++) {
    all &= byte_class(s.ptr[i]);
    upper |= (unsigned)(unsigned char)s.ptr[i] - 'A' < 26;
  }
  return s.len > 0 && all != 0 && upper == 0;
}

void hpack_row_name(struct hpack_row *row, struct span text) {
  row->name = text;
  if (text.len > 0 && text.ptr[0] == ':') {
    enum hpack_pseudo pseudo = hpack_pseudo_find(text, &row->known);
    if (pseudo == PSEUDO_NONE) row->faults |= HPACK_FAULT_PSEUDO_UNKNOWN;
  } else if (!lower_token(text)) {
    row->faults |= HPACK_FAULT_NAME;
  } else {
    enum http_name id = http_name_find(text);
    if (id != HTTP_NAME_OTHER) row->known = (uint8_t)HPACK_KNOWN_NAME(id);
  }
  if (row->known) row->name = hpack_names[row->known].text;
}

static bool is_blank(char c) { return c == ' ' || c == '\t'; }

void hpack_row_value(struct hpack_row *row, struct span value, bool plain) {
  row->value = value;
  if (value.len == 0) return;
  if (is_blank(value.ptr[0]) || is_blank(value.ptr[value.len - 1]) ||
      (!plain && !http_is_value(value)))
    row->faults |= HPACK_FAULT_VALUE;
}

bool hpack_block_charge(struct hpack_block *b, size_t bytes) {
  b->count++;
  b->list_bytes += bytes + HPACK_FIELD_OVERHEAD;
  if (b->list_bytes > b->limits->hard_list_bytes) return false;
  if (b->count > b->limits->fields || b->list_bytes > b->limits->list_bytes) b->too_large = true;
  return true;
}

static void store_pseudo(struct hpack_block *b, enum hpack_pseudo which,
                         const struct hpack_row *row) {
  if (b->regular) b->faults |= HPACK_FAULT_PSEUDO_LATE;
  if (hpack_block_has(b, which)) {
    b->faults |= HPACK_FAULT_PSEUDO_REPEATED;
    return;
  }
  b->present |= (uint8_t)(1u << which);
  if (row->secret) b->secret |= (uint8_t)(1u << which);
  b->pseudo[which] = row->value;
}

void hpack_block_store(struct hpack_block *b, const struct hpack_row *row) {
  if (b->too_large) return;
  b->faults |= row->faults;
  const struct hpack_name *known = &hpack_names[row->known];
  bool pseudo =
      row->known ? known->pseudo != PSEUDO_NONE : (row->faults & HPACK_FAULT_PSEUDO_UNKNOWN) != 0;
  if (!pseudo) b->regular = true;
  if (row->faults) return;
  if (pseudo) {
    store_pseudo(b, (enum hpack_pseudo)known->pseudo, row);
    return;
  }
  struct http_field *field =
      http_fields_push(&b->fields, b->arena, (enum http_name)(row->known ? known->id : 0));
  if (field == NULL) {
    b->too_large = b->arena_full = true;
    return;
  }
  field->name = row->name;
  field->value = row->value;
  field->flags = 0;
  field->secret = row->secret;
}

char *hpack_block_room(struct hpack_block *b, size_t need) {
  if (need <= b->room_len && b->room != NULL) return b->room;
  hpack_block_close(b);
  size_t size = need < ROOM_USUAL ? ROOM_USUAL : need;
  b->room = arena_bytes(b->arena, size);
  if (b->room == NULL) {
    b->too_large = b->arena_full = true;
    return NULL;
  }
  b->room_len = size;
  return b->room;
}

void hpack_block_close(struct hpack_block *b) {
  if (b->room_len > 0) arena_shrink(b->arena, b->room, b->room_len, 0);
  b->room = NULL;
  b->room_len = 0;
}
