/* message.h: one HTTP message as weir understood it, whatever version brought it (RFC 9110). The
 * structs own nothing: spans point into the head that the parser was given, into its arena or
 * into static text, and live as long as those. */
#ifndef WEIR_HTTP_MESSAGE_H
#define WEIR_HTTP_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "weir/base/arena.h"
#include "weir/base/span.h"
#include "weir/http/name.h"

/* http_result is what every incremental parser answers. */
enum http_result {
  HTTP_DONE, /* complete; out is set */
  HTTP_MORE, /* give more bytes; nothing is wrong so far */
  HTTP_BAD,  /* refused; *why is set, nothing else */
};

/* http_field_flag: why a serialiser leaves a row out. 0: it is written. */
enum http_field_flag {
  HTTP_FIELD_HOP = 1,        /* hop-by-hop, or nominated by Connection */
  HTTP_FIELD_OWN = 2,        /* Host, Content-Length: weir writes its own */
  HTTP_FIELD_FORWARDING = 4, /* of a request: X-Forwarded* and kin; clear it to pass it on */
  HTTP_FIELD_ALIAS = 8,      /* of a request: `X_Forwarded_For` and kin: never passed on */
  HTTP_FIELD_DROP = 16,      /* a filter took it out */
};

/* http_field is one field line; value has no white space at its ends. */
struct http_field {
  struct span name, value;
  uint16_t id;    /* enum http_name */
  uint16_t flags; /* set of http_field_flag */
  bool secret;    /* no hop may index it: it stays a never-indexed literal (RFC 7541 6.2.3) */
};

/* http_field_passed_on: a backend will see this row, so it counts for what fields decide. */
static inline bool http_field_passed_on(const struct http_field *row) {
  return (row->flags & ~(unsigned)HTTP_FIELD_OWN) == 0;
}

/* http_field_written: a serialiser writes this row. */
static inline bool http_field_written(const struct http_field *row) { return row->flags == 0; }

/* http_fields is a list in the order of arrival. */
struct http_fields {
  struct http_field *rows;
  uint32_t count, cap;
  uint64_t present;  /* bit per enum http_name that stands in rows (whatever its flags) */
  uint64_t repeated; /* bit per enum http_name that stands there more than once */
};

/* http_fields_has: does a row of this name exist (whatever its flags)? id is not OTHER. */
static inline bool http_fields_has(const struct http_fields *f, enum http_name id) {
  return (f->present >> id) & 1;
}
/* http_fields_find gives the first row of a known name, or NULL. O(1) when absent. */
struct http_field *http_fields_find(const struct http_fields *fields, enum http_name id);
/* http_fields_next gives the next row of the same known name after prev (NULL: the first). */
struct http_field *http_fields_next(const struct http_fields *fields, enum http_name id,
                                    const struct http_field *prev);
/* http_fields_find_name gives the first row of any name (any case), or NULL. */
struct http_field *http_fields_find_name(const struct http_fields *fields, struct span name);
/* http_fields_add appends a row with no flags, so it will be written; name and value are borrowed.
 * False, and nothing added, when they are not valid or the arena is full. */
MUST_USE bool http_fields_add(struct http_fields *fields, struct arena *arena, struct span name,
                              struct span value);
/* http_fields_drop marks all rows of a name (any case) HTTP_FIELD_DROP; how many. */
uint32_t http_fields_drop(struct http_fields *fields, struct span name);

enum http_method {
#define METHOD(id, text, safe, idempotent, content) HTTP_METHOD_##id,
#include "weir/http/method.def"
#undef METHOD
  HTTP_METHOD_OTHER,
  HTTP_METHOD_COUNT
};
/* http_method_find is case-sensitive (RFC 9110 9.1). */
enum http_method http_method_find(struct span text);
/* http_method_text is the method's name; empty for HTTP_METHOD_OTHER. */
struct span http_method_text(enum http_method method);
bool http_method_safe(enum http_method method);
bool http_method_idempotent(enum http_method method);
bool http_method_content(enum http_method method); /* is meant to have a content */

/* http_body says how a message's body ends on the wire (RFC 9112 section 6.3). */
enum http_body {
  HTTP_BODY_NONE,    /* no body; nothing follows the head */
  HTTP_BODY_LENGTH,  /* content_length bytes follow (may be 0) */
  HTTP_BODY_CHUNKED, /* a body of unknown length follows that says where it ends: chunks, DATA */
  HTTP_BODY_CLOSE,   /* until the peer closes (responses only) */
  HTTP_BODY_TUNNEL,  /* no longer HTTP: 101, or 2xx to CONNECT (responses only) */
};

/* http_form is the shape of the request target (RFC 9112 section 3.2). */
enum http_form { HTTP_FORM_ORIGIN, HTTP_FORM_ABSOLUTE, HTTP_FORM_ASTERISK, HTTP_FORM_AUTHORITY };

enum http_scheme { HTTP_SCHEME_NONE, HTTP_SCHEME_HTTP, HTTP_SCHEME_HTTPS };

/* http_request is a parsed request head. */
struct http_request {
  enum http_method method;
  enum http_form form;
  enum http_scheme scheme; /* of an absolute-form target or :scheme, else NONE */
  enum http_body body;     /* NONE, LENGTH or CHUNKED */
  struct span method_text;
  struct span target;      /* as it came; of HTTP/2: :path */
  struct span path;        /* begins with "/", or is "*"; never empty; canonical from routing on */
  struct span query;       /* without "?"; empty both for none and for "?" */
  struct span host;        /* canonical (uri.h); empty: HTTP/1.0 without Host */
  struct span upgrade;     /* protocol to switch to (first of the list), empty: none */
  uint64_t content_length; /* of HTTP_BODY_LENGTH, else 0 */
  uint32_t head_len;       /* bytes of the head with leading empty lines and the last CRLF */
  uint16_t port;           /* of the authority as written; 0: none */
  uint8_t minor;           /* 0 or 1; 1 also of HTTP/2, which can all that 1.1 can */
  uint8_t secret;          /* of HTTP/2: bit per pseudo-field (h2_pseudo_id), as of http_field */
  bool h2;                 /* it came by HTTP/2 */
  bool ended;              /* by HTTP/2: the head is all of it, no trailers follow */
  bool has_query, keepalive; /* keepalive: the client wants the connection kept */
  bool expect_continue; /* 1.1 with a body: the client waits for 100 (Continue) */
  struct http_fields fields;
};

/* http_response is a parsed response head; 1xx heads are messages of their own. */
struct http_response {
  uint16_t status; /* 100 to 599 */
  uint8_t minor, secret; /* 0 or 1; 1 also of HTTP/2. secret: as in http_request */
  bool h2;         /* it came by HTTP/2 */
  bool ended;      /* by HTTP/2: the head is all of it, no trailers follow */
  enum http_body body;
  struct span reason;
  struct span upgrade;     /* of 101: the protocol switched to */
  uint64_t content_length; /* valid when has_length */
  bool has_length;         /* Content-Length may be passed on: also for HEAD and 304 */
  bool keepalive;          /* the connection may be used again after the body */
  uint32_t head_len;
  struct http_fields fields;
};

/* http_request_open, http_response_open: it came by HTTP/2 and goes on behind its head: whatever
 * length it states, trailers may follow. */
static inline bool http_request_open(const struct http_request *r) { return r->h2 && !r->ended; }
static inline bool http_response_open(const struct http_response *r) { return r->h2 && !r->ended; }

/* http_status_reason is the registered phrase of a status; empty when not registered. */
struct span http_status_reason(unsigned status);

#endif
