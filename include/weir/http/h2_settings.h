/* h2_settings.h: SETTINGS of one side of an HTTP/2 connection (RFC 9113 section 6.5) and the
 * frames that weir writes. Writers append a frame whole, or nothing and set buf.full. */
#ifndef WEIR_HTTP_H2_SETTINGS_H
#define WEIR_HTTP_H2_SETTINGS_H

#include "weir/base/buf.h"
#include "weir/http/h2_frame.h"

enum h2_setting {
#define SETTING(id, member, code, initial, least, most, error) H2_SETTING_##id = (code),
#include "weir/http/h2_setting.def"
#undef SETTING
};

/* h2_settings are the values in force. UINT32_MAX stands for "no limit" where that is the default.
 */
struct h2_settings {
#define SETTING(id, member, code, initial, least, most, error) uint32_t member;
#include "weir/http/h2_setting.def"
#undef SETTING
};

/* h2_settings_default are those before any SETTINGS frame. */
extern const struct h2_settings h2_settings_default;

/* h2_refusal is why a connection ends. */
struct h2_refusal {
  enum h2_error error;
  struct span reason;
};

/* h2_settings_set takes one row that a peer sent. Unknown identifiers are ignored. False: a
 * connection error, *why (its reason is static text), and nothing is changed. by_server: the peer
 * is a server, which must not enable push, nor take extended CONNECT back (RFC 8441 section 3). */
MUST_USE bool h2_settings_set(struct h2_settings *settings, bool by_server, uint32_t id,
                              uint32_t value, struct h2_refusal *why);

/* h2_row is one row of a SETTINGS frame to be written. */
struct h2_row {
  enum h2_setting id;
  uint32_t value;
};

/* h2_write_head writes the nine bytes before a payload of frame->length (padding not). */
void h2_write_head(struct buf *b, const struct h2_frame *frame);
/* h2_fill_head writes them over nine bytes that stand in b already, from `at` on: for a payload
 * that was written before its length was known. */
void h2_fill_head(struct buf *b, size_t at, const struct h2_frame *frame);
void h2_write_settings(struct buf *b, const struct h2_row *rows, size_t count);
void h2_write_settings_ack(struct buf *b);
/* h2_write_ping: opaque has 8 bytes. */
void h2_write_ping(struct buf *b, bool ack, struct span opaque);
/* h2_write_window_update: increment is 1 to 2^31-1. */
void h2_write_window_update(struct buf *b, uint32_t stream, uint32_t increment);
void h2_write_rst_stream(struct buf *b, uint32_t stream, enum h2_error error);
/* h2_write_goaway: debug is for people who look at the wire; it may be empty. */
void h2_write_goaway(struct buf *b, uint32_t last, enum h2_error error, struct span debug);
/* h2_write_block writes an encoded field block as HEADERS and as many CONTINUATIONs as the peer's
 * max_frame asks for. */
void h2_write_block(struct buf *b, uint32_t stream, bool end_stream, struct span block,
                    uint32_t max_frame);
/* h2_write_data_head writes what stands before len bytes of a body. */
void h2_write_data_head(struct buf *b, uint32_t stream, bool end_stream, uint32_t len);

#endif
