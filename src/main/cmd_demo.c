/* cmd_demo.c: `weir demo`: the built-in origin, a certificate made now, a configuration from here,
 * and lines that say what to try. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli_priv.h"

#define HTTP_DEFAULT "127.0.0.1:8080"
#define HTTPS_DEFAULT "127.0.0.1:8443"

struct demo {
  const char *http, *https, *status;
};

static void config_write(const struct cli *cli, const struct demo *demo, const uint16_t *ports,
                         struct text *out) {
  text_printf(out, "# weir demo\nadmin = { listen = \"%s%s\"; status = \"%s\"; };\n",
              cli->admin ? "unix:" : "off", cli->admin ? cli->admin : "", demo->status);
  text_printf(out, "process = { drain = \"5s\"; };\nlog = { access = { format = \"%s\"; }; };\n",
              isatty(STDOUT_FILENO) ? "text" : "json");
  text_printf(out, "listeners = {\n  http = { bind = \"%s\"; };\n", demo->http);
  text_printf(out, "  https = { bind = \"%s\"; tls = { certificates = (\n    { cert = \"env:%s\"; "
              "key = \"env:%s\"; default = true; } ); }; };\n};\n", demo->https, SELF_SIGNED_CERT,
              SELF_SIGNED_KEY);
  text_printf(out,
              "pools = { origin = { endpoints = [ \"127.0.0.1:%u\", \"127.0.0.1:%u\" ]; }; };\n"
              "routes = (\n  { name = \"demo\"; prefix = \"/\"; pool = \"origin\"; },\n"
              "  { name = \"teapot\"; path = \"/teapot\"; respond = { status = 418; "
              "body = \"short and stout\\n\"; }; } );\n", ports[0], ports[1]);
}

static void on_ready(void *ctx) {
  const struct demo *demo = (const struct demo *)ctx;
  (void)fprintf(stderr,
                "\n  http://%s/\n  https://%s/     (certificate made just now: curl -k)\n",
                demo->http, demo->https);
  if (strcmp(demo->status, "off") != 0) {
    (void)fprintf(stderr, "  http://%s/     status page and /metrics\n", demo->status);
  }
  (void)fprintf(stderr,
                "\n  curl http://%s/echo -d hello\n"
                "  curl -k https://%s/bytes/1000000 -o /dev/null\n"
                "  curl -N http://%s/slow\n"
                "  curl -i http://%s/teapot\n"
                "\n  Ctrl-C drains and ends. `weir demo --print-config` shows the "
                "configuration.\n\n",
                demo->http, demo->https, demo->http, demo->http);
}

static int fail(const char *what) {
  (void)fprintf(stderr, "weir: %s\n", what);
  return WEIR_CANNOT_START;
}

int cmd_demo(const struct cli *cli) {
  struct text text = {.ptr = NULL};
  uint16_t ports[DEMO_PORTS] = {9001, 9002}; /* as printed; real ones are ephemeral */
  struct demo demo = {.http = cli->http ? cli->http : HTTP_DEFAULT,
                      .https = cli->https ? cli->https : HTTPS_DEFAULT,
                      .status = cli->status ? cli->status : CLI_STATUS_DEFAULT};
  if (cli->word_count) {
    return cli_usage_error("demo takes no arguments");
  }
  if (!cli->print_config && origin_start(ports) < 0) {
    return fail("the built-in origin cannot be started");
  }
  config_write(cli, &demo, ports, &text);
  if (cli->print_config) {
    return cli_print(&text, false, WEIR_OK);
  }
  if (!self_signed_make()) {
    text_fini(&text);
    return fail("no certificate could be made");
  }
  const struct control_options options = {.name = "weir demo",
                                          .text = text_span(&text),
                                          .env = self_signed_env,
                                          .ready = on_ready,
                                          .ctx = &demo};
  int code = control_run(&options);
  if (code == WEIR_CANNOT_START) {
    (void)fprintf(stderr, "weir: other ports: weir demo --http 127.0.0.1:18080 "
                          "--https 127.0.0.1:18443 --status 127.0.0.1:19180\n");
  }
  text_fini(&text);
  return code;
}
