/* doubt_priv.h: what faults leave in doubt. A value that was refused, or whose key was misspelt,
 * is not what was meant: rules that ask for it are not judged, all others are. */
#ifndef WEIR_CONFIG_DOUBT_PRIV_H
#define WEIR_CONFIG_DOUBT_PRIV_H

#include "options_priv.h"

/* row_lose: nobody knows what was meant for an option; row_lose_path: for those of a local path,
 * which is a key or a group; row_lose_all: for any of the row. */
void row_lose(struct conf_row *row, enum option_id id);
void row_lose_path(struct conf_row *row, struct span path);
void row_lose_all(struct conf_row *row);
/* row_lost tells whether that is so of an option; row_lost_any: of one from first to last. */
bool row_lost(const struct conf_row *row, enum option_id id);
bool row_lost_any(const struct conf_row *row, enum option_id first, enum option_id last);

/* listener_plain, pool_plain: there is no TLS, and nothing that may be meant for it. */
bool listener_plain(const struct conf_listener *listener);
bool pool_plain(const struct conf_pool *pool);
/* conf_whole: are all rows of a map of the root known? Else what is named may be defined in what
 * could not be read. */
bool conf_whole(const struct conf *conf, enum option_id map);

/* node_name is a node's key, or what apply.c takes it for. */
struct span node_name(const struct node *node);
/* node_guessed: is a key on the way to a value misspelt? */
bool node_guessed(const struct node *node);
/* unknown_key reports a key, and gives the local path that was meant; empty: nobody knows. */
struct span unknown_key(struct conf *conf, struct conf_row *row, const struct node *node,
                        struct span local);
/* scope_what is a scope's row in words: "a listener". */
const char *scope_what(enum scope_id id);

#endif
