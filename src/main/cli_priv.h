/* cli_priv.h: the command line: tables, parsed arguments, one function per command. */
#ifndef WEIR_MAIN_CLI_PRIV_H
#define WEIR_MAIN_CLI_PRIV_H

#include "weir/base/buf.h"
#include "weir/control/control.h"

#define CLI_WORDS_MAX 64u
#define CLI_HEADERS_MAX 64u
#define CLI_CONFIG_DEFAULT "/etc/weir/weir.conf"
#define CLI_STATUS_DEFAULT "127.0.0.1:9180"

struct cli_command;

/* cli is a parsed command line. A flag without value is "" when given, NULL when not. */
struct cli {
  const struct cli_command *command;
#define FLAG(field, name, letter, value, commands, doc) const char *field;
#include "flags.def"
#undef FLAG
  const char *words[CLI_WORDS_MAX]; /* beside flags */
  uint32_t word_count;
  const char *headers[CLI_HEADERS_MAX]; /* every -H; `header` is the last */
  uint32_t header_count;
};

struct cli_command {
  const char *name, *arguments, *doc;
  int (*run)(const struct cli *cli);
};

struct cli_flag {
  const char *name;
  char letter;
  const char *value, *commands, *doc;
  size_t offset; /* in struct cli */
};

const struct cli_command *cli_commands(size_t *count);
const struct cli_flag *cli_flags(size_t *count);

/* cli_parse fills cli; 0, or WEIR_USAGE with a message in err that suggests what was meant. */
MUST_USE int cli_parse(int argc, char *const *argv, struct cli *cli, struct text *err);
/* cli_usage appends the help of one command, or of all (NULL). */
void cli_usage(const struct cli_command *command, struct text *out);
/* cli_suggest is the nearest of count names, or NULL when none is near. */
const char *cli_suggest(struct span word, const char *const *names, size_t count);
/* cli_json: JSON unless stdout is a terminal; --json and --text decide. */
bool cli_json(const struct cli *cli);
/* cli_usage_error prints a sentence and how to get help; WEIR_USAGE. */
int cli_usage_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* cli_failed prints why a command did not work, text's sentence: to stderr, or as
 * {"ok":false,"error":"..."} to stdout; frees text; WEIR_FAILED. */
int cli_failed(struct text *sentence, bool json);
/* cli_print writes text to stdout (bad: stderr) and frees it; code. */
int cli_print(struct text *text, bool bad, int code);
/* cli_config is the file that -c, WEIR_CONFIG or the default names. */
const char *cli_config(const struct cli *cli);

/* cli_admin sends a line to the running weir and prints the answer; the exit code. */
int cli_admin(const struct cli *cli, const char *line);
/* cli_dump_file is `weir dump FILE`. */
int cli_dump_file(const struct cli *cli, const char *path);
/* cli_plan_files is `weir plan OLD NEW`. */
int cli_plan_files(const struct cli *cli);

#define COMMAND(id, name, arguments, doc) int cmd_##id(const struct cli *cli);
#include "commands.def"
#undef COMMAND

/* completion_write appends the bash completion script, from the tables. */
void completion_write(struct text *out);

/* ---- demo_origin.c ---- */

#define DEMO_PORTS 2u
/* origin_start forks the built-in origin on ephemeral loopback ports; 0 or -errno. It ends with
 * its parent. */
MUST_USE int origin_start(uint16_t ports[DEMO_PORTS]);

/* ---- self_signed.c: certificate and key in memory, for `proxy --tls` and `demo` ---- */

#define SELF_SIGNED_CERT "WEIR_SELF_SIGNED_CERT"
#define SELF_SIGNED_KEY "WEIR_SELF_SIGNED_KEY"
MUST_USE bool self_signed_make(void);
/* self_signed_env answers for both names, as control_options.env. */
const char *self_signed_env(void *ctx, const char *name);

#endif
