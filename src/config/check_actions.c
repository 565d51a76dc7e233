/* check_actions.c: what the keys of a route's action mean together: rewriting, redirects by parts,
 * fixed responses. Called by check_routes.c. */
#include "doubt_priv.h"
#include "load_priv.h"
#include "weir/base/regex.h"
#include "weir/model/substitute.h"

static bool is_set(const struct conf_route *route, enum option_id id) {
  return row_origin(&route->row, id)->node != NULL;
}

/* any_set: is one of the options from first to last set? */
static bool any_set(const struct conf_route *route, unsigned first, unsigned last) {
  for (unsigned id = first; id <= last; id++)
    if (is_set(route, (enum option_id)id)) return true;
  return false;
}

bool route_redirects(const struct conf_route *route) {
  return any_set(route, OPTION_ROUTE_REDIRECT_TO, OPTION_ROUTE_REDIRECT_STATUS);
}

bool route_responds(const struct conf_route *route) {
  return any_set(route, OPTION_ROUTE_RESPOND_STATUS, OPTION_ROUTE_RESPOND_HEADERS);
}

static void fault_at(struct conf *conf, const struct conf_route *route, enum fault_id fault,
                     enum option_id at, const char *why) {
  fault_add(conf->faults, fault, row_place(&route->row, at), "route \"" SPAN_FMT "\": %s",
            SPAN_ARG(route->label), why);
}

/* has_prefix: what matched is a prefix that can be taken off (unset is "/"). */
static bool has_prefix(const struct conf_route *route) {
  return !is_set(route, OPTION_ROUTE_PATH) && !is_set(route, OPTION_ROUTE_REGEX);
}

static const enum option_id rewrites[] = {
    OPTION_ROUTE_REWRITE_PREFIX, OPTION_ROUTE_REWRITE_PATH, OPTION_ROUTE_REWRITE_REGEX};

/* check_groups: every group that rewrite.to names exists. */
static void check_groups(struct conf *conf, const struct conf_route *route) {
  struct regex_fault fault;
  struct regex *re = regex_new(route->rewrite_regex, &fault);
  if (!re) return; /* reported where it was read */
  int groups = (int)regex_groups(re);
  regex_free(re);
  struct span rest = route->rewrite_to;
  for (struct substitute_part part; substitute_next(&rest, &part);) {
    if (part.group <= groups) continue;
    fault_add(conf->faults, FAULT_REWRITE, row_place(&route->row, OPTION_ROUTE_REWRITE_TO),
              "route \"" SPAN_FMT "\": rewrite.regex has no group %d", SPAN_ARG(route->label),
              part.group);
    fault_note(conf->faults, "groups are counted by their opening parentheses, from 1");
    return;
  }
}

static void check_regex(struct conf *conf, const struct conf_route *route) {
  bool regex = is_set(route, OPTION_ROUTE_REWRITE_REGEX);
  bool to = is_set(route, OPTION_ROUTE_REWRITE_TO);
  if (row_lost_any(&route->row, OPTION_ROUTE_REWRITE_REGEX, OPTION_ROUTE_REWRITE_TO)) return;
  if (regex && to)
    check_groups(conf, route);
  else if (regex)
    fault_at(conf, route, FAULT_REWRITE, OPTION_ROUTE_REWRITE_REGEX, "rewrite.to is missing");
  else if (to)
    fault_at(conf, route, FAULT_REWRITE, OPTION_ROUTE_REWRITE_TO, "rewrite.regex is missing");
}

static void check_rewrite(struct conf *conf, const struct conf_route *route) {
  enum option_id at = OPTION_COUNT;
  unsigned count = 0;
  for (size_t i = 0; i < array_count(rewrites); i++) {
    if (!is_set(route, rewrites[i])) continue;
    at = rewrites[i];
    count++;
  }
  bool host = is_set(route, OPTION_ROUTE_HOST);
  bool prefix = is_set(route, OPTION_ROUTE_REWRITE_PREFIX);
  check_regex(conf, route);
  if (!count && !host) return;
  if (!is_set(route, OPTION_ROUTE_POOL) && !is_set(route, OPTION_ROUTE_SPLIT)) {
    if (route_redirects(route) || route_responds(route))
      fault_at(conf, route, FAULT_REWRITE, count ? at : OPTION_ROUTE_HOST,
               "rewrite and host are for a pool");
  } else if (count > 1) {
    fault_at(conf, route, FAULT_REWRITE, at, "rewrite has more than one of prefix, path, regex");
  } else if (count && route->strip_prefix) {
    fault_at(conf, route, FAULT_REWRITE, at, "strip_prefix and rewrite both change the path");
  } else if (prefix && !has_prefix(route)) {
    fault_at(conf, route, FAULT_REWRITE, at, "rewrite.prefix needs a prefix; use rewrite.path");
  }
}

/* has_parts: the redirect changes a part of the URL (a default that is written out changes none).
 */
static bool has_parts(const struct conf_route *route) {
  return route->redirect_scheme != REDIRECT_SAME || route->redirect_host.len ||
         route->redirect_port || route->redirect_path.len || route->redirect_prefix.len;
}

static void check_redirect(struct conf *conf, const struct conf_route *route) {
  if (!route_redirects(route) || faults_has_syntax(conf->faults)) return;
  if (is_set(route, OPTION_ROUTE_REDIRECT_TO)) {
    bool tail = span_find_char(route->redirect_to, '?', 0) != SIZE_MAX ||
                span_find_char(route->redirect_to, '#', 0) != SIZE_MAX;
    if (has_parts(route))
      fault_at(conf, route, FAULT_REDIRECT_PARTS, OPTION_ROUTE_REDIRECT_TO,
               "redirect has both \"to\" and parts");
    else if (route->redirect_query == QUERY_KEEP && tail)
      fault_at(conf, route, FAULT_REDIRECT_PARTS, OPTION_ROUTE_REDIRECT_QUERY,
               "a query cannot be appended to this \"to\"");
  } else if (is_set(route, OPTION_ROUTE_REDIRECT_PREFIX)) {
    if (is_set(route, OPTION_ROUTE_REDIRECT_PATH))
      fault_at(conf, route, FAULT_REDIRECT_PARTS, OPTION_ROUTE_REDIRECT_PATH,
               "redirect has both path and prefix");
    else if (!has_prefix(route))
      fault_at(conf, route, FAULT_REDIRECT_PARTS, OPTION_ROUTE_REDIRECT_PREFIX,
               "redirect.prefix needs a prefix; use redirect.path");
  } else if (!has_parts(route)) {
    /* A part that was refused only looks as if it was not there. */
    if (row_lost_any(&route->row, OPTION_ROUTE_REDIRECT_TO, OPTION_ROUTE_REDIRECT_PREFIX)) return;
    bool status = is_set(route, OPTION_ROUTE_REDIRECT_STATUS);
    fault_at(conf, route, FAULT_MISSING,
             status ? OPTION_ROUTE_REDIRECT_STATUS : OPTION_ROUTE_REDIRECT_SCHEME,
             "redirect needs \"to\", or a part that changes");
  }
}

static void check_respond(struct conf *conf, const struct conf_route *route) {
  unsigned status = route->respond_status;
  bool bodyless = status == 204 || status == 205 || status == 304;
  bool body = route->respond_body.len > 0, file = route->respond_file.len > 0;
  if (bodyless && (body || file)) {
    fault_add(conf->faults, FAULT_NO_BODY_STATUS,
              row_place(&route->row, body ? OPTION_ROUTE_RESPOND_BODY : OPTION_ROUTE_RESPOND_FILE),
              "a response %u has no body", status);
  } else if (file && is_set(route, OPTION_ROUTE_RESPOND_BODY)) {
    fault_at(conf, route, FAULT_BODY_AND_FILE, OPTION_ROUTE_RESPOND_FILE,
             "respond has both body and file");
  }
}

void check_actions(struct conf *conf, const struct conf_route *route) {
  check_rewrite(conf, route);
  check_redirect(conf, route);
  check_respond(conf, route);
}
