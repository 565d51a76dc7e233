/* bytes.c: the table of byte classes behind every h1 parser (RFC 9110 5.5 and 5.6.2, RFC 3986).
 * Only data; the scans are in bytes_priv.h. */
#include "bytes_priv.h"

#define __ 0                          /* controls, DEL */
#define VV BYTE_VALUE                 /* HTAB, SP, obs-text */
#define GG (BYTE_VALUE | BYTE_TARGET) /* / ? \ */
#define PP (GG | BYTE_PATH)           /* other delimiters */
#define TS (GG | BYTE_TOKEN)          /* # and % */
#define TT (PP | BYTE_TOKEN)          /* letters and marks */
#define TU (TT | BYTE_UNDERSCORE)     /* _ */
#define TH (TT | BYTE_HEX)            /* 0-9 a-f A-F */

/* clang-format off */
const uint8_t http_byte_class[256] = {
    __, __, __, __, __, __, __, __, __, VV, __, __, __, __, __, __,  /* 00 */
    __, __, __, __, __, __, __, __, __, __, __, __, __, __, __, __,  /* 10 */
    VV, TT, PP, TS, TT, TS, TT, TT, PP, PP, TT, TT, PP, TT, TT, GG,  /* 20 */
    TH, TH, TH, TH, TH, TH, TH, TH, TH, TH, PP, PP, PP, PP, PP, GG,  /* 30 */
    PP, TH, TH, TH, TH, TH, TH, TT, TT, TT, TT, TT, TT, TT, TT, TT,  /* 40 */
    TT, TT, TT, TT, TT, TT, TT, TT, TT, TT, TT, PP, GG, PP, TT, TU,  /* 50 */
    TT, TH, TH, TH, TH, TH, TH, TT, TT, TT, TT, TT, TT, TT, TT, TT,  /* 60 */
    TT, TT, TT, TT, TT, TT, TT, TT, TT, TT, TT, PP, TT, PP, TT, __,  /* 70 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* 80 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* 90 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* a0 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* b0 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* c0 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* d0 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* e0 */
    VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV, VV,  /* f0 */
};
/* clang-format on */
