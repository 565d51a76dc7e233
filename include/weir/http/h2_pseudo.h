/* h2_pseudo.h: the pseudo-fields of one field section (RFC 9113 section 8.3), between the HPACK
 * decoder, which fills this in, and h2_message.h, which judges it. A malformed field makes the
 * message malformed, not the block: the decoder notes the fault here and reads on, so that its
 * table stays in step with the peer's. */
#ifndef WEIR_HTTP_H2_PSEUDO_H
#define WEIR_HTTP_H2_PSEUDO_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/span.h"

enum h2_pseudo_id {
#define PSEUDO(id, text) H2_PSEUDO_##id,
#include "weir/http/h2_pseudo.def"
#undef PSEUDO
  H2_PSEUDO_COUNT
};

/* h2_fault is what a decoder saw wrong in a field section, in any of its fields. */
enum h2_fault {
  H2_FAULT_NAME = 1,     /* a regular name is empty, has upper case or is not a token */
  H2_FAULT_VALUE = 2,    /* a value has a control character, or white space at an end */
  H2_FAULT_UNKNOWN = 4,  /* a name that begins with ":" and is not in h2_pseudo.def */
  H2_FAULT_REPEATED = 8, /* a pseudo-field stands twice; the first value is kept */
  H2_FAULT_LATE = 16,    /* a pseudo-field after a regular field */
};

/* h2_pseudo is {0} before a field section. Values are borrowed: they live as long as the rows of
 * the section's struct http_fields. */
struct h2_pseudo {
  struct span value[H2_PSEUDO_COUNT];
  uint8_t present; /* bit per enum h2_pseudo_id; an empty value can be present */
  uint8_t faults;  /* set of enum h2_fault */
  uint8_t secret;  /* bit per h2_pseudo_id, as of http_field (message.h) */
};

static inline bool h2_pseudo_has(const struct h2_pseudo *p, enum h2_pseudo_id id) {
  return (p->present >> id) & 1;
}

/* h2_pseudo_put notes a pseudo-field whose id is known. after_regular: a regular field stood
 * before it in this section. */
static inline void h2_pseudo_put(struct h2_pseudo *p, enum h2_pseudo_id id, struct span value,
                                 bool after_regular) {
  if (after_regular) p->faults |= H2_FAULT_LATE;
  if (h2_pseudo_has(p, id)) {
    p->faults |= H2_FAULT_REPEATED;
    return;
  }
  p->present |= (uint8_t)(1u << id);
  p->value[id] = value;
}

/* h2_pseudo_find looks a name up that begins with ":"; H2_PSEUDO_COUNT when it is not known (then
 * the decoder notes H2_FAULT_UNKNOWN). Case-sensitive. */
enum h2_pseudo_id h2_pseudo_find(struct span name);
/* h2_pseudo_text is the name with its colon. */
struct span h2_pseudo_text(enum h2_pseudo_id id);

#endif
