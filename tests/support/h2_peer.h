/* h2_peer.h: a client of HTTP/2 made of our own codecs, for tests and fuzz targets: it writes what
 * it is told, right or wrong, and holds what comes against the protocol: frames that do not parse,
 * bytes beyond the windows and sizes that it allowed, frames of streams that are over. Bytes in,
 * bytes out: no socket, no clock. */
#ifndef WEIR_TESTS_H2_PEER_H
#define WEIR_TESTS_H2_PEER_H

#include "weir/base/buf.h"
#include "weir/http/h2_frame.h"
#include "weir/http/h2_settings.h"
#include "weir/http/hpack.h"

struct h2_peer;

/* h2_peer_stream is one of the peer's own streams. */
struct h2_peer_stream {
  uint32_t id;
  int64_t send_window, recv_window;
  uint64_t got;     /* bytes of DATA */
  uint64_t sent;    /* of ours */
  uint32_t frames;  /* of DATA */
  uint32_t order;   /* number of its last DATA frame among all */
  uint32_t status;  /* of the final head; 0: it has not come */
  uint32_t interims;
  uint32_t reset_code;
  bool headed, ended, reset; /* by weir */
  bool done, cancelled;      /* by us: END_STREAM; RST_STREAM */
  bool trailers;
  void *owner;
};

/* h2_peer_change is a SETTINGS frame of ours that was not acknowledged yet. */
struct h2_peer_change {
  uint32_t window, max_frame, table; /* UINT32_MAX: not said */
};

enum { H2_PEER_CHANGES = 64 };

struct h2_peer {
  struct h2_scanner scanner;
  struct hpack_decoder decoder;
  struct hpack_encoder encoder;
  struct arena arena; /* of the section that comes */
  struct hpack_block block;
  bool block_end;
  struct text out; /* to be sent; the user takes it */
  struct h2_settings theirs;
  int64_t send_window, recv_window;
  uint32_t window, max_frame; /* ours, acknowledged */
  struct h2_peer_change changes[H2_PEER_CHANGES];
  uint32_t change_first, change_count;
  struct h2_peer_stream *streams; /* by (id - 1) / 2 */
  uint32_t stream_cap, next_id;
  uint32_t settings, pings, goaways, resets, window_updates, data_frames; /* that came */
  uint32_t goaway_last, goaway_code;
  bool auto_window; /* gives credit back as bytes come */
  bool wild;        /* its own frames are nonsense: only what weir sends is checked */
  char fault[160];  /* the first thing that weir did wrong */
  void *owner;
  void (*on_data)(struct h2_peer *p, struct h2_peer_stream *st, struct span bytes);
  /* on_head: a head, or trailers; fields are in p->block. on_end: END_STREAM or RST_STREAM. */
  void (*on_head)(struct h2_peer *p, struct h2_peer_stream *st);
  void (*on_end)(struct h2_peer *p, struct h2_peer_stream *st);
};

/* h2_peer_init writes nothing: h2_peer_hello writes preface and SETTINGS. */
void h2_peer_init(struct h2_peer *p);
void h2_peer_fini(struct h2_peer *p);
void h2_peer_hello(struct h2_peer *p, const struct h2_row *rows, size_t count);
/* h2_peer_read takes what weir sent. */
void h2_peer_read(struct h2_peer *p, struct span bytes);
struct h2_peer_stream *h2_peer_find(struct h2_peer *p, uint32_t id);

/* h2_peer_open makes the next stream, without a word. */
struct h2_peer_stream *h2_peer_open(struct h2_peer *p);
/* h2_peer_block encodes a request: "name: value" lines in the order that HTTP/2 wants. Valid until
 * the next one. */
struct span h2_peer_block(struct h2_peer *p, const char *lines);
/* h2_peer_request sends one on a new stream. */
struct h2_peer_stream *h2_peer_request(struct h2_peer *p, const char *lines, bool end);
/* h2_peer_headers sends a section on any stream, cut into frames of `piece` bytes (0: one). */
void h2_peer_headers(struct h2_peer *p, uint32_t id, struct span block, bool end, size_t piece);
void h2_peer_data(struct h2_peer *p, uint32_t id, struct span bytes, bool end);
void h2_peer_padded(struct h2_peer *p, uint32_t id, struct span bytes, uint8_t padding, bool end);
void h2_peer_reset(struct h2_peer *p, uint32_t id, enum h2_error code);
void h2_peer_window(struct h2_peer *p, uint32_t id, uint32_t n);
void h2_peer_settings(struct h2_peer *p, const struct h2_row *rows, size_t count);
void h2_peer_ping(struct h2_peer *p);
/* h2_peer_raw sends a frame of any kind. */
void h2_peer_raw(struct h2_peer *p, const struct h2_frame *frame, struct span payload);
/* h2_peer_may is how much DATA of a stream weir lets us send now. */
size_t h2_peer_may(const struct h2_peer *p, const struct h2_peer_stream *st);

#endif
