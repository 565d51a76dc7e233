/* grpc_web.h: gRPC-Web (PROTOCOL-WEB), which is gRPC for those who cannot see trailers: these come
 * as a last frame of the body, and in its text form all of the body is base64. Here are the words
 * and the frames; the body itself passes through proxy/grpc_web.c. */
#ifndef WEIR_HTTP_GRPC_WEB_H
#define WEIR_HTTP_GRPC_WEB_H

#include "weir/base/buf.h"
#include "weir/base/span.h"
#include "weir/http/message.h"

enum grpc_web { GRPC_WEB_NONE, GRPC_WEB_BINARY, GRPC_WEB_TEXT };

/* grpc_web_of is the form that a Content-Type says. */
enum grpc_web grpc_web_of(struct span content_type);
/* grpc_web_accepted is the form in which an Accept field wants the answer; NONE: it names none. */
enum grpc_web grpc_web_accepted(struct span accept);
/* grpc_web_type is the Content-Type of a form, to which a suffix is added. */
struct span grpc_web_type(enum grpc_web form);
/* grpc_suffix is "+proto" and the like of a Content-Type of gRPC or gRPC-Web; empty: none. */
struct span grpc_suffix(struct span content_type);

/* grpc_web_trailers_len is the size of the last frame, with the rows that have no flag. */
size_t grpc_web_trailers_len(const struct http_fields *rows);
/* grpc_web_trailers_write appends it: flag 0x80, length, lines with names in lower case. */
void grpc_web_trailers_write(const struct http_fields *rows, struct buf *out);

/* grpc_frames follows a body from message to message. Begin with zeroes. */
struct grpc_frames {
  uint32_t left;  /* bytes of the present message to come */
  uint8_t header; /* bytes of its header that came, 0 to 4 */
  uint32_t size;  /* as far as the header tells it */
};
void grpc_frames_take(struct grpc_frames *frames, struct span bytes);
/* grpc_frames_between: the last message came to its end. */
static inline bool grpc_frames_between(const struct grpc_frames *frames) {
  return frames->left == 0 && frames->header == 0;
}

#endif
