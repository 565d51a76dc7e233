/* explain.h: what would become of one request, told instead of done: the candidates in their
 * order, why each lost, the winner and where it goes. The same parser, path policy, trust and
 * filters as a real request; the routes by the slow twin, which is compared with the compiled
 * table. For `weir explain`: allocates, so not for workers. */
#ifndef WEIR_PROXY_EXPLAIN_H
#define WEIR_PROXY_EXPLAIN_H

#include "weir/base/buf.h"
#include "weir/model/model.h"

#define EXPLAIN_FIELDS_MAX 64u

/* explain_ask is a request as a person writes it. */
struct explain_ask {
  struct span method;
  struct span url;      /* "http://host:port/path?query", "https://..." or "/path" */
  struct span from;     /* IP address of the peer; empty: 127.0.0.1 */
  struct span listener; /* name; empty: the one that the URL fits */
  struct span fields[EXPLAIN_FIELDS_MAX]; /* "Name: value" */
  uint32_t field_count;
  bool json;
  bool unresolved; /* the snapshot's names were never asked for (of a file) */
};

/* explain_write appends the story to out; false: the question makes no sense, and out has a
 * sentence that says why, without line break. snapshot NULL: nothing runs yet, which is one. */
MUST_USE bool explain_write(const struct snapshot *snapshot, const struct explain_ask *ask,
                            struct text *out);

/* A question on its way through the admin socket: words separated by spaces, each of them a
 * letter, "=" and the value with %XX for what is no visible ASCII or "%". */
void explain_pack(const struct explain_ask *ask, struct text *line);
/* explain_unpack reads words that explain_pack wrote; values go to room. False: too many fields,
 * or they do not fit. Words that it does not know are left out. */
MUST_USE bool explain_unpack(struct span words, struct explain_ask *ask, struct buf *room);

#endif
