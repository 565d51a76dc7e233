/* The little HTTP/1.1 that the generator and the backend need. See http.h.
 * Names are compared without case: HAProxy sends them in lower case. */
#define _GNU_SOURCE
#include "http.h"

#include <string.h>
#include <strings.h>

static uint64_t decimal(const char *p, const char *end) {
    uint64_t value = 0;
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        value = value * 10 + (uint64_t)(*p - '0');
    }
    return value;
}

static bool name_is(const char *line, const char *end, const char *name, size_t len) {
    return (size_t)(end - line) > len && (*line | 0x20) == *name &&
           strncasecmp(line, name, len) == 0;
}

#define NAME_IS(line, end, name) name_is(line, end, name, sizeof(name) - 1)

static void header_line(const char *line, const char *end, struct http_head *out) {
    if (NAME_IS(line, end, "content-length:")) {
        out->content_length = decimal(line + sizeof("content-length:") - 1, end);
        out->has_length = true;
    } else if (NAME_IS(line, end, "connection: close")) {
        out->close = true;
    }
}

int http_head_parse(const char *bytes, size_t n, struct http_head *out) {
    const char *end = memmem(bytes, n, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }
    *out = (struct http_head){.len = (size_t)(end - bytes) + 4};
    const char *line = bytes;
    while (line < end + 2) {
        const char *stop = memchr(line, '\n', (size_t)(end + 2 - line));
        header_line(line, stop, out);
        line = stop + 1;
    }
    return 1;
}
