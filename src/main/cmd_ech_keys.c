/* cmd_ech_keys.c: `weir ech-keys NAME`: a new pair of keys for listeners.*.tls.ech to standard
 * output, and what DNS is to say of it to standard error. Keeps and writes no file. */
#include <stdio.h>

#include "cli_priv.h"
#include "weir/base/mem.h"
#include "weir/io/tls_ech.h"

int cmd_ech_keys(const struct cli *cli) {
  char pem[4096], dns[1024];
  struct buf pem_buf = buf_of(pem, sizeof pem), dns_buf = buf_of(dns, sizeof dns);
  if (cli->word_count != 1)
    return cli_usage_error("give the public name: weir ech-keys example.com > ech.pem");
  if (!tls_ech_make(span_str(cli->words[0]), &pem_buf, &dns_buf))
    return cli_usage_error("the public name is a host name like example.com, without wildcard");
  struct text out = {.ptr = NULL};
  text_put(&out, buf_span(&pem_buf));
  mem_wipe(pem, sizeof pem);
  (void)fprintf(stderr, "HTTPS record of the names behind it: ech=\"" SPAN_FMT "\"\n",
                SPAN_ARG(buf_span(&dns_buf)));
  return cli_print(&out, false, WEIR_OK);
}
