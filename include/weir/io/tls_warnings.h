/* tls_warnings.h: what clients will make of a compiled policy, for those who can mend it before:
 * certificates and CRLs that are not valid now, names that certificates lack (RFC 9525). Every
 * sentence names the file. Not on the data path. */
#ifndef WEIR_IO_TLS_WARNINGS_H
#define WEIR_IO_TLS_WARNINGS_H

#include "weir/io/tls.h"

/* TLS_BAD_NAMES is a bit beside the index of a certificate: of the names that it is given. */
#define TLS_BAD_NAMES 0x20000000u
/* TLS_BAD_SUITES is one too: no suite of TLS 1.2 that is allowed is for its key; TLS_BAD_NAMELESS:
 * it has no name, and is given none. */
#define TLS_BAD_SUITES 0x10000000u
#define TLS_BAD_NAMELESS 0x08000000u

/* tls_server_warning writes a sentence about the next thing from *from (0 at first) on that is not
 * valid at now_s or of no use, and its index to *bad: of a certificate (with a bit from above, or
 * none: it is not valid), or TLS_BAD_AUTH + row. False: there is none. */
bool tls_server_warning(const struct tls_server *server, int64_t now_s, uint32_t *from,
                        uint32_t *bad, struct buf *why);
/* tls_server_lacks writes a sentence about what clients that ask for host (a name, an address, or
 * "*.x": for all below x) meet instead of a certificate that has it. False: one has it, or is
 * given it (tls_server_warning tells of that), or some below x are served. */
bool tls_server_lacks(const struct tls_server *server, struct span host, struct buf *why);

#endif
