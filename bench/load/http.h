/* The little HTTP/1.1 that the generator and the backend need: find the end of a head, read a
 * header's number. Lenient on purpose where it costs nothing: the proxies are measured here, not
 * judged (tests/conformance does that). Called by client.c and backend.c. */
#ifndef WEIR_BENCH_HTTP_H
#define WEIR_BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_head {
    size_t len;              /* bytes up to and with the empty line */
    uint64_t content_length;
    bool has_length;
    bool close;              /* Connection: close */
};

/* http_head_parse() returns 1 when a whole head was read, 0 when more bytes are needed. */
int http_head_parse(const char *bytes, size_t n, struct http_head *out);

#endif
