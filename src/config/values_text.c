/* values_text.c: the texts that have a form: addresses, hosts, networks, paths, methods, names,
 * secrets, files. What they refer to is not looked at here (check.c, secrets.c). Hosts and paths
 * are checked by http/'s own rules, so that a route that could never match is refused. */
#include "values_priv.h"
#include "weir/http/path.h"
#include "weir/http/uri.h"
#include "weir/model/substitute.h"

#define NAME_LEN_MAX 64u
#define BODY_LEN_MAX 16384u
#define ALPN_NAME_MAX 255u

bool value_refuse(struct value_job *job, enum fault_id id, const char *why) {
  fault_add(job->faults, id, job->node->at, "%s cannot be \"" SPAN_FMT "\"", job->option->path,
            SPAN_ARG(job->text));
  fault_note(job->faults, "%s", why);
  return false;
}

static bool refuse(struct value_job *job, enum fault_id id, const char *why) {
  return value_refuse(job, id, why);
}

static bool is_alnum(char c) {
  c = ascii_lower(c);
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_plain(struct span s) {
  for (size_t i = 0; i < s.len; i++)
    if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7f) return false;
  return s.len > 0;
}

bool name_is_good(struct span s) {
  for (size_t i = 0; i < s.len; i++) {
    bool inner = i > 0 && strchr("_.-", s.ptr[i]) != NULL && s.ptr[i] != '\0';
    if (!is_alnum(s.ptr[i]) && !inner) return false;
  }
  return s.len > 0 && s.len <= NAME_LEN_MAX;
}

static bool name(struct value_job *job) {
  if (name_is_good(job->text)) return true;
  return refuse(job, FAULT_BAD_NAME, "letters, digits, _ . and -, at most 64, first no sign");
}

static bool plain(struct value_job *job) {
  if (!job->text.len) return refuse(job, FAULT_EMPTY, "it is empty");
  return is_plain(job->text) || refuse(job, FAULT_BAD_TEXT, "it holds control characters");
}

/* file_path makes a path absolute to the file it stands in. */
static bool file_path(struct value_job *job) {
  if (!plain(job)) return false;
  struct span beside = job->node->at.src ? job->node->at.src->path : SPAN_EMPTY;
  job->text = path_join(job->arena, beside, job->text);
  return true;
}

static bool is_word(const struct value_job *job) {
  return job->option->words && word_find(job->option->words, job->text) >= 0;
}

static bool later(struct value_job *job, const char *what) {
  fault_add(job->faults, FAULT_LATER, job->node->at, "%s is not in this version", what);
  return false;
}

/* ---- addresses ---- */

/* A descriptor that a service manager passes, by its name (sd_listen_fds_with_names(3): no colon).
 */
static bool descriptor_name(struct value_job *job, struct span given) {
  if (job->option->type != TYPE_BIND)
    return refuse(job, FAULT_BAD_ADDRESS, "only a listener's bind takes a descriptor");
  if (is_plain(given) && span_find_char(given, ':', 0) == SIZE_MAX) return true;
  return refuse(job, FAULT_BAD_ADDRESS, "the name has no colon and no control characters");
}

/* port_off: is what is wrong that the port is none? */
static bool port_off(const struct value_job *job) {
  size_t colon = span_last(job->text, ':');
  uint64_t n = 0;
  if (colon == SIZE_MAX || colon == 0) return false;
  if (colon + 1 < job->text.len && span_find_char(job->text, ':', 0) < colon &&
      job->text.ptr[0] != '[')
    return false; /* an IPv6 address without brackets */
  return span_u64(span_from(job->text, colon + 1), &n) && (n == 0 || n > UINT16_MAX);
}

/* port_alone: "80", ":80" and "*:80" are ports of all addresses elsewhere. */
static bool port_alone(const struct value_job *job, uint16_t *port) {
  struct span rest = job->text;
  uint64_t n;
  if (span_starts(rest, SPAN_LIT("*:"))) rest = span_from(rest, 1);
  if (span_starts(rest, SPAN_LIT(":"))) rest = span_from(rest, 1);
  if (!span_u64(rest, &n) || n == 0 || n > UINT16_MAX) return false;
  *port = (uint16_t)n;
  return true;
}

static bool refuse_port(struct value_job *job, uint16_t port) {
  bool bind = job->option->type == TYPE_BIND;
  return refuse(job, FAULT_BAD_ADDRESS,
                arena_str(job->arena,
                          bind ? arena_printf(job->arena,
                                              "\"0.0.0.0:%u\" is all of IPv4, \"[::]:%u\" of "
                                              "IPv6; [ \"0.0.0.0:%u\", \"[::]:%u\" ] both",
                                              port, port, port, port)
                               : arena_printf(job->arena, "like \"127.0.0.1:%u\"", port)));
}

static bool local_address(struct value_job *job) {
  struct span host;
  uint16_t port = 0;
  switch (addr_split(job->text, &host, &port)) {
    case ADDR_IP: return true;
    case ADDR_UNIX:
      if (span_starts(host, SPAN_LIT("/"))) return true;
      return refuse(job, FAULT_BAD_ADDRESS, "the path begins with /: \"unix:/run/x.sock\"");
    case ADDR_NAME:
      return refuse(job, FAULT_BAD_ADDRESS, "an IP address is needed: \"127.0.0.1:8080\"");
    case ADDR_FD: return descriptor_name(job, host);
    case ADDR_BAD: break;
  }
  if (port_off(job)) return refuse(job, FAULT_BAD_ADDRESS, "a port is 1 to 65535");
  if (port_alone(job, &port)) return refuse_port(job, port);
  return refuse(job, FAULT_BAD_ADDRESS,
                job->option->type == TYPE_BIND
                    ? "known: \"ip:port\" \"[ipv6]:port\" \"unix:/path\" \"fd:name\""
                    : "known: \"ip:port\" \"[ipv6]:port\" \"unix:/path\"");
}

static bool admin_address(struct value_job *job) {
  if (is_word(job)) return true;
  if (span_starts(job->text, SPAN_LIT("unix:"))) return local_address(job);
  return refuse(job, FAULT_BAD_ADDRESS, "a unix socket, \"auto\" or \"off\"");
}

static bool upstream_address(struct value_job *job) {
  struct span host;
  uint16_t port = 0;
  enum addr_kind kind = addr_split(job->text, &host, &port);
  if (kind == ADDR_IP || kind == ADDR_NAME) return true;
  if (kind == ADDR_UNIX) return local_address(job);
  if (port_off(job)) return refuse(job, FAULT_BAD_ADDRESS, "a port is 1 to 65535");
  return refuse(job, FAULT_BAD_ADDRESS, "known: \"host:port\" \"[ipv6]:port\" \"unix:/path\"");
}

static bool network(struct value_job *job) {
  struct addr_net net;
  return addr_net_parse(job->text, &net) ||
         refuse(job, FAULT_BAD_NET, "like \"10.0.0.0/8\", no bits behind the mask");
}

/* ---- HTTP ---- */

static const char *instead_of_any(enum option_id id) {
  if (id == OPTION_ROUTE_HOSTS) return "leave hosts out to match any";
  return id == OPTION_CERT_NAMES ? "leave names out: those in the certificate count"
                                 : "leave names out to match any";
}

static bool host(struct value_job *job) {
  static const struct span star = SPAN_LIT("*.");
  bool wild = span_starts(job->text, star);
  struct span rest = wild ? span_from(job->text, star.len) : job->text;
  struct http_host canonical;
  enum end why;
  if (span_eq(job->text, SPAN_LIT("*")))
    return refuse(job, FAULT_BAD_HOST, instead_of_any(job->option->id));
  if (!span_starts(rest, SPAN_LIT("[")) && span_find_char(rest, ':', 0) != SIZE_MAX)
    return refuse(job, FAULT_BAD_HOST, "a host stands without scheme and port");
  for (size_t i = 0; i < rest.len; i++)
    if ((unsigned char)rest.ptr[i] >= 0x80)
      return refuse(job, FAULT_BAD_HOST, "write the ASCII form (punycode): xn--...");
  if (!http_host_canonical(rest, job->arena, &canonical, &why) || canonical.port != 0 ||
      span_ends(rest, SPAN_LIT(":")))
    return refuse(job, FAULT_BAD_HOST, "like \"example.com\" or \"*.example.com\"");
  struct addr ip;
  if (wild && (span_starts(rest, SPAN_LIT("[")) || addr_from_ip(canonical.name, 1, &ip)))
    return refuse(job, FAULT_BAD_HOST, "an IP address has no subdomains");
  job->text = wild ? arena_printf(job->arena, "*." SPAN_FMT, SPAN_ARG(canonical.name))
                   : arena_copy(job->arena, canonical.name, NULL);
  return true;
}

static bool authority(struct value_job *job) {
  struct http_host canonical;
  enum end why;
  if (is_word(job)) return true;
  if (!http_host_canonical(job->text, job->arena, &canonical, &why) ||
      span_ends(job->text, SPAN_LIT(":")))
    return refuse(job, FAULT_BAD_HOST, "like \"example.com\"");
  if (canonical.port && job->option->id != OPTION_ROUTE_HOST)
    return refuse(job, FAULT_BAD_HOST, "the port has a key of its own");
  struct span name = arena_copy(job->arena, canonical.name, NULL);
  job->text = canonical.port ? arena_printf(job->arena, SPAN_FMT ":%u", SPAN_ARG(name),
                                            (unsigned)canonical.port)
                             : name;
  return true;
}

static bool is_prefix(const struct option *option) {
  return option->id == OPTION_ROUTE_PREFIX || option->id == OPTION_ROUTE_REWRITE_PREFIX ||
         option->id == OPTION_ROUTE_REDIRECT_PREFIX;
}

bool value_path(struct value_job *job, struct span *path) {
  /* What a listener may keep is kept. */
  static const struct path_policy widest = {.slashes = PATH_SLASHES_KEEP,
                                            .encoded_slash = PATH_ENCODED_KEEP,
                                            .dot_segments = PATH_DOTS_REFUSE,
                                            .utf8 = PATH_UTF8_ANY};
  enum end why;
  return path_canonical(*path, &widest, job->arena, path, &why);
}

/* star_look: a star behind the last slash is how others write a prefix. */
static void star_look(struct value_job *job) {
  static const struct span star = SPAN_LIT("/*");
  bool route = job->option->id == OPTION_ROUTE_PREFIX || job->option->id == OPTION_ROUTE_PATH;
  if (!route || !span_ends(job->text, star)) return;
  struct span prefix = span_sub(job->text, 0, job->text.len - star.len);
  fault_add(job->faults, FAULT_PATH_STAR, job->node->at,
            "the * of \"" SPAN_FMT "\" is a * in the path of the request", SPAN_ARG(job->text));
  fault_note(job->faults, "prefix = \"" SPAN_FMT "\" takes all that is below it",
             SPAN_ARG(prefix.len ? prefix : SPAN_LIT("/")));
}

static bool path(struct value_job *job) {
  struct span s = job->text;
  if (!span_starts(s, SPAN_LIT("/"))) return refuse(job, FAULT_BAD_PATH, "it begins with /");
  if (span_find_char(s, '?', 0) != SIZE_MAX || span_find_char(s, '#', 0) != SIZE_MAX)
    return refuse(job, FAULT_BAD_PATH, "a path holds no query and no fragment");
  if (!value_path(job, &s)) /* in the form in which requests are matched */
    return refuse(job, FAULT_BAD_PATH, "no spaces, dot segments, broken escapes or raw UTF-8");
  job->text = s;
  star_look(job);
  if (!is_prefix(job->option)) return true;
  if (s.len > 1 && span_ends(s, SPAN_LIT("/"))) s.len--;
  if (s.len > 1 && span_ends(s, SPAN_LIT("/")))
    return refuse(job, FAULT_BAD_PATH, "a prefix does not end in an empty segment");
  job->text = s;
  return true;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* rewrite_to: with a digit in place of each group it is a path. "$1" is another proxy's. */
static bool rewrite_to(struct value_job *job) {
  struct span rest = job->text;
  struct text sample = {0};
  bool dollar = false;
  for (struct substitute_part part; substitute_next(&rest, &part);) {
    for (size_t i = 0; i + 1 < part.text.len; i++)
      dollar = dollar || (part.text.ptr[i] == '$' && is_digit(part.text.ptr[i + 1]));
    text_put(&sample, part.group == SUBSTITUTE_TEXT ? part.text : SPAN_LIT("1"));
  }
  struct span s = text_span(&sample);
  bool rooted = span_starts(s, SPAN_LIT("/"));
  bool good = rooted && !dollar && value_path(job, &s);
  text_fini(&sample);
  if (good) return true;
  return refuse(job, FAULT_BAD_PATH,
                dollar   ? "a group is written ${1}"
                : rooted ? "no query, fragment, spaces, dot segments, broken escapes or raw UTF-8"
                         : "it begins with /");
}

static bool pattern(struct value_job *job) {
  struct regex_fault fault;
  struct regex *re = regex_new(job->text, &fault);
  if (re) {
    regex_free(re);
    return true;
  }
  bool as_written = span_eq(job->text, job->node->string); /* no variable moved the place */
  struct place at = as_written ? node_part(job->node, fault.at, 1) : job->node->at;
  fault_add(job->faults, FAULT_BAD_REGEX, at, "%s cannot be \"" SPAN_FMT "\"",
            job->option->path, SPAN_ARG(job->text));
  fault_note(job->faults, "%s", fault.why);
  return false;
}

/* match_name: what is not passed on is not there for a route, so nothing can be asked of it. */
static bool match_name(struct value_job *job) {
  if (!http_is_token(job->text)) return refuse(job, FAULT_BAD_TEXT, "a field name is a token");
  enum http_name id = http_name_find(job->text);
  if (id == HTTP_NAME_HOST) return refuse(job, FAULT_BAD_TEXT, "use hosts");
  if (id != HTTP_NAME_UPGRADE && (http_name_flags(id) & (HTTP_NAME_HOP | HTTP_NAME_OWN)))
    return refuse(job, FAULT_BAD_TEXT, "this field is for one hop only and takes no part");
  return true;
}

/* field_value is a text that may be empty. */
static bool field_value(struct value_job *job) {
  struct span s = job->text;
  if (!s.len || (http_is_value(s) && span_trim(s).len == s.len)) return true;
  return refuse(job, FAULT_BAD_TEXT, "no line breaks, no space at its ends");
}

/* method_look: methods are case-sensitive (RFC 9110 section 9.1). */
static void method_look(struct value_job *job) {
  char text[16];
  struct buf upper = buf_of(text, sizeof text);
  for (size_t i = 0; i < job->text.len; i++) {
    char c = job->text.ptr[i];
    buf_char(&upper, c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c);
  }
  if (upper.full || span_eq(buf_span(&upper), job->text)) return;
  if (http_method_find(buf_span(&upper)) == HTTP_METHOD_OTHER) return;
  fault_add(job->faults, FAULT_METHOD_CASE, job->node->at,
            "no client sends the method \"" SPAN_FMT "\": case matters", SPAN_ARG(job->text));
  fault_note(job->faults, "did you mean \"" SPAN_FMT "\"?", SPAN_ARG(buf_span(&upper)));
}

static bool method(struct value_job *job) {
  if (!http_is_token(job->text)) return refuse(job, FAULT_BAD_METHOD, "like \"GET\"");
  if (span_eq(job->text, SPAN_LIT("CONNECT"))) return later(job, "CONNECT");
  method_look(job);
  return true;
}

static bool url(struct value_job *job) {
  struct span s = job->text;
  bool good = span_starts(s, SPAN_LIT("/")) || span_starts(s, SPAN_LIT("http://")) ||
              span_starts(s, SPAN_LIT("https://"));
  for (size_t i = 0; i < s.len; i++)
    good = good && s.ptr[i] > 0x20 && s.ptr[i] < 0x7f && s.ptr[i] != '"' && s.ptr[i] != '\\';
  return good || refuse(job, FAULT_BAD_URL, "a path, or http:// or https:// and so on");
}

static bool field(struct value_job *job) {
  struct span s = job->text;
  if (s.len && http_is_value(s) && span_trim(s).len == s.len) return true;
  return refuse(job, FAULT_BAD_TEXT, "no line breaks, no space at its ends");
}

static bool retry_on(struct value_job *job) {
  uint64_t status;
  if (is_word(job)) return true;
  if (!span_u64(job->text, &status)) return value_bad_word(job);
  if (status >= RETRY_STATUS_FIRST && status < RETRY_STATUS_FIRST + RETRY_STATUS_COUNT)
    return true;
  return refuse(job, FAULT_BAD_STATUS, "a status from 400 to 599");
}

static bool body(struct value_job *job) {
  return job->text.len <= BODY_LEN_MAX || refuse(job, FAULT_BAD_TEXT, "at most 16 KiB");
}

static bool hash_key(struct value_job *job) {
  struct hash_key key;
  if (hash_key_parse(job->text, &key)) return true;
  return refuse(job, FAULT_BAD_HASH_KEY,
                "known: \"client_ip\" \"path\" \"header:NAME\" (not Host, no field for one hop "
                "only) \"cookie:NAME\" \"query:NAME\"");
}

static bool cookie_name(struct value_job *job) {
  return http_is_token(job->text) || refuse(job, FAULT_BAD_COOKIE, "letters, digits, - and _");
}

/* cookie_path is any path-value that begins with "/" (RFC 6265 section 4.1.1). */
static bool cookie_path(struct value_job *job) {
  bool good = span_starts(job->text, SPAN_LIT("/"));
  for (size_t i = 0; i < job->text.len; i++) {
    char c = job->text.ptr[i];
    good = good && c > 0x20 && c < 0x7f && c != ';';
  }
  return good || refuse(job, FAULT_BAD_COOKIE, "like \"/\" or \"/shop\"");
}

static bool rate(struct value_job *job) {
  uint32_t limit;
  uint64_t period_ns;
  return rate_parse(job->text, &limit, &period_ns) ||
         refuse(job, FAULT_BAD_RATE, "like \"100/s\" \"60/m\" \"1000/h\", from 1 to 1000000");
}

static bool rate_key_part(struct value_job *job) {
  struct rate_part part;
  return rate_part_parse(job->text, &part) ||
         refuse(job, FAULT_BAD_RATE_KEY,
                "known: \"client_ip\" \"route\" \"none\" \"header:NAME\" (not Host, no field for "
                "one hop only) \"cookie:NAME\"");
}

bool statuses_parse(struct span text, uint16_t *from, uint16_t *to) {
  uint64_t status = 0;
  if (span_eq(text, SPAN_LIT("4xx")) || span_eq(text, SPAN_LIT("5xx"))) {
    *from = (uint16_t)(100 * (text.ptr[0] - '0'));
    *to = (uint16_t)(*from + 99);
    return true;
  }
  if (text.len != 3 || !span_u64(text, &status) || status < 400 || status > 599) return false;
  *from = *to = (uint16_t)status;
  return true;
}

static bool statuses(struct value_job *job) {
  uint16_t from, to;
  return statuses_parse(job->text, &from, &to) ||
         refuse(job, FAULT_BAD_STATUS, "\"400\" to \"599\", \"4xx\" or \"5xx\"");
}

/* protocol: the listener says which words it takes, and over TCP any name is one
 * (check_protocols.c); RFC 7301 section 3.1. */
static bool protocol(struct value_job *job) {
  if (!plain(job)) return false;
  return job->text.len <= ALPN_NAME_MAX ||
         refuse(job, FAULT_BAD_TEXT, "a name of ALPN has at most 255 bytes");
}

bool value_protocol(struct value_job *job) {
  if (is_word(job)) return true;
  if (span_eq(job->text, SPAN_LIT("h3"))) return later(job, "h3");
  if (span_eq(job->text, SPAN_LIT("tcp")))
    return value_refuse(job, FAULT_BAD_WORD, "TCP is another key: protocol = \"tcp\"");
  if (word_find("http2 http/2 http/2.0 HTTP/2", job->text) >= 0)
    return value_refuse(job, FAULT_BAD_WORD, "HTTP/2 is \"h2\", or \"h2c\" without TLS");
  return value_bad_word(job);
}

/* ---- secrets ---- */

static bool secret(struct value_job *job) {
  size_t colon = span_find_char(job->text, ':', 0);
  struct span kind = span_sub(job->text, 0, colon);
  struct span rest = colon == SIZE_MAX ? SPAN_EMPTY : span_from(job->text, colon + 1);
  bool file = span_eq(kind, SPAN_LIT("file")),
       known = file || span_eq(kind, SPAN_LIT("env")) || span_eq(kind, SPAN_LIT("cred"));
  if (!known || !is_plain(rest)) {
    /* The text may be the secret itself: it is not shown, nor the line that it stands in. */
    fault_add(job->faults, FAULT_BAD_SECRET, job->node->key_at, "%s does not name a secret",
              job->option->path);
    fault_redact(job->faults);
    fault_note(job->faults, "known: \"file:path\" \"env:NAME\" \"cred:name\"");
    return false;
  }
  if (!file && (span_find_char(rest, '/', 0) != SIZE_MAX || span_starts(rest, SPAN_LIT("."))))
    return refuse(job, FAULT_BAD_SECRET, "a name without / is needed");
  if (!file) return true;
  struct span beside = job->node->at.src ? job->node->at.src->path : SPAN_EMPTY;
  job->text =
      arena_printf(job->arena, "file:" SPAN_FMT, SPAN_ARG(path_join(job->arena, beside, rest)));
  return true;
}

static bool text_check(struct value_job *job) {
  switch ((int)job->option->type) { /* text types only (value_is_text) */
    case TYPE_NAME:
    case TYPE_POOL_REF:
    case TYPE_POLICY_REF:
    case TYPE_LISTENER_REF: return name(job);
    case TYPE_FILE:
    case TYPE_GLOB: return file_path(job);
    case TYPE_OUTPUT: return is_word(job) || file_path(job);
    case TYPE_ADMIN: return admin_address(job);
    case TYPE_STATUS: return is_word(job) || local_address(job);
    case TYPE_BIND: return local_address(job);
    case TYPE_UPSTREAM: return upstream_address(job);
    case TYPE_PROTOCOL: return protocol(job);
    case TYPE_NET: return network(job);
    case TYPE_HASH_KEY: return hash_key(job);
    case TYPE_COOKIE_NAME: return cookie_name(job);
    case TYPE_COOKIE_PATH: return cookie_path(job);
    case TYPE_HOST: return host(job);
    case TYPE_PATH: return path(job);
    case TYPE_REGEX: return pattern(job);
    case TYPE_REWRITE_TO: return rewrite_to(job);
    case TYPE_MATCH_NAME: return match_name(job);
    case TYPE_VALUE: return field_value(job);
    case TYPE_METHOD: return method(job);
    case TYPE_URL: return url(job);
    case TYPE_FIELD: return field(job);
    case TYPE_RETRY_ON: return retry_on(job);
    case TYPE_WORD: return is_word(job) || value_bad_word(job);
    case TYPE_BODY: return body(job);
    case TYPE_RATE: return rate(job);
    case TYPE_RATE_KEY: return rate_key_part(job);
    case TYPE_STATUSES: return statuses(job);
    case TYPE_ORIGIN: return is_word(job) || origin_value(job);
    case TYPE_FIELD_NAME:
      return is_word(job) || http_is_token(job->text) ||
             refuse(job, FAULT_BAD_EDIT, "a field's name is a token");
    case TYPE_AUTHORITY: return authority(job);
    case TYPE_NAME_PORT:
    case TYPE_SRV_NAME:
    case TYPE_DNS_SERVER: return discover_text(job);
    case TYPE_HEALTH_PATH:
    case TYPE_HEALTH_HOST:
    case TYPE_HEALTH_FIELD:
    case TYPE_HEALTH_BODY:
    case TYPE_HEALTH_SERVICE:
    case TYPE_HEALTH_STATUSES: return health_text(job);
    case TYPE_SECRET: return secret(job);
    case TYPE_TLS_NAME:
    case TYPE_TLS_PIN:
    case TYPE_TLS_GROUP:
    case TYPE_TLS_CIPHER:
    case TYPE_CERT_SAN: return tls_text(job);
    case TYPE_EDIT: return edit_value(job);
    case TYPE_EDIT_NAME: return edit_name(job);
    default: return plain(job);
  }
}

bool text_value_parse(struct value_job *job, struct value *out) {
  if (!text_check(job)) return false;
  out->text = job->text;
  return true;
}
