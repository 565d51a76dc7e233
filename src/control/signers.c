/* signers.c: the threads of process.signers, which sign for TLS handshakes (io/tls_signer.h).
 * Started before the workers, ended after them. Called by control.c. */
#include "control/signers_priv.h"

#include "control/thread_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_signer.h"

static void *run(void *unused) {
  thread_name("weir-signer");
  tls_signer_run();
  return unused;
}

int signers_start(struct signers *s, uint32_t count) {
  *s = (struct signers){0};
  if (!count) return 0;
  s->threads = (pthread_t *)mem_array(count, sizeof *s->threads);
  tls_signers_open();
  while (s->count < count) {
    int err = thread_start(&s->threads[s->count], run, NULL);
    if (err < 0) {
      signers_stop(s);
      return err;
    }
    s->count++;
  }
  return 0;
}

void signers_stop(struct signers *s) {
  if (!s->threads) return;
  tls_signers_close();
  for (uint32_t i = 0; i < s->count; i++) check(pthread_join(s->threads[i], NULL) == 0);
  mem_free(s->threads);
  *s = (struct signers){0};
}
