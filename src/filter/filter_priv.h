/* filter_priv.h: the functions that filters.def names. */
#ifndef WEIR_FILTER_PRIV_H
#define WEIR_FILTER_PRIV_H

#include "weir/filter/filter.h"

enum filter_result forwarded_request(struct filter_ctx *ctx);
enum filter_result client_cert_request(struct filter_ctx *ctx);
enum filter_result cors_request(struct filter_ctx *ctx);
enum filter_result cors_response(struct filter_ctx *ctx);
enum filter_result via_request(struct filter_ctx *ctx);
enum filter_result via_response(struct filter_ctx *ctx);
enum filter_result strip_prefix_request(struct filter_ctx *ctx);
enum filter_result sticky_response(struct filter_ctx *ctx);

enum filter_result rate_response(struct filter_ctx *ctx);
enum filter_result rewrite_request(struct filter_ctx *ctx);
enum filter_result headers_request(struct filter_ctx *ctx);
enum filter_result headers_response(struct filter_ctx *ctx);

/* filter_addr writes an IP address into the arena; "unix:" for a unix socket; empty: no room. */
struct span filter_addr(struct filter_ctx *ctx, const struct addr *a);
/* filter_full ends the stream because its memory is used up. */
enum filter_result filter_full(struct filter_ctx *ctx);
/* filter_add adds a field, or ends the stream when its memory is used up. */
enum filter_result filter_add(struct filter_ctx *ctx, struct http_fields *fields, struct span name,
                              struct span value);

#endif
