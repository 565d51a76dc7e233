/* explain_priv.h: what explain.c finds out, for explain_write.c to tell. */
#ifndef WEIR_PROXY_EXPLAIN_PRIV_H
#define WEIR_PROXY_EXPLAIN_PRIV_H

#include "weir/filter/filter.h"
#include "weir/http/h1.h"
#include "weir/proxy/explain.h"

/* explain is one question and what became of it. */
struct explain {
  const struct snapshot *snapshot;
  const struct explain_ask *ask;
  struct text *out;
  struct arena arena;
  struct regex_scratch *scratch;
  const struct snapshot_listener *listener;
  struct span authority; /* of the URL */
  bool tls;
  struct text head; /* as a client would send it */
  struct http_request request;
  struct filter_ctx ctx;
  bool parsed, canonical; /* how far it came */
  bool differs;           /* the two matchers do: our mistake, told instead of an answer */
  enum end end;           /* OK: the route answers, or redirect_https does */
  enum route_verdict verdict; /* when there are stories */
  struct route_hit hit;
  struct route_story *stories; /* NULL: no route was asked */
  struct pool *passed; /* of a listener that serves no HTTP: where the connection goes */
  struct pool *drawn; /* of a split: the part that the key decides for; NULL: chance does */
  unsigned responded;          /* status that a filter answers with (CORS preflight); 0: none */
};

void explain_text(const struct explain *e);
void explain_json(const struct explain *e);

#endif
