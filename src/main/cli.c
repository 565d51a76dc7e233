/* cli.c: tables and parsing of the command line; usage; suggestions. Does not: run anything. */
#include "cli_priv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "weir/base/mem.h"

static const struct cli_command commands[] = {
#define COMMAND(id, name, arguments, doc) {name, arguments, doc, cmd_##id},
#include "commands.def"
#undef COMMAND
};

static const struct cli_flag flags[] = {
#define FLAG(field, name, letter, value, commands, doc) \
  {name, letter, value, commands, doc, offsetof(struct cli, field)},
#include "flags.def"
#undef FLAG
};

const struct cli_command *cli_commands(size_t *count) {
  *count = array_count(commands);
  return commands;
}

const struct cli_flag *cli_flags(size_t *count) {
  *count = array_count(flags);
  return flags;
}

/* ---- suggestions: edit distance on short words ---- */

#define WORD_MAX 32u

static unsigned least(unsigned a, unsigned b, unsigned c) {
  unsigned m = a < b ? a : b;
  return m < c ? m : c;
}

static unsigned distance(struct span a, struct span b) {
  unsigned row[WORD_MAX + 1];
  for (unsigned k = 0; k <= b.len; k++) {
    row[k] = k;
  }
  for (unsigned i = 1; i <= a.len; i++) {
    unsigned diagonal = row[0];
    row[0] = i;
    for (unsigned k = 1; k <= b.len; k++) {
      unsigned above = row[k];
      row[k] = least(above + 1, row[k - 1] + 1, diagonal + (a.ptr[i - 1] != b.ptr[k - 1]));
      diagonal = above;
    }
  }
  return row[b.len];
}

const char *cli_suggest(struct span word, const char *const *names, size_t count) {
  const char *best = NULL;
  unsigned nearest = word.len > 4 ? 3 : 2; /* more edits make another word */
  for (size_t i = 0; i < count && word.len <= WORD_MAX; i++) {
    struct span name = span_str(names[i]);
    unsigned d = name.len <= WORD_MAX ? distance(word, name) : nearest;
    if (word.len > 1 && span_starts(name, word)) {
      d = 1;
    }
    if (d < nearest && d < word.len) {
      nearest = d;
      best = names[i];
    }
  }
  return best;
}

/* ---- parsing ---- */

static const struct cli_command *command_find(struct span name) {
  for (size_t i = 0; i < array_count(commands); i++) {
    if (span_eq(span_str(commands[i].name), name)) {
      return &commands[i];
    }
  }
  return NULL;
}

static bool takes(const struct cli_command *command, const struct cli_flag *flag) {
  struct span rest = span_str(flag->commands), name;
  while (span_next_token(&rest, ' ', &name)) {
    if (span_eq(name, span_str(command->name))) {
      return true;
    }
  }
  return false;
}

static const struct cli_flag *flag_find(const struct cli_command *command, struct span name,
                                        char letter) {
  for (size_t i = 0; i < array_count(flags); i++) {
    bool same = letter ? flags[i].letter == letter : span_eq(span_str(flags[i].name), name);
    if (same && takes(command, &flags[i])) {
      return &flags[i];
    }
  }
  return NULL;
}

static int flag_set(struct cli *cli, const struct cli_flag *flag, const char *value,
                    struct text *err) {
  *(const char **)(void *)((char *)cli + flag->offset) = value;
  if (flag->offset != offsetof(struct cli, header)) {
    return 0;
  }
  if (cli->header_count == CLI_HEADERS_MAX) {
    text_printf(err, "weir %s: too many fields", cli->command->name);
    return WEIR_USAGE;
  }
  cli->headers[cli->header_count++] = value;
  return 0;
}

static int unknown_flag(const struct cli_command *command, struct span name, const char *arg,
                        struct text *err) {
  const char *names[array_count(flags)];
  size_t count = 0;
  for (size_t i = 0; i < array_count(flags); i++) {
    if (takes(command, &flags[i])) {
      names[count++] = flags[i].name;
    }
  }
  const char *near = name.len ? cli_suggest(name, names, count) : NULL;
  text_printf(err, "weir %s: unknown option %s", command->name, arg);
  if (near) {
    text_printf(err, "; did you mean --%s?", near);
  }
  return WEIR_USAGE;
}

/* flag_parse reads argv[*at], and the value behind it if it takes one. */
static int flag_parse(char *const *argv, int argc, int *at, struct cli *cli, struct text *err) {
  const char *arg = argv[*at];
  bool is_long = arg[1] == '-';
  struct span whole = span_str(arg + (is_long ? 2 : 1));
  size_t equals = is_long ? span_find_char(whole, '=', 0) : SIZE_MAX;
  struct span name = span_sub(whole, 0, equals);
  const struct cli_flag *flag =
      !is_long && whole.len != 1 ? NULL : flag_find(cli->command, name, is_long ? 0 : arg[1]);
  if (!flag) {
    return unknown_flag(cli->command, is_long ? name : SPAN_EMPTY, arg, err);
  }
  if (!flag->value) {
    if (equals != SIZE_MAX) {
      text_printf(err, "weir %s: --%s takes no value", cli->command->name, flag->name);
      return WEIR_USAGE;
    }
    return flag_set(cli, flag, "", err);
  }
  if (equals == SIZE_MAX && *at + 1 >= argc) {
    text_printf(err, "weir %s: --%s needs %s", cli->command->name, flag->name, flag->value);
    return WEIR_USAGE;
  }
  return flag_set(cli, flag, equals == SIZE_MAX ? argv[++*at] : arg + 2 + equals + 1, err);
}

static int words_parse(char *const *argv, int argc, int at, struct cli *cli, struct text *err) {
  bool only_words = false;
  for (; at < argc; at++) {
    const char *arg = argv[at];
    if (!only_words && strcmp(arg, "--") == 0) {
      only_words = true;
    } else if (!only_words && arg[0] == '-' && arg[1]) {
      int code = flag_parse(argv, argc, &at, cli, err);
      if (code) {
        return code;
      }
    } else if (cli->word_count == CLI_WORDS_MAX) {
      text_printf(err, "weir %s: too many arguments", cli->command->name);
      return WEIR_USAGE;
    } else {
      cli->words[cli->word_count++] = arg;
    }
  }
  return 0;
}

static int unknown_command(const char *arg, struct text *err) {
  const char *names[array_count(commands)];
  for (size_t i = 0; i < array_count(commands); i++) {
    names[i] = commands[i].name;
  }
  const char *near = cli_suggest(span_str(arg), names, array_count(names));
  text_printf(err, "weir: there is no command \"%s\"", arg);
  if (near) {
    text_printf(err, "; did you mean \"%s\"?", near);
  }
  return WEIR_USAGE;
}

int cli_parse(int argc, char *const *argv, struct cli *cli, struct text *err) {
  *cli = (struct cli){.command = NULL};
  const char *first = argc > 1 ? argv[1] : "help";
  int at = 2;
  if (strcmp(first, "--version") == 0 || strcmp(first, "-V") == 0) {
    first = "version";
  } else if (strcmp(first, "--help") == 0 || strcmp(first, "-h") == 0) {
    first = "help";
  } else if (strcmp(first, "-t") == 0 || strcmp(first, "-c") == 0) {
    first = "run"; /* weir -t -c FILE, as others have it */
    at = 1;
  }
  cli->command = command_find(span_str(first));
  return cli->command ? words_parse(argv, argc, at, cli, err) : unknown_command(first, err);
}

/* ---- telling ---- */

static void usage_flag(const struct cli_flag *flag, struct text *out) {
  char left[40];
  (void)snprintf(left, sizeof left, "%s%c%s--%s%s%s", flag->letter ? "-" : " ",
                 flag->letter ? flag->letter : ' ', flag->letter ? ", " : "  ", flag->name,
                 flag->value ? " " : "", flag->value ? flag->value : "");
  text_printf(out, "  %-24s %s\n", left, flag->doc);
}

void cli_usage(const struct cli_command *command, struct text *out) {
  if (!command) {
    text_lit(out, "weir COMMAND [OPTION...]\n\n");
    for (size_t i = 0; i < array_count(commands); i++) {
      char left[40];
      (void)snprintf(left, sizeof left, "%s%s%s", commands[i].name,
                     commands[i].arguments[0] ? " " : "", commands[i].arguments);
      text_printf(out, "  %-24s %s\n", left, commands[i].doc);
    }
    text_lit(out, "\nweir help COMMAND tells its options. "
                  "Exit codes: 0 ok, 1 it did not work, 2 usage, 75 cannot start, 78 bad "
                  "configuration.\n");
    return;
  }
  text_printf(out, "weir %s %s\n%s\n\n", command->name, command->arguments, command->doc);
  for (size_t i = 0; i < array_count(flags); i++) {
    if (takes(command, &flags[i])) {
      usage_flag(&flags[i], out);
    }
  }
}

bool cli_json(const struct cli *cli) {
  return cli->json || (!cli->text && !isatty(STDOUT_FILENO));
}

int cli_usage_error(const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  (void)fprintf(stderr, "weir: ");
  (void)vfprintf(stderr, fmt, args);
  va_end(args);
  (void)fprintf(stderr, "\ntry: weir help\n");
  return WEIR_USAGE;
}

int cli_failed(struct text *sentence, bool json) {
  struct text out = {.ptr = NULL};
  if (json) {
    text_lit(&out, "{\"ok\":false,\"error\":\"");
    text_json(&out, text_span(sentence));
    text_lit(&out, "\"}\n");
  } else {
    text_printf(&out, "weir: " SPAN_FMT "\n", SPAN_ARG(text_span(sentence)));
  }
  text_fini(sentence);
  return cli_print(&out, !json, WEIR_FAILED);
}

int cli_print(struct text *text, bool bad, int code) {
  FILE *to = bad ? stderr : stdout;
  if (text->len) {
    (void)fwrite(text->ptr, 1, text->len, to);
  }
  text_fini(text);
  return fflush(to) == 0 || code ? code : WEIR_FAILED;
}

const char *cli_config(const struct cli *cli) {
  const char *env = getenv("WEIR_CONFIG");
  return cli->config ? cli->config : env && env[0] ? env : CLI_CONFIG_DEFAULT;
}
