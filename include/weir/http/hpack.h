/* hpack.h: the header compression of HTTP/2 (RFC 7541) as a codec: bytes in, fields out, and back.
 * No sockets, clocks or logs. What a list of fields means is not decided here: this says what
 * stood there, and that no name or value in it is against the grammar (http_is_value, lower-case
 * token). Where a rule of RFC 9113 makes a block malformed whatever message it is, faults say so.
 *
 * A block is decoded while it arrives. Of a fragment every representation that is whole is read
 * in place; only one that a fragment cuts is gathered in memory, which is bounded by
 * limits.block_bytes and freed with the block. So the usual case, one fragment, copies no input,
 * and a sender of one byte at a time makes nothing be read twice. */
#ifndef WEIR_HTTP_HPACK_H
#define WEIR_HTTP_HPACK_H

#include "weir/base/buf.h"
#include "weir/http/message.h"

#define HPACK_TABLE_DEFAULT 4096u /* SETTINGS_HEADER_TABLE_SIZE until said otherwise */
#define HPACK_TABLE_MAX 65536u    /* the most that either side's table may be told to hold */
#define HPACK_FIELD_OVERHEAD 32u  /* what each field counts beyond its bytes (4.1) */

enum hpack_pseudo {
#define HPACK_PSEUDO(id, name, first, count, policy) HPACK_PSEUDO_##id,
#include "weir/http/hpack_pseudo.def"
#undef HPACK_PSEUDO
  HPACK_PSEUDO_COUNT
};

/* hpack_table is a dynamic table (2.3.2): a ring of entries and a ring of their bytes in one piece
 * of memory that is there from the first entry on, and grows to what the limit can need. */
struct hpack_table {
  char *memory;
  uint32_t limit;    /* bytes by the count of 4.1; used is never more */
  uint32_t used;     /* bytes by the count of 4.1 */
  uint32_t count;    /* entries */
  uint32_t next;     /* number of the next entry; they count from 1 */
  uint32_t capacity; /* bytes of the ring, a power of two; entries: a 32nd of it */
  uint32_t at;       /* where the next entry's bytes go, modulo capacity */
  bool linked;       /* the encoder's: entries can be found by content */
};

enum hpack_result {
  HPACK_DONE,      /* the block ended, its fields are there */
  HPACK_MORE,      /* in order so far; the next fragment, please */
  HPACK_MALFORMED, /* the block ended; see faults. The stream is to be refused, no more */
  HPACK_TOO_LARGE, /* the block ended, beyond limits: rows are missing. Only the stream is lost */
  HPACK_BAD,       /* COMPRESSION_ERROR: the connection is lost, as in the two below */
  HPACK_FLOOD,     /* beyond the hard limits: ENHANCE_YOUR_CALM */
  HPACK_NO_MEMORY, /* the heap gave none */
};

/* hpack_limits bound one block; all inclusive. list bytes count name, value and 32 for each field
 * (SETTINGS_MAX_HEADER_LIST_SIZE). Beyond the first two decoding goes on without storing, so that
 * the table stays in step; beyond the last two it stops, and nothing more is kept. */
struct hpack_limits {
  uint32_t fields;     /* pseudo-fields included */
  uint32_t list_bytes; /* decoded */
  uint32_t hard_list_bytes;
  uint32_t block_bytes; /* compressed */
};

/* hpack_fault: why a block is malformed (RFC 9113 8.2.1, 8.3). */
enum hpack_fault {
  HPACK_FAULT_NAME = 1,            /* empty, not a token, or with an upper-case letter */
  HPACK_FAULT_VALUE = 2,           /* controls, or white space at an end */
  HPACK_FAULT_PSEUDO_UNKNOWN = 4,  /* a ":" name that is none of enum hpack_pseudo */
  HPACK_FAULT_PSEUDO_REPEATED = 8, /* the first one stays */
  HPACK_FAULT_PSEUDO_LATE = 16,    /* after a regular field */
};

/* hpack_block is one header block while it is decoded, and what it said. Spans point into the
 * arena or into static text. A field with a fault of name or value is in no list. Rows have no
 * flags: which are passed on is for the message to say. */
struct hpack_block {
  struct http_fields fields;
  struct span pseudo[HPACK_PSEUDO_COUNT]; /* empty where not present */
  uint8_t present, secret;    /* bit per enum hpack_pseudo; secret as in struct http_field */
  uint8_t faults;             /* set of hpack_fault; none are noted once too large */
  bool too_large;             /* a limit, or the arena's */
  bool arena_full;            /* it was the arena's */
  bool begun, regular;        /* seen: a field; a regular one */
  uint32_t count, wire_bytes; /* fields decoded, bytes read */
  uint64_t list_bytes;
  const struct hpack_limits *limits;
  struct arena *arena;
  char *room; /* of the arena, for the next strings */
  size_t room_len;
};

/* hpack_block_init starts a block; limits live as long. arena NULL: nothing is to be stored, only
 * the table kept in step (a block of a stream that is gone); it is too large from the start. */
void hpack_block_init(struct hpack_block *block, const struct hpack_limits *limits,
                      struct arena *arena);
static inline bool hpack_block_has(const struct hpack_block *block, enum hpack_pseudo which) {
  return (block->present >> which) & 1;
}

/* hpack_decoder is one connection's receiving side. */
struct hpack_decoder {
  struct hpack_table table;
  uint32_t setting; /* our SETTINGS_HEADER_TABLE_SIZE as the peer has acknowledged it */
  uint32_t due;   /* the next block begins with a size update to so much or less; UINT32_MAX: no */
  uint8_t failed; /* HPACK_BAD and beyond stay */
  char *carry;    /* the representation that the last fragment cut */
  uint32_t carry_len, carry_cap, carry_lack; /* lack: bytes that it needs at least */
  char *scratch;                             /* strings of fields that are not stored */
  size_t scratch_cap;
};

/* hpack_decoder_init takes no memory; setting is at most HPACK_TABLE_MAX. */
void hpack_decoder_init(struct hpack_decoder *dec, uint32_t setting);
void hpack_decoder_fini(struct hpack_decoder *dec);
/* hpack_decoder_set follows our setting, when the peer acknowledges it; between blocks only. */
void hpack_decoder_set(struct hpack_decoder *dec, uint32_t setting);
/* hpack_decode reads the next fragment of a block, which may be empty; last: no more follow. */
MUST_USE enum hpack_result hpack_decode(struct hpack_decoder *dec, struct hpack_block *block,
                                        struct span fragment, bool last);

/* hpack_encoder is one connection's sending side. Heap that is not to be had costs compression,
 * no more. */
struct hpack_encoder {
  struct hpack_table table;
  uint64_t seed;     /* of the hashes, for values are a stranger's */
  uint32_t cap;      /* our own bound of the table */
  uint32_t told;     /* the size that the peer's decoder knows */
  uint32_t lowest;   /* the lowest the table has been since it was told */
  uint32_t added;    /* entries of the block that is open */
  size_t start;      /* of the block in the buffer */
  bool open, wanted; /* wanted: an entry of this block found no room */
};

/* hpack_encoder_init takes no memory; cap is at most HPACK_TABLE_MAX. */
void hpack_encoder_init(struct hpack_encoder *enc, uint32_t cap);
void hpack_encoder_fini(struct hpack_encoder *enc);
/* hpack_encoder_set follows the peer's SETTINGS_HEADER_TABLE_SIZE; between blocks only. */
void hpack_encoder_set(struct hpack_encoder *enc, uint32_t setting);
/* A block is written by begin, fields, end. When out has no room for a field (counted without
 * Huffman) it is full, what follows does nothing, and end gives false: out->len and the encoder
 * are as before the block, which may be written again into more room. */
void hpack_encode_begin(struct hpack_encoder *enc, struct buf *out);
/* hpack_encode_pseudo writes a pseudo-field; they come before all others. secret: as below. */
void hpack_encode_pseudo(struct hpack_encoder *enc, enum hpack_pseudo which, struct span value,
                         bool secret, struct buf *out);
/* hpack_encode_field writes one row, its name in lower case, whatever its flags. The row was
 * checked when made. row->secret: a literal that is never indexed. */
void hpack_encode_field(struct hpack_encoder *enc, const struct http_field *row, struct buf *out);
MUST_USE bool hpack_encode_end(struct hpack_encoder *enc, struct buf *out);

#endif
