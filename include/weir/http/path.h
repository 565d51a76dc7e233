/* path.h: the canonical path of a request, found once, before routing: what is matched, logged and
 * forwarded (RFC 3986 section 6.2.2). A pure function: bytes in, bytes or a refusal out.
 *
 * Always:
 * - escapes of unreserved bytes (letters, digits, - . _ ~) are decoded, others get upper-case
 *   digits; %XX without two hexadecimal digits, and escapes of controls (%00 to %1F, %7F), are
 *   refused: client.bad_request.path_escape;
 * - raw controls, spaces, bytes from 0x7f on, "#", "?" and "\" are refused:
 *   client.bad_request.path;
 * - a dot segment that goes above the root is refused, and so is one that only some backends see:
 *   "..;x" (parameters) and, where encoded slashes are kept, "..%2Fx":
 *   client.bad_request.path_dots;
 * - ";" and what follows it belong to the segment.
 * By the listener's paths.*: repeated slashes (merged, kept, refused), %2F and %5C (refused, or
 * kept as they are: no boundary of a segment), dot segments (resolved after merging, or refused),
 * escapes that are not UTF-8 when decoded (refused, or kept).
 * The result is its own canonical form, and never longer than what came. */
#ifndef WEIR_HTTP_PATH_H
#define WEIR_HTTP_PATH_H

#include "weir/base/arena.h"
#include "weir/base/end.h"

enum path_slashes { PATH_SLASHES_MERGE, PATH_SLASHES_KEEP, PATH_SLASHES_REFUSE };
enum path_encoded { PATH_ENCODED_REFUSE, PATH_ENCODED_KEEP };
enum path_dots { PATH_DOTS_RESOLVE, PATH_DOTS_REFUSE };
enum path_utf8 { PATH_UTF8_VALID, PATH_UTF8_ANY };

/* path_policy is what a listener decides; {0} is the default. */
struct path_policy {
  uint8_t slashes;       /* enum path_slashes */
  uint8_t encoded_slash; /* enum path_encoded */
  uint8_t dot_segments;  /* enum path_dots */
  uint8_t utf8;          /* enum path_utf8 */
};

/* path_canonical makes the canonical form of path, which begins with "/". Borrows path when it is
 * canonical already (one pass, nothing copied), else *out is in the arena. False: *why is the
 * cause, or LIMIT_STREAM_MEMORY; *out untouched. */
MUST_USE bool path_canonical(struct span path, const struct path_policy *policy,
                             struct arena *arena, struct span *out, enum end *why);

#endif
