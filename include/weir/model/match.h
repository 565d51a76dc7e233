/* match.h: what a route may ask of a request beside host and path: header fields, query
 * parameters, cookies, the client's network. Immutable; config/ fills it, route_table.c asks.
 *
 * - A field, parameter or cookie that stands more than once fits when any of its lines does;
 *   "absent" wants none, nor one whose name has "_" for "-" (CGI and its kin read both alike).
 * - Fields count only as they will be passed on: hop-by-hop and nominated ones are not there, nor
 *   are the X-Forwarded-* and kin of a client that is not trusted. Upgrade is, while it is asked
 *   for. Names without regard to case, values byte for byte.
 * - The query is cut at "&"; names and values are compared decoded (%XX, and "+" is a space, as
 *   in forms); a broken escape stands for itself. A name without "=" has an empty value.
 * - Cookies are cut at ";", trimmed, name before the first "="; a piece without "=" is none.
 *   Quotes belong to the value (RFC 6265 section 4.2). */
#ifndef WEIR_MODEL_MATCH_H
#define WEIR_MODEL_MATCH_H

#include "weir/base/addr.h"
#include "weir/base/regex.h"
#include "weir/http/message.h"

enum match_kind { MATCH_EXACT, MATCH_PREFIX, MATCH_REGEX, MATCH_PRESENT, MATCH_ABSENT };

/* match_value is one condition on a named value. */
struct match_value {
  struct span name;    /* of headers: any case */
  struct span text;    /* exact, prefix, or the regex as written */
  struct regex *regex; /* MATCH_REGEX */
  uint16_t id;         /* of headers: enum http_name */
  uint8_t kind;        /* enum match_kind */
};

/* match_part says what a condition is about. */
enum match_part { MATCH_HEADER, MATCH_QUERY, MATCH_COOKIE, MATCH_PART_COUNT };

/* match_cert is a client's certificate as routes see it. */
#define MATCH_DIGEST_BYTES 32u
struct match_cert {
  const uint8_t *fingerprint, *key; /* SHA-256 of the certificate, of its public key */
  const struct span *sans;          /* "dns:a.example", "uri:...", "email:...", "ip:..." */
  uint32_t san_count;
  struct span subject, issuer, hash; /* not asked by routes: for variables */
};

/* match_cert_rule is what a route asks of it: of each list that has any, one must fit. A name that
 * ends in "*" fits what begins with the rest, "dns:*.x" each name below x. */
struct match_cert_rule {
  bool absent; /* there is none, and nothing else is asked */
  const struct span *sans;
  uint32_t san_count;
  const uint8_t (*fingerprints)[MATCH_DIGEST_BYTES];
  uint32_t fingerprint_count;
  const uint8_t (*keys)[MATCH_DIGEST_BYTES];
  uint32_t key_count;
};

/* match_rules are all conditions of a route; each must hold, and one of the sources. */
struct match_rules {
  const struct match_value *values[MATCH_PART_COUNT];
  uint32_t counts[MATCH_PART_COUNT];
  const struct addr_net *sources;
  uint32_t source_count;
  const struct match_cert_rule *cert; /* NULL: any client */
};

/* match_input is what the conditions are asked of; {0} has nothing. */
struct match_input {
  const struct http_fields *fields; /* NULL: none */
  struct span upgrade;              /* protocol that is asked for; empty: none */
  struct span query;
  const struct addr *client;     /* after trust; NULL: not known */
  const struct match_cert *cert; /* NULL: the client showed none that is good */
  struct regex_scratch *scratch; /* needed only where there is a regex */
};

enum match_answer { MATCH_NO, MATCH_YES, MATCH_LIMIT };

/* match_lost says which condition did not hold, or met its limit. */
struct match_lost {
  enum match_part part;
  const struct match_value *value;
};

/* match_rules_hold asks headers, then query, then cookies, in their order; stops at the first that
 * does not hold. sources and cert are not asked. lost may be NULL. No allocation. */
MUST_USE enum match_answer match_rules_hold(const struct match_rules *rules,
                                            const struct match_input *in, struct match_lost *lost);

/* match_cert_holds asks the client's certificate (NULL: none); rule NULL: anything holds. */
bool match_cert_holds(const struct match_cert_rule *rule, const struct match_cert *cert);

/* match_source_rank: 0 without sources; else 1 + bits of the longest network that holds the
 * client, or MATCH_SOURCE_NONE. */
#define MATCH_SOURCE_NONE UINT32_MAX
uint32_t match_source_rank(const struct match_rules *rules, const struct addr *client);

#endif
