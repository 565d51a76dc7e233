/* h2_section.c: field sections: whose a HEADERS frame is, decoding into the place that its owner
 * gave, the end of it told. What is refused is decoded all the same, into nothing: the tables must
 * stay in step (RFC 9113 sections 4.3 and 5.1). */
#include "mux/h2_section_priv.h"

/* What a section may have beyond what is stored before the connection is given up. */
#define HARD_TIMES 8u

static uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Who learns of a reload's limits when heads are on their way is refused those, and no more: what
 * ends the connection is never less than it was. */
void h2_section_limits(struct h2 *h) {
  const struct h2_limits *l = &h->limits;
  struct hpack_limits was = h->section_limits;
  h->section_limits = (struct hpack_limits){
      .fields = l->headers + H2_PSEUDO_COUNT,
      .list_bytes = l->header_bytes,
      .hard_list_bytes = larger(l->header_bytes * HARD_TIMES, was.hard_list_bytes),
      .block_bytes = larger(l->header_bytes * 2, was.block_bytes),
  };
}

static void begin(struct h2 *h, const struct h2_frame *f, struct h2_stream *st) {
  h->section_of = st;
  h->block_frames = 0;
  h->block_end_stream = f->flags & H2_FLAG_END_STREAM;
  h2_section_limits(h);
  hpack_block_init(&h->block, &h->section_limits, st && st->section ? st->arena : NULL);
}

/* unplace: what is still to come is decoded into nothing. */
static void unplace(struct h2 *h) {
  h->block.arena = NULL;
  h->block.room = NULL;
  h->block.room_len = 0;
  h->block.too_large = true;
}

void h2_section_orphan(struct h2 *h) {
  h->section_of = NULL;
  unplace(h);
}

/* look_after: an owner that has let its stream go took the place of the section along; the stream
 * goes on until its conn is gone. */
static void look_after(struct h2 *h) {
  struct h2_stream *st = h->section_of;
  if (!st || !st->section || !stream_let_go(st)) return;
  st->section = NULL;
  unplace(h);
}

/* HEADS_MOST heads of the largest size are kept for one connection: a few bytes of HPACK make
 * large ones (THREATS.md row 4). */
#define HEADS_MOST 16u

/* may_open: else the stream is refused, which costs the peer nothing but the section. */
static bool may_open(const struct h2 *h) {
  if (h->heads_bytes >= (uint64_t)HEADS_MOST * h->limits.header_bytes) return false;
  return h->events->on_stream && !h2_any(h, H2_LAST_CALL) && h->count < h->limits.streams;
}

/* skip remembers the numbers that nobody can use any more (RFC 9113 section 5.1.1); is_skipped is
 * true of the last such. */
static void skip(struct h2 *h, uint32_t id) {
  uint32_t next = h->last ? h->last + 2 : 1;
  if (id == next) return;
  h->skipped = next;
  h->skipped_to = id;
}

static bool is_skipped(const struct h2 *h, uint32_t id) {
  return h2_is_theirs(h, id) && id >= h->skipped && id < h->skipped_to;
}

static enum h2_open new_stream(struct h2 *h, const struct h2_frame *f, enum h2_error *error) {
  skip(h, f->stream);
  h->last = f->stream;
  if (!h2_any(h, H2_LAST_CALL)) h->served = f->stream;
  if (may_open(h)) {
    struct h2_stream *st = h2_stream_open(h, f->stream, true);
    if (st && h->events->on_stream(st)) {
      h->opened++;
      begin(h, f, h2_stream_find(h, f->stream));
      return H2_OPEN_NEW;
    }
    if (st) h2_stream_drop(st);
  }
  begin(h, f, NULL);
  *error = H2_REFUSED_STREAM;
  return h2_any(h, H2_LAST_CALL) ? H2_OPEN_DROP : H2_OPEN_RESET;
}

/* more is a section of a stream that is there: an interim head, a head, or trailers. */
static enum h2_open more(struct h2 *h, const struct h2_frame *f, struct h2_stream *st,
                         enum h2_error *error) {
  *error = H2_STREAM_CLOSED;
  if (stream_any(st, H2_REMOTE_END)) {
    begin(h, f, NULL);
    return H2_OPEN_RESET;
  }
  bool trailers = stream_any(st, H2_HEADED);
  *error = H2_PROTOCOL_ERROR;
  if (trailers && !(f->flags & H2_FLAG_END_STREAM)) {
    begin(h, f, NULL);
    return H2_OPEN_RESET;
  }
  if (trailers) {
    if (stream_let_go(st)) st->section = NULL;
    else if (h->events->on_trailers) st->section = h->events->on_trailers(st, &st->arena);
    st->marks |= H2_TRAILERS;
  }
  begin(h, f, st);
  return H2_OPEN_MORE;
}

enum h2_open h2_section_open(struct h2 *h, const struct h2_frame *f, enum h2_error *error) {
  bool theirs = h2_is_theirs(h, f->stream);
  struct h2_stream *st = h2_stream_find(h, f->stream);
  if (st) return more(h, f, st, error);
  *error = H2_PROTOCOL_ERROR;
  bool is_new = theirs && f->stream > h->last;
  if (is_new && h->server) return new_stream(h, f, error);
  if (is_new || (!theirs && f->stream >= h->next_id)) return H2_OPEN_BAD; /* no server opens one */
  if (is_skipped(h, f->stream)) return H2_OPEN_BAD;
  *error = H2_STREAM_CLOSED;
  if (!h2_is_forgotten(h, f->stream) && !h2_is_ignored(h, f->stream)) return H2_OPEN_BAD;
  begin(h, f, NULL);
  return H2_OPEN_DROP;
}

/* The decoder and the judge of messages number pseudo-fields and faults alike. */
_Static_assert((int)HPACK_PSEUDO_METHOD == (int)H2_PSEUDO_METHOD, "and so on, by their .def");
_Static_assert((int)HPACK_PSEUDO_COUNT == (int)H2_PSEUDO_COUNT, "as many");
_Static_assert((int)HPACK_PSEUDO_STATUS == (int)H2_PSEUDO_STATUS, "in one order");
_Static_assert((int)HPACK_PSEUDO_PROTOCOL == (int)H2_PSEUDO_PROTOCOL, "in one order");
_Static_assert((int)HPACK_FAULT_NAME == (int)H2_FAULT_NAME, "faults too");
_Static_assert((int)HPACK_FAULT_PSEUDO_LATE == (int)H2_FAULT_LATE, "faults too");

/* store gives the section what was decoded. */
static void store(const struct h2 *h, struct h2_section *section) {
  const struct hpack_block *b = &h->block;
  section->pseudo = (struct h2_pseudo){
      .present = b->present, .faults = b->faults, .secret = b->secret};
  memcpy(section->pseudo.value, b->pseudo, sizeof b->pseudo);
  section->fields = b->fields;
  section->end_stream = h->block_end_stream;
}

/* too_large says which limit a section was beyond. */
static enum end too_large(const struct h2 *h) {
  bool bytes = h->block.list_bytes > h->section_limits.list_bytes;
  if (h->block.arena_full) return END_LIMIT_STREAM_MEMORY;
  if (h->server) return bytes ? END_LIMIT_HEADER_BYTES : END_LIMIT_HEADERS;
  return bytes ? END_BAD_RESPONSE_HEADER_BYTES : END_BAD_RESPONSE_HEADERS;
}

/* too_many: the decoder's limit counts pseudo-fields too. */
static bool too_many(const struct h2 *h) {
  return h->block.fields.count > h->section_limits.fields - H2_PSEUDO_COUNT;
}

/* whole tells the owner. Its stream may be gone after that. */
static void whole(struct h2 *h, enum end end) {
  struct h2_stream *st = h->section_of;
  uint32_t id = st->id;
  h->section_of = NULL;
  if (st->section) store(h, st->section);
  st->head_bytes += (uint32_t)h->block.list_bytes;
  h->heads_bytes += h->block.list_bytes;
  bool trailers = stream_any(st, H2_TRAILERS);
  bool told = st->section != NULL && !stream_any(st, H2_RESET);
  st->section = NULL;
  if (h->block_end_stream && !trailers) st->marks |= H2_REMOTE_END;
  if (told) st->what.conn->events->on_message(st->what.conn, end);
  st = h2_stream_find(h, id);
  if (st && h->block_end_stream && !stream_any(st, H2_RESET)) h2_stream_peer_end(st);
}

/* refused ends a section that is larger than may be. A client was told what may be: heads that are
 * too large, each of them cheap to send, cost it of its budget. */
static enum h2_taken refused(struct h2 *h) {
  const struct h2_stream *st = h->section_of;
  if (!st) return H2_SECTION_GOES_ON;
  bool theirs = h->server && st->section && !h->block.arena_full;
  whole(h, too_large(h));
  return theirs ? H2_SECTION_REFUSED : H2_SECTION_GOES_ON;
}

enum h2_taken h2_section_take(struct h2 *h, struct span fragment, bool last) {
  look_after(h);
  struct h2_stream *st = h->section_of;
  switch (hpack_decode(&h->decoder, &h->block, fragment, last)) {
    case HPACK_MORE: return H2_SECTION_GOES_ON;
    case HPACK_DONE:
    case HPACK_MALFORMED: /* the message's judge says so, by one word */
      if (too_many(h)) return refused(h);
      if (st) whole(h, END_OK);
      return H2_SECTION_GOES_ON;
    case HPACK_TOO_LARGE: return refused(h);
    case HPACK_BAD: return H2_SECTION_BAD;
    case HPACK_FLOOD: return H2_SECTION_HUGE;
    case HPACK_NO_MEMORY: break;
  }
  return H2_SECTION_NO_MEMORY;
}
