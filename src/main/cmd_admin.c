/* cmd_admin.c: commands that speak to a running weir, and version, completion, help. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli_priv.h"
#include "weir/base/mem.h"
#include "weir/control/admin.h"
#include "weir/io/tls.h"

#define HEALTH_TIMEOUT_MS 3000u

/* conf_try loads the file that the CLI means; NULL when it cannot be read or is bad: what is wrong
 * with it is appended to why (may be NULL). */
static struct conf *conf_try(const struct cli *cli, struct text *why) {
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(&conf_reader_direct, cli_config(cli), faults);
  if (!conf && why) {
    conf_faults_print(faults, why, false);
    text_lit(why, "\n");
  }
  conf_faults_free(faults);
  return conf;
}

/* admin_address appends where the admin socket is: --admin, WEIR_ADMIN, the file's, the default.
 * When the file is bad, why says so: the socket that it names is then not known. */
static bool admin_address(const struct cli *cli, struct text *out, struct text *why) {
  const char *env = getenv("WEIR_ADMIN");
  const char *named = cli->admin ? cli->admin : env && env[0] ? env : NULL;
  if (named) {
    text_printf(out, "%s%s", strncmp(named, "unix:", 5) == 0 ? "" : "unix:", named);
    return true;
  }
  struct conf *conf = conf_try(cli, why);
  if (conf) {
    const char *listen = conf_process(conf)->admin_listen;
    text_put(out, span_str(listen));
    conf_free(conf);
    return out->len > 0;
  }
  return conf_admin_default(&conf_reader_direct, out);
}

static int call(const struct cli *cli, const char *line) {
  struct text address = {.ptr = NULL}, out = {.ptr = NULL}, why = {.ptr = NULL};
  if (cli->word_count) {
    return cli_usage_error("%s takes no arguments", cli->command->name);
  }
  int code = WEIR_FAILED;
  if (admin_address(cli, &address, &why)) {
    text_put(&address, span_of("", 1)); /* NUL */
    code = admin_call(address.ptr, line, &out);
  } else {
    text_lit(&out, "no admin socket is configured (admin.listen); name it with --admin PATH\n");
  }
  if (code == WEIR_FAILED && why.len) {
    text_printf(&out, "%s has faults, so its own admin.listen is not known:\n", cli_config(cli));
    text_put(&out, text_span(&why));
  }
  text_fini(&address);
  text_fini(&why);
  return cli_print(&out, code != WEIR_OK && !cli_json(cli), code);
}

static const char *form(const struct cli *cli) {
  return cli_json(cli) ? " json" : isatty(STDOUT_FILENO) ? " color" : "";
}

static int call_form(const struct cli *cli) {
  char line[64];
  (void)snprintf(line, sizeof line, "%s%s", cli->command->name, form(cli));
  return call(cli, line);
}

int cmd_reload(const struct cli *cli) { return call_form(cli); }
int cmd_status(const struct cli *cli) { return call_form(cli); }
int cmd_drain(const struct cli *cli) { return call_form(cli); }
int cmd_metrics(const struct cli *cli) { return call(cli, "metrics"); }

int cmd_dump(const struct cli *cli) {
  if (cli->config || cli->word_count) {
    return cli_dump_file(cli, cli->word_count ? cli->words[0] : cli->config);
  }
  return call(cli, cli->all ? "dump all" : "dump");
}

/* ---- health ---- */

/* In a container the file names the status port; a key that this user cannot read is no
 * obstacle. */
int cmd_health(const struct cli *cli) {
  const char *env = getenv("WEIR_STATUS");
  const char *named = cli->status       ? cli->status
                      : cli->word_count ? cli->words[0]
                      : env && env[0]   ? env
                                        : NULL;
  struct conf *conf = named ? NULL : conf_try(cli, NULL);
  const char *address = named  ? named
                        : conf ? conf_process(conf)->status_listen
                               : CLI_STATUS_DEFAULT;
  struct text out = {.ptr = NULL};
  bool ready = false;
  if (address) {
    ready = health_probe(address, HEALTH_TIMEOUT_MS, &out);
  } else {
    text_lit(&out, "no status port is configured (admin.status); name it with --status ADDRESS\n");
  }
  if (conf) {
    conf_free(conf);
  }
  return cli_print(&out, !ready, ready ? WEIR_OK : WEIR_FAILED);
}

/* ---- about ---- */

int cmd_version(const struct cli *cli) {
  struct text out = {.ptr = NULL};
  if (cli_json(cli)) {
    text_printf(&out,
                "{\"version\":\"%s\",\"profile\":\"%s\",\"tls\":\"%s\",\"tls_source\":\"%s %s\","
                "\"liburing\":\"%s\"}\n",
                WEIR_VERSION, WEIR_PROFILE, tls_library(), WEIR_TLS_NAME, WEIR_TLS_VERSION,
                WEIR_URING_VERSION);
  } else {
    text_printf(&out, "weir %s (%s)\nTLS: %s, from %s %s\nliburing %s\n", WEIR_VERSION,
                WEIR_PROFILE, tls_library(), WEIR_TLS_NAME, WEIR_TLS_VERSION, WEIR_URING_VERSION);
  }
  return cli_print(&out, false, WEIR_OK);
}

int cmd_completion(const struct cli *cli) {
  if (cli->word_count > 1 || (cli->word_count && strcmp(cli->words[0], "bash") != 0)) {
    return cli_usage_error("completion is there for bash: weir completion bash");
  }
  struct text out = {.ptr = NULL};
  completion_write(&out);
  return cli_print(&out, false, WEIR_OK);
}

int cmd_help(const struct cli *cli) {
  struct text out = {.ptr = NULL};
  size_t count;
  const struct cli_command *commands = cli_commands(&count), *found = NULL;
  for (size_t i = 0; i < count && cli->word_count; i++) {
    found = strcmp(commands[i].name, cli->words[0]) == 0 ? &commands[i] : found;
  }
  if (cli->word_count && !found) {
    return cli_usage_error("there is no command \"%s\"", cli->words[0]);
  }
  cli_usage(found, &out);
  return cli_print(&out, false, WEIR_OK);
}
