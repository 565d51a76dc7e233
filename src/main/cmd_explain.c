/* cmd_explain.c: `weir explain METHOD URL`: with -c of a file, which is compiled but not run; else
 * of the running weir, through its admin socket. */
#include <unistd.h>

#include "cli_priv.h"
#include "weir/proxy/explain.h"

static struct explain_ask ask_of(const struct cli *cli) {
  struct explain_ask ask = {.method = span_str(cli->words[0]),
                            .url = span_str(cli->words[1]),
                            .from = span_str(cli->from),
                            .listener = span_str(cli->listener),
                            .json = cli_json(cli)};
  _Static_assert(CLI_HEADERS_MAX <= EXPLAIN_FIELDS_MAX, "every -H has its place");
  for (uint32_t i = 0; i < cli->header_count; i++) {
    ask.fields[ask.field_count++] = span_str(cli->headers[i]);
  }
  return ask;
}

struct trial {
  const struct explain_ask *ask;
  struct text out;
  bool good;
};

static void on_snapshot(const struct snapshot *snapshot, void *ctx) {
  struct trial *t = (struct trial *)ctx;
  t->good = explain_write(snapshot, t->ask, &t->out);
}

/* put_error makes a sentence the answer, in the form that was asked for. */
static void put_error(struct text *out, bool json) {
  struct text sentence = *out;
  *out = (struct text){.ptr = NULL};
  text_put(out, json ? SPAN_LIT("{\"ok\":false,\"error\":\"") : SPAN_EMPTY);
  (json ? text_json : text_put)(out, text_span(&sentence));
  text_put(out, json ? SPAN_LIT("\"}\n") : SPAN_LIT("\n"));
  text_fini(&sentence);
}

static void put_faults(const struct conf_faults *faults, struct text *out, bool json) {
  if (json) {
    text_lit(out, "{\"ok\":false,\"faults\":");
    conf_faults_json(faults, out);
    text_lit(out, "}\n");
  } else {
    conf_faults_print(faults, out, isatty(STDERR_FILENO));
    text_lit(out, "\n");
  }
}

static int explain_file(const struct cli *cli, const struct explain_ask *ask) {
  struct conf_faults *faults = conf_faults_new();
  struct conf *conf = conf_load(&conf_reader_direct, cli->config, faults);
  struct trial trial = {.ask = ask};
  bool ok = conf && control_trial(conf, faults, on_snapshot, &trial);
  if (!ok) {
    put_faults(faults, &trial.out, ask->json);
  } else if (!trial.good) {
    put_error(&trial.out, ask->json);
  }
  if (conf) {
    conf_free(conf);
  }
  conf_faults_free(faults);
  int code = !ok ? WEIR_BAD_CONFIG : trial.good ? WEIR_OK : WEIR_USAGE;
  return cli_print(&trial.out, code != WEIR_OK && !ask->json, code);
}

int cmd_explain(const struct cli *cli) {
  if (cli->word_count != 2) {
    return cli_usage_error("explain takes a method and a URL: weir explain GET http://a/x");
  }
  struct explain_ask ask = ask_of(cli);
  if (cli->config) {
    ask.unresolved = true; /* control_trial resolves nothing */
    return explain_file(cli, &ask);
  }
  struct text line = {.ptr = NULL};
  text_put(&line, ask.json ? SPAN_LIT("explain json") : SPAN_LIT("explain text"));
  explain_pack(&ask, &line);
  text_put(&line, span_of("", 1));
  int code = cli_admin(cli, line.ptr);
  text_fini(&line);
  return code;
}
