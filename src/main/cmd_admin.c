/* cmd_admin.c: commands that speak to a running weir, and version, completion, help. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli_priv.h"
#include "weir/base/mem.h"
#include "weir/config/where.h"
#include "weir/control/admin.h"
#include "weir/io/tls.h"

#define HEALTH_TIMEOUT_MS 3000u
/* A reload waits for names and for busy workers; ten seconds each is the most. */
#define ANSWER_TIMEOUT_MS 60000u

/* conf_try loads the file that the CLI means; NULL when it cannot be read or is bad: faults (may
 * be NULL) say what is wrong with it. */
static struct conf *conf_try(const struct cli *cli, struct conf_faults *faults) {
  struct conf_faults *unheard = faults ? NULL : conf_faults_new();
  struct conf *conf = conf_load(&conf_reader_direct, cli_config(cli), faults ? faults : unheard);
  conf_faults_free(unheard);
  return conf;
}

static const char *env_set(const char *name) {
  const char *value = getenv(name);
  return value && value[0] ? value : NULL;
}

/* socket_named is the socket that the user chose; NULL: it follows from a file. */
static const char *socket_named(const struct cli *cli) {
  return cli->admin ? cli->admin : env_set("WEIR_ADMIN");
}

/* file_named is the file that the user chose; NULL: nobody did. */
static const char *file_named(const struct cli *cli) {
  return cli->config ? cli->config : env_set("WEIR_CONFIG");
}

/* admin_default: of a CLI whose file nobody named. */
static enum conf_admin admin_default(struct text *out) {
  return conf_admin_default(&conf_reader_direct, out) ? CONF_ADMIN_KNOWN : CONF_ADMIN_OFF;
}

/* admin_address appends where the admin socket is: --admin, WEIR_ADMIN, the file's. A file that
 * was named and does not tell leads nowhere: who has the default socket may be another weir. */
static enum conf_admin admin_address(const struct cli *cli, struct text *out,
                                     struct conf_faults *faults) {
  const char *named = socket_named(cli);
  if (named) {
    text_printf(out, "%s%s", strncmp(named, "unix:", 5) == 0 ? "" : "unix:", named);
    return CONF_ADMIN_KNOWN;
  }
  struct conf *conf = conf_try(cli, faults);
  if (conf) {
    const char *listen = conf_process(conf)->admin_listen;
    text_put(out, span_str(listen));
    conf_free(conf);
    return out->len > 0 ? CONF_ADMIN_KNOWN : CONF_ADMIN_OFF;
  }
  enum conf_admin said = conf_admin_read(&conf_reader_direct, cli_config(cli), out);
  return said == CONF_ADMIN_UNKNOWN && !file_named(cli) ? admin_default(out) : said;
}

/* lost prints that the file does not tell whom to ask, and what is wrong with it. */
static int lost(const struct cli *cli, const struct conf_faults *faults, bool json) {
  const char *path = cli_config(cli);
  struct text out = {.ptr = NULL}, said = {.ptr = NULL};
  text_printf(&said,
              "%s has faults, so where its weir is asked (admin.listen) is not known; "
              "mend it, or name the socket with --admin PATH",
              path);
  if (json) {
    text_lit(&out, "{\"ok\":false,\"error\":\"");
    text_json(&out, text_span(&said));
    text_lit(&out, "\",\"faults\":");
    conf_faults_json(faults, &out);
    text_lit(&out, "}\n");
  } else {
    text_printf(&out, "weir: " SPAN_FMT ":\n", SPAN_ARG(text_span(&said)));
    conf_faults_print(faults, &out, isatty(STDERR_FILENO));
    text_lit(&out, "\n");
  }
  text_fini(&said);
  return cli_print(&out, !json, WEIR_BAD_CONFIG);
}

/* unanswered completes why there is no answer: it may be for what is wrong with the file. */
static int unanswered(const struct cli *cli, const struct conf_faults *faults, bool json,
                      struct text *why) {
  if (conf_faults_errors(faults)) {
    text_printf(why, "\n%s has faults:\n", cli_config(cli));
    conf_faults_print(faults, why, false);
    text_lit(why, "\n");
  }
  return cli_failed(why, json);
}

/* ---- is the weir at the socket the one of the file? ---- */

/* same_file: the same path is enough, whatever it leads to by now; else the same file, by whatever
 * path. */
static bool same_file(const char *mine, const char *theirs) {
  struct text path = {.ptr = NULL};
  struct stat a, b;
  bool same = admin_file(mine, &path) && span_eq(text_span(&path), span_str(theirs));
  text_fini(&path);
  return same || (stat(mine, &a) == 0 && stat(theirs, &b) == 0 && a.st_dev == b.st_dev &&
                  a.st_ino == b.st_ino);
}

static void another(const struct cli *cli, const char *address, const char *theirs,
                    struct text *why) {
  const char *mine = file_named(cli);
  text_printf(why,
              "the admin socket %s is that of %s%s, not of one that runs %s: give each its own "
              "(admin.listen in %s), or name the socket you mean with --admin PATH",
              address, theirs[0] == '/' ? "the weir that runs " : "", theirs, mine, mine);
  if (cli->command->run == cmd_plan) {
    text_printf(why, "; `weir plan %s` is what that weir would make of this file", mine);
  }
}

/* meant tells whether the weir at address is the one of the file that was named; false with why
 * when it is not, or does not answer. Any is meant where no file was named, or the socket itself.
 * One of before this question says that it does not know it, and is taken at its socket. */
static bool meant(const struct cli *cli, const char *address, struct text *why) {
  struct text theirs = {.ptr = NULL};
  int code = WEIR_OK;
  if (socket_named(cli) || !file_named(cli)) {
    return true;
  }
  if (!admin_call(address, "file", ANSWER_TIMEOUT_MS, &theirs, &code)) {
    text_put(why, text_span(&theirs));
    text_fini(&theirs);
    return false;
  }
  text_put(&theirs, span_of("", 1)); /* NUL */
  bool same = code != WEIR_OK || same_file(file_named(cli), theirs.ptr);
  if (!same) {
    another(cli, address, theirs.ptr, why);
  }
  text_fini(&theirs);
  return same;
}

/* ask sends line to the weir at address and prints its answer. json: that is the form of answers,
 * so of what went wrong too. */
static int ask(const struct cli *cli, const struct text *address, const char *line, bool json,
               const struct conf_faults *faults) {
  struct text out = {.ptr = NULL};
  int code;
  if (!meant(cli, address->ptr, &out) ||
      !admin_call(address->ptr, line, ANSWER_TIMEOUT_MS, &out, &code))
    return unanswered(cli, faults, json, &out);
  return cli_print(&out, code != WEIR_OK && !json, code);
}

static int off(const struct cli *cli, const struct conf_faults *faults, bool json) {
  struct text why = {.ptr = NULL};
  text_lit(&why, "no admin socket is configured (admin.listen); name it with --admin PATH");
  return unanswered(cli, faults, json, &why);
}

static int call(const struct cli *cli, const char *line, bool json) {
  struct conf_faults *faults = conf_faults_new();
  struct text address = {.ptr = NULL};
  int code = WEIR_FAILED;
  switch (admin_address(cli, &address, faults)) {
    case CONF_ADMIN_KNOWN:
      text_put(&address, span_of("", 1)); /* NUL */
      code = ask(cli, &address, line, json, faults);
      break;
    case CONF_ADMIN_OFF: code = off(cli, faults, json); break;
    case CONF_ADMIN_UNKNOWN: code = lost(cli, faults, json); break;
  }
  text_fini(&address);
  conf_faults_free(faults);
  return code;
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

static bool answers(const char *address) {
  struct text said = {.ptr = NULL};
  int code;
  bool any = admin_call(address, "file", ANSWER_TIMEOUT_MS, &said, &code);
  text_fini(&said);
  return any;
}

/* plan_address appends where `weir plan FILE` asks when nobody said: at FILE's own admin.listen,
 * whichever file the weir there runs. It may also be the one of a weir to come, and mean the weir
 * of the default file, if that one alone answers. Nothing: as without FILE. */
static void plan_address(const struct cli *cli, struct text *out) {
  struct cli own = *cli;
  own.config = cli->words[0];
  struct text usual = {.ptr = NULL};
  bool known = admin_address(&own, out, NULL) == CONF_ADMIN_KNOWN;
  if (known) {
    text_put(out, span_of("", 1)); /* NUL */
  }
  if (known && !answers(out->ptr) && admin_address(cli, &usual, NULL) == CONF_ADMIN_KNOWN) {
    text_put(&usual, span_of("", 1)); /* NUL */
    known = !answers(usual.ptr);
  }
  text_fini(&usual);
  if (!known) {
    text_fini(out);
  }
}

/* The running weir reads the file itself: with its environment, credentials and rights. */
int cmd_plan(const struct cli *cli) {
  if (cli->word_count > 1) {
    return cli_plan_files(cli);
  }
  if (!cli->word_count) {
    return call_form(cli);
  }
  struct cli asked = *cli;
  struct text line = {.ptr = NULL}, own = {.ptr = NULL};
  if (!socket_named(cli) && !file_named(cli)) {
    plan_address(cli, &own);
    asked.admin = own.ptr;
  }
  text_printf(&line, "plan%s ", form(cli));
  if (!admin_file(cli->words[0], &line)) {
    text_fini(&line);
    text_fini(&own);
    return cli_usage_error("the path \"%s\" cannot be given to weir", cli->words[0]);
  }
  text_put(&line, span_of("", 1)); /* NUL */
  int code = call(&asked, line.ptr, cli_json(cli));
  text_fini(&line);
  text_fini(&own);
  return code;
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
