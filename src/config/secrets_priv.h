/* secrets_priv.h: the files, variables and credentials that hold certificates, keys and what
 * belongs to them: what secrets.c shares with renew.c. */
#ifndef WEIR_CONFIG_SECRETS_PRIV_H
#define WEIR_CONFIG_SECRETS_PRIV_H

#include "load_priv.h"

/* secret is one that the configuration names: where its bytes go. */
struct secret {
  const struct conf_row *row;
  enum option_id id;
  struct span name; /* "file:/path", "env:NAME", "cred:name"; empty: none, or refused before */
  struct text *bytes;
  const struct conf_item *item; /* of a list of ticket keys; NULL: of anything else */
};

/* secrets_list gives all of them, in the order of the file; out NULL only counts. */
uint32_t secrets_list(struct conf *conf, struct secret *out);
/* secret_take reads one of them into out and looks at it as far as config/ can. */
void secret_take(const struct conf_reader *reader, struct conf_faults *faults, struct arena *arena,
                 const struct secret *s, struct text *out);
/* secrets_keys_check looks at the ticket keys of one listener together; texts are their bytes. */
void secrets_keys_check(struct conf_faults *faults, const struct secret *keys,
                        const struct text *const *texts, uint32_t count);
/* secret_wipe frees text, and leaves nothing of it in memory. */
void secret_wipe(struct text *t);

#endif
