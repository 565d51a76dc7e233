/* main.c: one program: parse, dispatch, exit code (DESIGN.md section 6). */
#include <stdio.h>

#include "cli_priv.h"

int main(int argc, char **argv) {
  struct cli cli;
  struct text err = {.ptr = NULL};
  int code = cli_parse(argc, argv, &cli, &err);
  if (code) {
    text_lit(&err, "\ntry: weir help\n");
    return cli_print(&err, true, code);
  }
  if (cli.help) {
    struct text help = {.ptr = NULL};
    cli_usage(cli.command, &help);
    return cli_print(&help, false, WEIR_OK);
  }
  return cli.command->run(&cli);
}
