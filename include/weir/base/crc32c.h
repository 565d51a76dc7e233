/* crc32c.h: the checksum of RFC 3720 appendix B.4 (Castagnoli), as PROXY headers have it. For a
 * few KiB at most: no tables of size, no instructions of one machine. Protects from mistakes, not
 * from attackers. */
#ifndef WEIR_BASE_CRC32C_H
#define WEIR_BASE_CRC32C_H

#include <stdint.h>

#include "weir/base/span.h"

/* crc32c goes on from crc, the checksum of what stands before bytes; 0: nothing does. */
uint32_t crc32c(uint32_t crc, struct span bytes);

#endif
