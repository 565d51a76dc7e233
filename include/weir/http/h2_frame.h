/* h2_frame.h: HTTP/2 frames on the wire (RFC 9113 sections 3.4, 4 and 6, RFC 9218 section 7.1).
 * Bytes in, items out: no streams, no HPACK, no sockets, no allocation. What a frame means for its
 * stream, and budgets against floods, are the connection's (proxy/). */
#ifndef WEIR_HTTP_H2_FRAME_H
#define WEIR_HTTP_H2_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/buf.h"
#include "weir/base/span.h"
#include "weir/http/message.h"

enum h2_error {
#define ERROR(id, code, name) H2_##id = (code),
#include "weir/http/h2_error.def"
#undef ERROR
};
/* h2_error_name is the name of a code; empty when it is not registered. */
struct span h2_error_name(uint32_t code);
/* h2_error_write appends it, or 0x and the code where it has none. */
void h2_error_write(struct buf *b, uint32_t code);

enum h2_type {
#define FRAME(id, type, name, least, most, unit, stream, flags, body) H2_##id = (type),
#include "weir/http/h2_frame.def"
#undef FRAME
};
/* h2_type_name is the name of a frame type; empty when it is not known. */
struct span h2_type_name(unsigned type);

enum h2_flag {
  H2_FLAG_ACK = 0x1, /* SETTINGS, PING */
  H2_FLAG_END_STREAM = 0x1, /* lint: allow flags: each type has its own */
  H2_FLAG_END_HEADERS = 0x4,
  H2_FLAG_PADDED = 0x8,
  H2_FLAG_PRIORITY = 0x20,
};

#define H2_PREFACE SPAN_LIT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
#define H2_HEAD_LEN 9u              /* bytes of a frame before its payload */
#define H2_FRAME_SIZE_MIN 16384u    /* SETTINGS_MAX_FRAME_SIZE at first */
#define H2_FRAME_SIZE_MAX 16777215u /* and at most */
#define H2_STREAM_MAX 0x7fffffffu   /* stream identifiers have 31 bits */
#define H2_PRIORITY_VALUE_MAX 60u   /* of PRIORITY_UPDATE; a longer value is read as empty */
#define H2_GOAWAY_WHY_MAX 16u       /* of debug data: a word that has a meaning, and one more */

/* h2_frame is the head of a frame. */
struct h2_frame {
  uint32_t length;  /* of the payload: what flow control counts for DATA */
  uint32_t stream;  /* without the reserved bit */
  uint16_t padding; /* bytes of the payload that are padding, the length byte included: 0 to 256 */
  uint8_t type;     /* enum h2_type, or another */
  uint8_t flags;    /* those that the type has */
};

/* h2_event is what h2_frame_scan found. Each frame gives H2_EVENT_FRAME first, once its padding
 * and priority are known too. Then come, in this order: STREAM_ERROR, if so; then
 *   DATA                   DATA items, the last with `end` (it may be empty)
 *   HEADERS, CONTINUATION  FRAGMENT items, the last with `end` (it may be empty)
 *   SETTINGS               SETTING items, then SETTINGS
 *   other known ones       one item of their name, but none after a STREAM_ERROR
 * and nothing for unknown types. A field block goes on after a STREAM_ERROR: it has to be decoded.
 */
enum h2_event {
  H2_EVENT_MORE, /* all input is consumed, nothing is wrong so far */
  H2_EVENT_FRAME,
  H2_EVENT_DATA,
  H2_EVENT_FRAGMENT,
  H2_EVENT_SETTING,
  H2_EVENT_SETTINGS, /* the frame is whole; also of an ACK */
  H2_EVENT_PRIORITY,
  H2_EVENT_RST_STREAM,
  H2_EVENT_PING,
  H2_EVENT_GOAWAY, /* what is left of its debug data is skipped */
  H2_EVENT_WINDOW_UPDATE,
  H2_EVENT_PRIORITY_UPDATE,
  H2_EVENT_STREAM_ERROR,     /* of the frame's stream */
  H2_EVENT_CONNECTION_ERROR, /* nothing more can be read */
};

/* h2_item is one event. bytes live until the next call, or as long as the input if of a run. */
struct h2_item {
  struct span bytes;  /* DATA, FRAGMENT: a run; PING: 8 bytes; PRIORITY_UPDATE: the field value;
                       * GOAWAY: the first H2_GOAWAY_WHY_MAX of its debug data */
  struct span reason; /* of errors: static text for people */
  uint32_t id;        /* SETTING: identifier; GOAWAY: last stream; PRIORITY_UPDATE: stream */
  uint32_t value; /* SETTING: value; WINDOW_UPDATE: increment; RST_STREAM, GOAWAY: error code */
  enum h2_error error; /* of errors */
  bool end;            /* of a run: the frame is whole with it, padding too */
};

/* h2_scanner is how far the input of a connection has been read. */
struct h2_scanner {
  struct h2_frame frame;
  uint32_t max_frame; /* our SETTINGS_MAX_FRAME_SIZE; may be raised at any time */
  uint32_t left;      /* payload still to come, without padding */
  uint32_t block;     /* stream whose field block is open, 0: none */
  uint16_t padding;   /* still to come */
  uint8_t step;       /* enum step (h2_frame.c) */
  uint8_t fault;      /* enum fault (h2_frame.c): a stream error to be told, 0: none */
  uint8_t held_len;
  bool server;                          /* the peer is a client */
  bool settled;                         /* the first frame has come */
  char held[4 + H2_PRIORITY_VALUE_MAX]; /* bytes of what is read whole */
};

/* h2_frame_scan_init starts a connection. server: what comes is a client's, and begins with the
 * preface. max_frame is H2_FRAME_SIZE_MIN to _MAX. */
void h2_frame_scan_init(struct h2_scanner *scanner, bool server, uint32_t max_frame);
/* h2_frame_scan reads from in to the next event; *consumed bytes were taken, call again with those
 * after them. scanner->frame is the frame of the item. MORE only when all was consumed; at most
 * one item per frame consumes nothing. Not to be called again after a CONNECTION_ERROR. */
MUST_USE enum h2_event h2_frame_scan(struct h2_scanner *scanner, struct span in, size_t *consumed,
                                     struct h2_item *item);

/* h2_preface_match: do a connection's first bytes begin with the client preface? Reads
 * H2_PREFACE.len bytes at most; MORE when all so far agree. */
enum http_result h2_preface_match(struct span in);

/* Windows (RFC 9113 section 6.9): a window may be negative after a change of
 * SETTINGS_INITIAL_WINDOW_SIZE, and is never more than 2^31-1. False: it would be
 * (FLOW_CONTROL_ERROR), and nothing is changed. */

/* h2_window_add is a WINDOW_UPDATE. */
MUST_USE bool h2_window_add(int32_t *window, uint32_t increment);
/* h2_window_shift is a change of the initial size. */
MUST_USE bool h2_window_shift(int32_t *window, uint32_t from, uint32_t to);
/* h2_window_take is DATA of len bytes; false: the window is smaller. */
MUST_USE bool h2_window_take(int32_t *window, uint32_t len);

#endif
