/* completion.c: the bash completion script, written from the tables of the command line. */
#include "cli_priv.h"

static void flags_of(const char *command, struct text *out) {
  size_t count;
  const struct cli_flag *all = cli_flags(&count);
  for (size_t i = 0; i < count; i++) {
    struct span rest = span_str(all[i].commands), name;
    while (span_next_token(&rest, ' ', &name)) {
      if (span_eq(name, span_str(command))) {
        text_printf(out, " --%s", all[i].name);
      }
    }
  }
}

void completion_write(struct text *out) {
  size_t count;
  const struct cli_command *all = cli_commands(&count);
  text_lit(out, "# bash completion of weir, for /usr/share/bash-completion/completions/weir\n"
                "_weir() {\n"
                "  local word=${COMP_WORDS[COMP_CWORD]} words files=\n"
                "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n    words=\"");
  for (size_t i = 0; i < count; i++) {
    text_printf(out, "%s%s", i ? " " : "", all[i].name);
  }
  text_lit(out, "\"\n  else\n    case ${COMP_WORDS[1]} in\n");
  for (size_t i = 0; i < count; i++) {
    text_printf(out, "      %s) words=\"", all[i].name);
    flags_of(all[i].name, out);
    text_lit(out, "\" ;;\n");
  }
  text_lit(out, "    esac\n"
                "    case $word in -*) ;; *) files=-f ;; esac\n"
                "  fi\n"
                "  mapfile -t COMPREPLY < <(compgen $files -W \"$words\" -- \"$word\")\n"
                "}\ncomplete -o filenames -F _weir weir\n");
}
