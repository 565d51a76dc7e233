/* cmd_run.c: run, proxy, check, dump of a file. */
#include <stdio.h>
#include <unistd.h>

#include "cli_priv.h"
#include "weir/base/addr.h"
#include "weir/base/mem.h"

int cmd_run(const struct cli *cli) {
  if (cli->word_count) {
    return cli_usage_error("run takes its file with -c: weir run -c %s", cli->words[0]);
  }
  if (cli->test) {
    return cmd_check(cli);
  }
  const struct control_options options = {.path = cli_config(cli),
                                          .log_tls_keys = cli->log_tls_keys != NULL};
  return control_run(&options);
}

/* ---- check and dump of a file ---- */

static void check_json(const char *path, bool ok, const struct conf_faults *faults,
                       struct text *out) {
  text_printf(out, "{\"ok\":%s,\"file\":\"", ok ? "true" : "false");
  text_json(out, span_str(path));
  text_lit(out, "\",\"faults\":");
  conf_faults_json(faults, out);
  text_lit(out, "}\n");
}

static void check_text(const char *path, bool ok, const struct conf_faults *faults,
                       struct text *out) {
  conf_faults_print(faults, out, isatty(STDOUT_FILENO));
  if (out->len) {
    text_lit(out, "\n");
  }
  if (ok) {
    text_printf(out, "%s: ok\n", path);
  }
}

int cmd_check(const struct cli *cli) {
  if (cli->word_count > 1) {
    return cli_usage_error("check takes one file");
  }
  const char *path = cli->word_count ? cli->words[0] : cli_config(cli);
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(&conf_reader_direct, path, faults);
  bool ok = conf && control_check(conf, faults);
  struct text out = {.ptr = NULL};
  if (cli_json(cli)) {
    check_json(path, ok, faults, &out);
  } else {
    check_text(path, ok, faults, &out);
  }
  if (conf) {
    conf_free(conf);
  }
  conf_faults_free(faults);
  return cli_print(&out, false, ok ? WEIR_OK : WEIR_BAD_CONFIG);
}

int cli_dump_file(const struct cli *cli, const char *path) {
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(&conf_reader_direct, path, faults);
  struct text out = {.ptr = NULL};
  if (conf) {
    conf_dump(conf, &out, cli->all != NULL);
    conf_free(conf);
  } else {
    check_text(path, false, faults, &out);
  }
  conf_faults_free(faults);
  return cli_print(&out, !conf, conf ? WEIR_OK : WEIR_BAD_CONFIG);
}

/* ---- plan of two files ---- */

static void plan_json(const struct control_plan *plan, bool ok, const struct conf_faults *faults,
                      struct text *out, const struct text *diff) {
  text_printf(out, "{\"ok\":%s,\"plan\":true,\"changes\":", ok ? "true" : "false");
  text_put(out, diff->len ? text_span(diff) : SPAN_LIT("[]"));
  text_printf(out, ",\"waiting_for_restart\":%u,\"faults\":", plan->waiting);
  conf_faults_json(faults, out);
  text_lit(out, "}\n");
}

static void plan_text(const struct control_plan *plan, bool ok, const struct conf_faults *faults,
                      struct text *out, const struct text *diff) {
  conf_faults_print(faults, out, isatty(STDOUT_FILENO));
  text_put(out, out->len ? SPAN_LIT("\n") : SPAN_EMPTY);
  text_put(out, text_span(diff));
  if (ok) {
    text_printf(out, "a reload would make %u change%s", plan->changes,
                plan->changes == 1 ? "" : "s");
    if (plan->waiting) {
      text_printf(out, ", %u key%s for a restart", plan->waiting,
                  plan->waiting == 1 ? " waits" : "s wait");
    }
    text_lit(out, "\n");
  }
}

int cli_plan_files(const struct cli *cli) {
  if (cli->word_count > 2) {
    return cli_usage_error("plan takes a file, or two to compare");
  }
  /* Of the old file only errors matter: its warnings are known. */
  struct conf_faults *old_faults = conf_faults_new(), *faults = conf_faults_new();
  struct conf *old = conf_load(&conf_reader_direct, cli->words[0], old_faults);
  struct conf *next = conf_load(&conf_reader_direct, cli->words[1], faults);
  struct control_plan plan = {.before = old, .next = next, .json = cli_json(cli)};
  struct text out = {.ptr = NULL}, diff = {.ptr = NULL};
  bool ok = old && next && control_plan(&plan, faults, &diff);
  (plan.json ? plan_json : plan_text)(&plan, ok, old ? faults : old_faults, &out, &diff);
  text_fini(&diff);
  conf_free(old);
  conf_free(next);
  conf_faults_free(old_faults);
  conf_faults_free(faults);
  return cli_print(&out, false, ok ? WEIR_OK : WEIR_BAD_CONFIG);
}

/* ---- proxy: a configuration from arguments ---- */

/* proxied is what was asked for: the protocol is what FROM begins with, "http" if with nothing. */
struct proxied {
  const struct cli *cli;
  struct span protocol;
  const char *bad, *why; /* the argument that cannot be, and the reason */
};

/* scheme_cut takes "http://", "tcp://" or "udp://" from s; empty: s begins with neither. */
static struct span scheme_cut(struct span *s) {
  static const char *const known[] = {"http", "tcp", "udp"};
  for (size_t i = 0; i < array_count(known); i++) {
    struct span scheme = span_str(known[i]);
    if (span_starts(*s, scheme) && span_starts(span_from(*s, scheme.len), SPAN_LIT("://"))) {
      *s = span_from(*s, scheme.len + 3);
      *s = s->len && s->ptr[s->len - 1] == '/' ? span_sub(*s, 0, s->len - 1) : *s;
      return scheme;
    }
  }
  return SPAN_EMPTY;
}

/* says_port: there is a port, or what was meant for one. */
static bool says_port(struct span s) {
  uint64_t number;
  return !s.len || span_u64(s, &number) ||
         (s.ptr[s.len - 1] != ']' && span_find_char(s, ':', 0) != SIZE_MAX);
}

/* host_write appends an address as the file wants it: a bare port is on the loopback interface.
 * False when it is none. */
static bool host_write(struct text *out, struct span s) {
  struct span host;
  uint64_t number;
  uint16_t port;
  if (s.len && s.ptr[0] == ':') {
    s = span_from(s, 1);
  }
  if (span_u64(s, &number)) {
    text_printf(out, "127.0.0.1:%llu", (unsigned long long)number);
    return number > 0 && number < 65536;
  }
  for (size_t i = 0; i < s.len; i++) {
    if ((unsigned char)s.ptr[i] <= 0x20 || s.ptr[i] == '"' || s.ptr[i] == '\\' ||
        s.ptr[i] == '$') {
      return false;
    }
  }
  text_put(out, s);
  return addr_split(s, &host, &port) != ADDR_BAD;
}

static bool address_write(struct proxied *p, struct text *out, uint32_t word) {
  struct span s = span_str(p->cli->words[word]), scheme = scheme_cut(&s);
  p->bad = p->cli->words[word];
  if (word == 0) {
    p->protocol = scheme.len ? scheme : SPAN_LIT("http");
  }
  if (scheme.len && !span_eq(scheme, p->protocol)) {
    p->why = "is of another protocol than FROM, which names that of all: tcp://5432";
    return false;
  }
  p->why = says_port(s) ? "is no address: host:port, [ipv6]:port, unix:/path or a port; before it "
                          "tcp:// or udp:// for what is no HTTP"
                        : "has no port, as in localhost:9001; a port alone is one of 127.0.0.1";
  return host_write(out, s);
}

static void proxy_head(const struct cli *cli, struct text *out) {
  text_printf(out, "# weir proxy\nadmin = { listen = \"%s%s\"; status = \"%s\"; };\n",
              cli->admin ? "unix:" : "off", cli->admin ? cli->admin : "",
              cli->status ? cli->status : "off");
  text_printf(out, "log = { access = { format = \"%s\"; }; };\n",
              isatty(STDOUT_FILENO) ? "text" : "json");
}

/* proxy_listener: a listener of HTTP is given its pool by the route. */
static bool proxy_listener(struct proxied *p, struct text *out) {
  text_lit(out, "listeners = { proxy = { bind = \"");
  bool ok = address_write(p, out, 0);
  text_lit(out, "\";");
  if (!span_eq(p->protocol, SPAN_LIT("http"))) {
    text_printf(out, " protocol = \"" SPAN_FMT "\"; pool = \"upstream\";", SPAN_ARG(p->protocol));
  }
  if (p->cli->tls) {
    text_lit(out, "\n  tls = { certificates = ( { cert = \"env:" SELF_SIGNED_CERT
                  "\"; key = \"env:" SELF_SIGNED_KEY "\"; default = true; } ); };");
  }
  text_lit(out, " }; };\n");
  return ok;
}

static bool proxy_config(struct proxied *p, struct text *out) {
  proxy_head(p->cli, out);
  bool ok = proxy_listener(p, out);
  text_lit(out, "pools = { upstream = { endpoints = [ ");
  for (uint32_t i = 1; i < p->cli->word_count && ok; i++) {
    text_put(out, i > 1 ? SPAN_LIT(", \"") : SPAN_LIT("\""));
    ok = address_write(p, out, i);
    text_lit(out, "\"");
  }
  text_lit(out, " ]; }; };\n");
  if (span_eq(p->protocol, SPAN_LIT("http"))) {
    text_lit(out, "routes = ( { name = \"all\"; prefix = \"/\"; pool = \"upstream\"; } );\n");
  }
  return ok;
}

/* on_ready tells a person where to go: in the log of a program it would be no line of it. */
static void on_ready(void *ctx) {
  const struct proxied *p = (const struct proxied *)ctx;
  struct text out = {.ptr = NULL};
  if (!isatty(STDERR_FILENO)) {
    return;
  }
  struct span from = span_str(p->cli->words[0]);
  (void)scheme_cut(&from);
  bool http = span_eq(p->protocol, SPAN_LIT("http"));
  text_lit(&out, "\n  ");
  if (!span_starts(from, SPAN_LIT("unix:"))) {
    text_printf(&out, SPAN_FMT "%s://", SPAN_ARG(p->protocol), http && p->cli->tls ? "s" : "");
  }
  if (!host_write(&out, from)) {
    text_put(&out, from);
  }
  text_put(&out, http ? SPAN_LIT("/ forwards to") : SPAN_LIT(" forwards to"));
  for (uint32_t i = 1; i < p->cli->word_count; i++) {
    text_printf(&out, " %s", p->cli->words[i]);
  }
  text_put(&out, p->cli->tls ? SPAN_LIT(" (certificate made just now: curl -k)") : SPAN_EMPTY);
  text_lit(&out, "; Ctrl-C drains and ends.\n\n");
  (void)cli_print(&out, true, WEIR_OK);
}

int cmd_proxy(const struct cli *cli) {
  struct text text = {.ptr = NULL};
  struct proxied proxied = {.cli = cli};
  if (cli->word_count < 2) {
    return cli_usage_error("proxy needs FROM and TO: weir proxy 8080 127.0.0.1:9001");
  }
  bool good = proxy_config(&proxied, &text);
  if (good && cli->tls && span_eq(proxied.protocol, SPAN_LIT("udp"))) {
    good = false;
    proxied.bad = cli->words[0];
    proxied.why = "is UDP: --tls means nothing there";
  }
  if (!good) {
    text_fini(&text);
    return cli_usage_error("\"%s\" %s", proxied.bad, proxied.why);
  }
  if (cli->print_config) {
    return cli_print(&text, false, WEIR_OK);
  }
  if (cli->tls && !self_signed_make()) {
    text_fini(&text);
    return cli_usage_error("no certificate could be made");
  }
  const struct control_options options = {.name = "weir proxy",
                                          .text = text_span(&text),
                                          .env = self_signed_env,
                                          .ready = on_ready,
                                          .ctx = &proxied};
  int code = control_run(&options);
  text_fini(&text);
  return code;
}
