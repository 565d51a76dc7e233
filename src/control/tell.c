/* tell.c: what is said about a reload or a plan: to a person, to a program, to the log. Does not:
 * decide anything (compiler.c, publish.c). Called by compiler.c, in the compile thread. */
#include "control/compiler_priv.h"
#include "control/log_priv.h"
#include "control/poller_priv.h"

static void tell_outcome(const struct attempt *a, struct text *out) {
  unsigned long long generation = a->generation;
  const char *plural = a->result.changes == 1 ? "" : "s";
  if (a->plan) {
    text_printf(out, "a reload would make %u change%s", a->result.changes, plural);
  } else {
    text_printf(out, "generation %llu runs, %u change%s", generation, a->result.changes, plural);
  }
  if (a->waiting) {
    text_printf(out, ", %u key%s for a restart", a->waiting,
                a->waiting == 1 ? " waits" : "s wait");
  }
  if (a->plan) {
    text_printf(out, "; generation %llu keeps running", generation);
  }
}

void tell_text(const struct attempt *a, bool color, struct text *out) {
  size_t before = out->len;
  conf_faults_print(a->faults, out, color);
  if (a->result.why[0]) {
    text_printf(out, "%s%s", out->len > before ? "\n" : "", a->result.why);
  }
  if (a->result.code) {
    text_printf(out, "; nothing was changed, generation %llu keeps running.\n",
                (unsigned long long)a->generation);
    return;
  }
  text_put(out, out->len > before ? SPAN_LIT("\n") : SPAN_EMPTY);
  text_put(out, text_span(&a->result.diff));
  tell_outcome(a, out);
  text_lit(out, "\n");
}

void tell_json(const struct attempt *a, struct text *out) {
  text_printf(out,
              "{\"ok\":%s,%s\"generation\":%llu,\"changes\":", a->result.code ? "false" : "true",
              a->plan ? "\"plan\":true," : "", (unsigned long long)a->generation);
  text_put(out, a->result.diff_json.len ? text_span(&a->result.diff_json) : SPAN_LIT("[]"));
  text_printf(out, ",\"waiting_for_restart\":%u,\"faults\":", a->waiting);
  conf_faults_json(a->faults, out);
  if (a->result.why[0]) {
    text_lit(out, ",\"error\":\"");
    text_json(out, span_str(a->result.why));
    text_lit(out, "\"");
  }
  text_lit(out, "}\n");
}

/* A signal has nobody to answer: the log says all that the command would have printed. */
void tell_log(struct compiler *c, const struct attempt *a) {
  struct text text = {.ptr = NULL};
  if (a->result.code || conf_faults_warnings(a->faults)) {
    text_put(&text, a->result.code ? SPAN_LIT("reload refused: ") : SPAN_LIT("reloaded: "));
    tell_text(a, false, &text);
  } else {
    text_lit(&text, "reloaded: ");
    tell_outcome(a, &text);
    text_put(&text, a->result.changes ? SPAN_LIT("\n") : SPAN_EMPTY);
    text_put(&text, text_span(&a->result.diff));
  }
  enum end_level level = a->result.code                   ? END_LEVEL_ERROR
                         : conf_faults_warnings(a->faults) ? END_LEVEL_WARN
                                                           : END_LEVEL_INFO;
  log_text(c->config.log, level, text_span(&text));
  text_fini(&text);
  pthread_mutex_lock(&c->published.lock);
  c->published.last_reload_wall_ms = clock_wall_ms();
  c->published.last_ok = a->result.code == 0;
  *(a->result.code ? &c->published.reloads_failed : &c->published.reloads_ok) += 1;
  pthread_mutex_unlock(&c->published.lock);
}

/* A refused reload did not work (1) as far as the CLI goes, unless the file is bad (78). */
int attempt_code(const struct attempt *a) {
  return a->result.code == WEIR_CANNOT_START ? WEIR_FAILED : a->result.code;
}
