/* trailer_priv.h: the trailer section of one direction's body (trailer.c). */
#ifndef WEIR_PROXY_TRAILER_PRIV_H
#define WEIR_PROXY_TRAILER_PRIV_H

#include "weir/base/buf.h"
#include "weir/base/end.h"
#include "weir/http/message.h"

struct conn;
struct pump;
struct stream;

/* trailers stand in the stream's arena. */
struct trailers {
  struct buf lines;        /* HTTP/1: as they came, so far */
  struct http_fields rows; /* those with a flag are not passed on */
};

/* trailers_wanted: the client takes those of the response. */
bool trailers_wanted(const struct stream *s);
/* trailers_gather keeps the trailer lines of what the decoder of p's body consumed last,
 * trailers_parse makes them fields when that is done. False: *why. */
MUST_USE bool trailers_gather(struct stream *s, struct pump *p, struct span consumed,
                              enum end *why);
MUST_USE bool trailers_parse(struct stream *s, struct pump *p, enum end *why);
/* trailers_take: p's body has these, which were judged by http/trailer.h. */
void trailers_take(struct stream *s, struct pump *p, const struct http_fields *rows);
/* trailers_routed: a route was found: its policies hold for trailers that came before. */
void trailers_routed(struct stream *s);
/* trailers_any: there are some to be passed on. */
bool trailers_any(const struct stream *s, const struct pump *p);
/* trailers_end ends p's body in the framing of its sink, with its trailers. False: no buffer. */
MUST_USE bool trailers_end(struct stream *s, struct pump *p, struct conn *sink);

#endif
