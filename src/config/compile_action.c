/* compile_action.c: what a route does, from its row: pool, redirect or response, and how requests
 * are rewritten. Called by compile.c. */
#include "compile_priv.h"
#include "weir/http/uri.h"

static struct span own(struct route *route, struct span s) {
  return arena_copy(&route->obj.arena, s, NULL);
}

/* authority takes a host that config/ wrote apart. */
static struct http_host authority(struct route *route, struct span text) {
  struct http_host host = {0};
  enum end why;
  if (text.len) check(http_host_canonical(text, &route->obj.arena, &host, &why));
  host.name = own(route, host.name);
  return host;
}

static void action_pool(struct route *route, const struct conf_route *row) {
  route->rewrite = (struct route_rewrite){.prefix = own(route, row->rewrite_prefix),
                                          .path = own(route, row->rewrite_path),
                                          .to = own(route, row->rewrite_to)};
  if (row->rewrite_regex.len) route->rewrite.regex = regex_get(row->rewrite_regex);
  route->host.endpoint = word_find(option_get(OPTION_ROUTE_HOST)->words, row->host) == 0;
  if (route->host.endpoint) return;
  struct http_host host = authority(route, row->host);
  route->host.name = host.name;
  route->host.port = host.port;
}

static void action_redirect(struct route *route, const struct conf_route *row) {
  bool keep = row->redirect_query == QUERY_AUTO ? row->redirect_to.len == 0
                                                : row->redirect_query == QUERY_KEEP;
  route->status = row->redirect_status;
  route->redirect = (struct route_redirect){.to = own(route, row->redirect_to),
                                            .host = authority(route, row->redirect_host).name,
                                            .path = own(route, row->redirect_path),
                                            .prefix = own(route, row->redirect_prefix),
                                            .port = row->redirect_port,
                                            .scheme = row->redirect_scheme,
                                            .query = keep};
}

static void action_respond(struct route *route, const struct conf_route *row) {
  bool file = row->respond_file.len > 0;
  route->status = row->respond_status;
  route->respond =
      (struct route_respond){.body = own(route, file ? row->file_bytes : row->respond_body),
                             .content_type = own(route, row->respond_type),
                             .fields = field_sets(&route->obj.arena, &row->respond_headers),
                             .field_count = row->respond_headers.count};
}

void route_action(struct compile *c, struct route *route, const struct conf_route *row,
                  struct pool *pool) {
  if (pool) {
    route->action = ROUTE_POOL;
    route->pool = pool;
    object_ref(c->registry, &pool->obj);
    action_pool(route, row);
  } else if (row->splits.count) {
    split_fill(c, route, row);
    action_pool(route, row);
  } else if (route_redirects(row)) {
    route->action = ROUTE_REDIRECT;
    action_redirect(route, row);
  } else {
    route->action = ROUTE_RESPOND;
    action_respond(route, row);
  }
}
