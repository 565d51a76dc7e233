/* hpack_priv.h: what the files of the HPACK codec share: known names, the Huffman code, the
 * dynamic table and how it is searched. Nothing here is for other files. */
#ifndef WEIR_HTTP_HPACK_PRIV_H
#define WEIR_HTTP_HPACK_PRIV_H

#include "weir/http/hpack.h"

#define PSEUDO_NONE HPACK_PSEUDO_COUNT
#define HPACK_STATIC_COUNT 61u
/* Known names have a number, so that tables need not keep their text: rows of the static table
 * have their index, then comes :protocol, then enum http_name. 0: not known. */
#define HPACK_KNOWN_PROTOCOL 62u
#define HPACK_KNOWN_NAME(id) (HPACK_KNOWN_PROTOCOL + (unsigned)(id))
#define HPACK_KNOWN_COUNT HPACK_KNOWN_NAME(HTTP_NAME_COUNT)

struct hpack_name {
  struct span text;
  uint8_t id;     /* enum http_name */
  uint8_t pseudo; /* enum hpack_pseudo or PSEUDO_NONE */
};
extern const struct hpack_name hpack_names[HPACK_KNOWN_COUNT];
/* hpack_values has the values of the static table by index. */
extern const struct span hpack_values[HPACK_STATIC_COUNT + 1];

enum hpack_policy {
  HPACK_POLICY_INDEX,
  HPACK_POLICY_ONCE,
  HPACK_POLICY_PLAIN,
  HPACK_POLICY_NEVER
};

/* hpack_way is how the encoder writes a name: its row in the static table (0: none), and what
 * becomes of its values. */
struct hpack_way {
  uint8_t index;
  uint8_t policy; /* enum hpack_policy */
};
extern const struct hpack_way hpack_ways[HTTP_NAME_COUNT];
/* hpack_way_other finds the way of a lower-case name that is not in name.def. */
struct hpack_way hpack_way_other(struct span name);
/* hpack_pseudo_find gives PSEUDO_NONE for other names; known is for tables. */
enum hpack_pseudo hpack_pseudo_find(struct span name, uint8_t *known);

/* hpack_huffman_room is the most that decoding len bytes may write. */
static inline size_t hpack_huffman_room(size_t len) { return len + len / 8 * 5 + 6; }
/* hpack_huffman_decode gives how many bytes it wrote to out, or SIZE_MAX when `in` is not in the
 * code: EOS, padding longer than 7 bits or not of ones (5.2). *odd: bytes that are no letters,
 * digits or common marks may be there; all others may stand in a field value. */
size_t hpack_huffman_decode(struct span in, char *out, bool *odd);
/* hpack_huffman_encode gives how many bytes it wrote to out, or SIZE_MAX when they would be
 * `limit` or more. out has room for limit and HPACK_HUFFMAN_SLACK: it writes words. */
#define HPACK_HUFFMAN_SLACK 24u
size_t hpack_huffman_encode(struct span in, char *out, size_t limit);

/* hpack_entry is an entry of a dynamic table. The ring has the name, unless known, and the value;
 * either may go over the ring's end. */
struct hpack_entry {
  uint16_t at; /* offset in the ring */
  uint16_t name_len, value_len;
  uint8_t known;
  uint8_t faults; /* hpack_fault of name and value */
};

/* hpack_link is what finds an entry of a linked table by content. */
struct hpack_link {
  uint32_t pair, name;             /* hashes */
  uint16_t older_pair, older_name; /* numbers of the next older entries in the same buckets */
};

void hpack_table_fini(struct hpack_table *table);
/* hpack_table_keep drops the oldest entries until at most `bytes` are used. */
void hpack_table_keep(struct hpack_table *table, uint32_t bytes);
/* hpack_table_resize sets the limit and evicts. */
void hpack_table_resize(struct hpack_table *table, uint32_t limit);
/* hpack_table_add evicts for and adds an entry; one that does not fit empties the table (4.4).
 * name and value do not lie in the table. False: no memory, nothing is changed. link: of a linked
 * table, its hashes. */
MUST_USE bool hpack_table_add(struct hpack_table *table, struct hpack_entry entry,
                              struct span name, struct span value, const struct hpack_link *link);
/* hpack_table_pop takes the newest entry out again. */
void hpack_table_pop(struct hpack_table *table);
/* hpack_table_get gives the entry of an age (0: the newest), or NULL. */
const struct hpack_entry *hpack_table_get(const struct hpack_table *table, uint32_t age);
/* hpack_table_name and _value copy len bytes of an entry out of the ring. */
void hpack_table_name(const struct hpack_table *table, const struct hpack_entry *e, char *out);
void hpack_table_value(const struct hpack_table *table, const struct hpack_entry *e, char *out);
/* hpack_table_find_pair gives the age of the newest entry with these contents, _name with this
 * name; UINT32_MAX: none. They look at a bounded number of entries of the bucket. */
uint32_t hpack_table_find_pair(const struct hpack_table *table, const struct hpack_link *link,
                               struct hpack_entry like, struct span name, struct span value);
uint32_t hpack_table_find_name(const struct hpack_table *table, const struct hpack_link *link,
                               struct hpack_entry like, struct span name);

#endif
