/* Tests of main/cli.c and main/completion.c: the tables, parsing, suggestions. The sources are
 * compiled in here, with commands that only tell that they were meant. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "main/cli.c"
#include "main/completion.c"

#define COMMAND(id, name, arguments, doc) \
  int cmd_##id(const struct cli *cli) { \
    (void)cli; \
    return WEIR_OK; \
  }
#include "main/commands.def"
#undef COMMAND

static int parse(struct cli *cli, struct text *err, const char *line) {
  static char copy[512];
  static char *argv[32];
  int argc = 0;
  (void)snprintf(copy, sizeof copy, "weir %s", line);
  for (char *rest, *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    argv[argc++] = word;
  }
  return cli_parse(argc, argv, cli, err);
}

static void accept_line(const char *line, const char *command, struct cli *cli) {
  struct text err = {.ptr = NULL};
  assert_int_equal(parse(cli, &err, line), 0);
  assert_string_equal(cli->command->name, command);
  assert_int_equal(err.len, 0);
}

static void refuse_line(const char *line, const char *message) {
  struct cli cli;
  struct text err = {.ptr = NULL};
  assert_int_equal(parse(&cli, &err, line), WEIR_USAGE);
  text_put(&err, span_of("", 1));
  assert_string_equal(err.ptr, message);
  text_fini(&err);
}

static void test_accepted(void **state) {
  (void)state;
  struct cli cli;
  accept_line("run -c a.conf", "run", &cli);
  assert_string_equal(cli.config, "a.conf");
  accept_line("run --config=a=b", "run", &cli);
  assert_string_equal(cli.config, "a=b");
  accept_line("-t -c x.conf", "run", &cli);
  assert_non_null(cli.test);
  assert_string_equal(cli.config, "x.conf");
  accept_line("explain GET http://a/ -H A:1 --header=B:2 --from 10.0.0.1", "explain", &cli);
  assert_int_equal(cli.word_count, 2);
  assert_int_equal(cli.header_count, 2);
  assert_string_equal(cli.headers[0], "A:1");
  assert_string_equal(cli.headers[1], "B:2");
  assert_string_equal(cli.from, "10.0.0.1");
  accept_line("proxy 8080 a:1 b:2 --tls", "proxy", &cli);
  assert_int_equal(cli.word_count, 3);
  assert_non_null(cli.tls);
  accept_line("check -- -odd", "check", &cli);
  assert_string_equal(cli.words[0], "-odd");
  accept_line("--version", "version", &cli);
  accept_line("-h", "help", &cli);
  accept_line("", "help", &cli);
  assert_null(cli.json);
}

static void test_refused(void **state) {
  (void)state;
  refuse_line("chekc", "weir: there is no command \"chekc\"; did you mean \"check\"?");
  refuse_line("rel", "weir: there is no command \"rel\"; did you mean \"reload\"?");
  refuse_line("xyzzy", "weir: there is no command \"xyzzy\"");
  refuse_line("run --confg a", "weir run: unknown option --confg; did you mean --config?");
  refuse_line("run -x", "weir run: unknown option -x");
  refuse_line("run --tls", "weir run: unknown option --tls"); /* proxy's, not run's */
  refuse_line("run -c", "weir run: --config needs FILE");
  refuse_line("reload --json=1", "weir reload: --json takes no value");
  refuse_line("tap x", "weir: there is no command \"tap\""); /* of a later version */
}

static void test_tables(void **state) {
  (void)state;
  size_t command_count, flag_count;
  const struct cli_command *all = cli_commands(&command_count);
  const struct cli_flag *options = cli_flags(&flag_count);
  for (size_t i = 0; i < command_count; i++) {
    struct text out = {.ptr = NULL};
    cli_usage(&all[i], &out);
    text_put(&out, span_of("", 1));
    assert_non_null(strstr(out.ptr, all[i].doc));
    assert_non_null(strstr(out.ptr, "--help"));
    text_fini(&out);
  }
  /* Each option belongs to commands that exist. */
  for (size_t i = 0; i < flag_count; i++) {
    struct span rest = span_str(options[i].commands), name;
    while (span_next_token(&rest, ' ', &name)) {
      assert_non_null(command_find(name));
    }
  }
}

static void test_usage_and_completion_name_all(void **state) {
  (void)state;
  struct text usage = {.ptr = NULL}, script = {.ptr = NULL};
  size_t count;
  const struct cli_command *all = cli_commands(&count);
  cli_usage(NULL, &usage);
  completion_write(&script);
  text_put(&usage, span_of("", 1));
  text_put(&script, span_of("", 1));
  for (size_t i = 0; i < count; i++) {
    assert_non_null(strstr(usage.ptr, all[i].name));
    assert_non_null(strstr(script.ptr, all[i].name));
  }
  assert_non_null(strstr(script.ptr, "run) words=\" --config --test --log-tls-keys --help\""));
  text_fini(&usage);
  text_fini(&script);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_accepted),
      cmocka_unit_test(test_refused),
      cmocka_unit_test(test_tables),
      cmocka_unit_test(test_usage_and_completion_name_all),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
