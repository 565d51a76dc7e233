/* cmd_admin.c: commands that speak to a running weir, and version, completion, help. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli_priv.h"
#include "weir/base/mem.h"
#include "weir/control/admin.h"
#include "weir/io/tls.h"

#define HEALTH_TIMEOUT_MS 3000u
/* A reload waits for names and for busy workers; ten seconds each is the most. */
#define ANSWER_TIMEOUT_MS 60000u

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

/* ask sends line to the running weir and appends its answer, or why there is none (false). */
static bool ask(const struct cli *cli, const char *line, struct text *out, int *code) {
  struct text address = {.ptr = NULL}, why = {.ptr = NULL};
  bool answered = false;
  *code = WEIR_FAILED;
  if (admin_address(cli, &address, &why)) {
    text_put(&address, span_of("", 1)); /* NUL */
    answered = admin_call(address.ptr, line, ANSWER_TIMEOUT_MS, out, code);
  } else {
    text_lit(out, "no admin socket is configured (admin.listen); name it with --admin PATH");
  }
  if (!answered && why.len) {
    text_printf(out, "\n%s has faults, so its own admin.listen is not known:\n", cli_config(cli));
    text_put(out, text_span(&why));
  }
  text_fini(&address);
  text_fini(&why);
  return answered;
}

/* call prints the answer. json: that is the form of answers, so of what went wrong too. */
static int call(const struct cli *cli, const char *line, bool json) {
  struct text out = {.ptr = NULL};
  int code;
  if (!ask(cli, line, &out, &code)) {
    return cli_failed(&out, json);
  }
  return cli_print(&out, code != WEIR_OK && !json, code);
}

int cli_admin(const struct cli *cli, const char *line) { return call(cli, line, cli_json(cli)); }

static const char *form(const struct cli *cli) {
  return cli_json(cli) ? " json" : isatty(STDOUT_FILENO) ? " color" : "";
}

static int call_bare(const struct cli *cli, const char *words, bool json) {
  if (cli->word_count) {
    return cli_usage_error("%s takes no arguments", cli->command->name);
  }
  char line[64];
  (void)snprintf(line, sizeof line, "%s%s", cli->command->name, words);
  return call(cli, line, json);
}

static int call_form(const struct cli *cli) { return call_bare(cli, form(cli), cli_json(cli)); }

int cmd_reload(const struct cli *cli) { return call_form(cli); }
int cmd_status(const struct cli *cli) { return call_form(cli); }
int cmd_drain(const struct cli *cli) { return call_form(cli); }
int cmd_metrics(const struct cli *cli) { return call_bare(cli, "", false); }

/* The running weir reads the file itself: with its environment, credentials and rights. */
int cmd_plan(const struct cli *cli) {
  if (cli->word_count > 1) {
    return cli_plan_files(cli);
  }
  if (!cli->word_count) {
    return call_form(cli);
  }
  char here[PATH_MAX] = "", line[2 * PATH_MAX];
  const char *path = cli->words[0];
  bool absolute = path[0] == '/';
  if (strchr(path, '\n') || (!absolute && !getcwd(here, sizeof here - 1))) {
    return cli_usage_error("the path \"%s\" cannot be given to weir", path);
  }
  int len =
      snprintf(line, sizeof line, "plan%s %s%s%s", form(cli), here, absolute ? "" : "/", path);
  if (len < 0 || (size_t)len >= sizeof line) {
    return cli_usage_error("the path is too long");
  }
  return call(cli, line, cli_json(cli));
}

int cmd_dump(const struct cli *cli) {
  if (cli->config || cli->word_count) {
    return cli_dump_file(cli, cli->word_count ? cli->words[0] : cli->config);
  }
  return call_bare(cli, cli->all ? " all" : "", false);
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
    text_lit(&out, "no status port is configured (admin.status); name it with --status ADDRESS");
  }
  conf_free(conf);
  if (!ready) {
    return cli_failed(&out, cli_json(cli));
  }
  text_put(&out, cli_json(cli) ? SPAN_LIT("{\"ok\":true}\n") : SPAN_LIT("ready\n"));
  return cli_print(&out, false, WEIR_OK);
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
