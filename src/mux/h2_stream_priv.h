/* h2_stream_priv.h: streams as the files of mux/ see them (h2_stream.c). */
#ifndef WEIR_MUX_H2_STREAM_PRIV_H
#define WEIR_MUX_H2_STREAM_PRIV_H

#include "weir/base/list.h"
#include "weir/base/slab.h"
#include "weir/http/h2_frame.h"
#include "weir/io/carried.h"
#include "weir/mux/h2.h"

enum h2_stream_mark {
  H2_REMOTE_END = 1, /* END_STREAM or RST_STREAM came */
  H2_LOCAL_END = 2,  /* END_STREAM or RST_STREAM was sent */
  H2_RESET = 4,      /* RST_STREAM was sent, or came */
  H2_HEADED = 8,     /* the peer's head came */
  H2_FINISH = 16,    /* the owner has no more to send */
  H2_SETTLES = 32,   /* its conn opens when the peer's SETTINGS are here */
  H2_TRAILERS = 64,  /* it came */
  H2_TOLD = 128,     /* of the connection's end */
  H2_UNTOUCHED = 256, /* the peer says that it did not act on it */
  H2_HEAD_WAITS = 512, /* `late` is to be sent, before all else */
  H2_HEAD_ENDS = 1024, /* and nothing follows it */
  H2_TOGETHER = 2048,  /* its connection ended where it was not alone, or not the first */
  H2_TOLD_WHY = 4096,  /* the peer reset it: told */
  H2_WHOLE = 16384, /* a client's: END_STREAM came, and the peer reset the rest of the request */
};

struct h2_stream {
  struct slab_head head;
  struct carried what;
  struct h2 *h2;
  struct h2_stream *next, **at; /* in its bucket: the next one, and who points to this one */
  struct list link, ready;
  uint32_t id;
  int32_t send_window, recv_window;
  uint32_t recv_credit;    /* read and not given back yet */
  uint32_t recv_size;      /* the window that it is to have */
  uint32_t head_bytes;     /* its part of h2.heads_bytes */
  uint64_t received, read; /* bytes of DATA that went to the conn; that its owner took */
  uint64_t sent, promise; /* bytes of DATA; how many there will be, UINT64_MAX: nobody knows */
  struct span offered; /* by the conn */
  struct http_fields trailers; /* to be sent at the end, in kept */
  const struct http_response *late; /* a head that found no room, in kept (H2_HEAD_WAITS) */
  const struct h2_request_head *late_request; /* or this one; what it points to is the owner's */
  struct arena kept;
  struct h2_section *section;
  struct arena *arena;
  struct h2_length length;
  uint64_t begun_ms;
  enum end end;
  uint32_t told;  /* the code of the peer's RST_STREAM (H2_TOLD_WHY) */
  uint16_t marks; /* set of enum h2_stream_mark */
  uint16_t long_ms; /* when the peer resets it at this age it is not early */
  uint8_t urgency;
  bool incremental, offered_fin;
};

static inline bool stream_any(const struct h2_stream *st, uint32_t marks) {
  return (st->marks & marks) != 0;
}
static inline bool stream_let_go(const struct h2_stream *st) { /* by its owner */
  return (st->what.conn->flags & CONN_CLOSING) != 0;
}

struct h2_stream *h2_stream_find(const struct h2 *h, uint32_t id);
/* h2_stream_open makes one, of ours without a number yet (0); NULL: no slot is left. open: its
 * conn is. */
struct h2_stream *h2_stream_open(struct h2 *h, uint32_t id, bool open);
/* h2_window_told is what streams may be sent at first, as far as the peer knows: the default until
 * it has acknowledged our SETTINGS (RFC 9113 section 6.9.3). h2_windows_settle: it has. */
uint32_t h2_window_told(const struct h2 *h);
void h2_windows_settle(struct h2 *h);
/* h2_stream_number gives one of ours the next number: its head goes out now. */
void h2_stream_number(struct h2_stream *st);
/* h2_stream_unnumber takes it back: nothing was sent. */
void h2_stream_unnumber(struct h2_stream *st);
/* h2_streams_above fails those of ours with higher numbers: the peer will not act on them. */
void h2_streams_above(struct h2 *h, uint32_t last);
/* h2_streams_untouched: the peer has seen none of those that are open. */
void h2_streams_untouched(struct h2 *h);
/* h2_streams_opened tells those that wait for it that the connection came to be, or did not; those
 * that waited for SETTINGS and are more than these allow, -H2_ANEW_FULL. */
void h2_streams_opened(struct h2 *h, int err);
/* h2_streams_secure tells all that the handshake of the connection is done. */
void h2_streams_secure(struct h2 *h);
/* h2_stream_reset sends RST_STREAM and fails the conn: st may be gone. */
void h2_stream_reset(struct h2_stream *st, enum h2_error error, enum end end);
/* h2_stream_drop ends one that nobody wants, without a word to the peer. */
void h2_stream_drop(struct h2_stream *st);
/* h2_stream_peer_end is END_STREAM from the peer: st may be gone. */
void h2_stream_peer_end(struct h2_stream *st);
/* h2_streams_doom marks all as lost but those of ours whose response is whole: these stay till it
 * is read. h2_streams_tell fails the conns of so many; true: of all. */
void h2_streams_doom(struct h2 *h, enum end end);
bool h2_streams_tell(struct h2 *h, uint32_t most);
/* h2_write_reset sends RST_STREAM for a number without a stream, too. */
void h2_write_reset(struct h2 *h, uint32_t id, enum h2_error error);
/* h2_is_forgotten: we have reset it not long ago. h2_is_ignored: it came after the last call. */
bool h2_is_forgotten(const struct h2 *h, uint32_t id);
bool h2_is_ignored(const struct h2 *h, uint32_t id);

/* h2_window.c: windows are opened when it is worth a frame. */
/* h2_window_came: n bytes more have come. h2_read_back: n are read, or never will be; st NULL: it
 * needs none of its own back. */
void h2_window_came(struct h2 *h, size_t n);
void h2_read_back(struct h2 *h, struct h2_stream *st, size_t n);
/* h2_window_withheld: the peer waits for buffers to come back. To be asked again soon. */
bool h2_window_withheld(struct h2 *h);

#endif
