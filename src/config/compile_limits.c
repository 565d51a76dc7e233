/* compile_limits.c: networks that may and may not, and rates, from rows to model/limits.h. Texts
 * were checked when they were read, so that they parse again. Called by compile_policy.c and
 * compile_listener.c. */
#include "compile_priv.h"

static struct addr_net *nets_of(struct arena *arena, const struct conf_list *list) {
  struct addr_net *nets = arena_get(arena, (list->count + 1) * sizeof *nets);
  for (uint32_t i = 0; i < list->count; i++)
    check(addr_net_parse(list->items[i].text, &nets[i]));
  return nets;
}

const struct netset *netset_of(struct arena *arena, const struct conf_list *allow,
                               const struct conf_list *deny) {
  struct arena scratch;
  arena_init(&scratch, ARENA_PAGES, 0);
  const struct netset *set = netset_new(arena, nets_of(&scratch, allow), allow->count,
                                        nets_of(&scratch, deny), deny->count);
  arena_reset(&scratch);
  return set;
}

static void key_fill(struct arena *arena, struct policy_rate *rate, const struct conf_list *key) {
  struct rate_part *parts = arena_get(arena, key->count * sizeof *parts);
  for (uint32_t i = 0; i < key->count; i++) {
    check(rate_part_parse(key->items[i].text, &parts[i]));
    parts[i].name = arena_copy(arena, parts[i].name, NULL);
  }
  rate->parts = parts;
  rate->part_count = key->count;
}

/* told_item is the policy's item: the limit as written, or, where burst is more, as many in the
 * time in which they come back. Both are the same rate. */
static struct span told_item(struct policy *policy, uint32_t limit, uint64_t period_ns) {
  const struct policy_rate *rate = &policy->rate;
  uint64_t second = UINT64_C(1000000000);
  uint64_t quota = rate->burst > limit ? rate->burst : limit;
  uint64_t window_ns = rate->burst > limit ? quota * rate->gcra.interval_ns : period_ns;
  return arena_printf(&policy->obj.arena, "\"" SPAN_FMT "\";q=%llu;w=%llu",
                      SPAN_ARG(policy->obj.name), (unsigned long long)quota,
                      (unsigned long long)((window_ns + second - 1) / second));
}

void compile_rate(struct compile *c, struct policy *policy, const struct conf_rate *row) {
  struct policy_rate *rate = &policy->rate;
  uint32_t limit;
  uint64_t period_ns;
  if (!row->limit.len) return;
  check(rate_parse(row->limit, &limit, &period_ns));
  *rate = (struct policy_rate){.burst = row->burst ? row->burst : limit,
                               .prefix4 = row->prefix4,
                               .prefix6 = row->prefix6,
                               .status = row->status,
                               .dry_run = row->dry_run,
                               .headers = row->headers && !row->dry_run};
  rate->gcra = gcra_of(limit, period_ns, rate->burst);
  key_fill(&policy->obj.arena, rate, &row->key);
  rate->told = told_item(policy, limit, period_ns);
  rate->state = rate_state_get(c->registry, policy->obj.name, rate_identity(rate, row->entries),
                               row->entries);
}

/* ---- tables ---- */

static bool no_memory(struct compile *c, const struct conf_row *row, enum option_id id,
                      const char *what) {
  fault_add(c->faults, FAULT_NO_MEMORY, row_place(row, id),
            "\"" SPAN_FMT "\": no memory for %s", SPAN_ARG(row->name), what);
  return false;
}

bool compile_tables(struct compile *c) {
  const struct conf_root *root = &c->conf->root;
  const struct snapshot *s = c->snapshot;
  uint32_t i = 0, k = 0;
  if (c->hooks->trial) return true;
  rows_each(&root->policies, struct conf_policy, row) {
    struct rate_state *state = s->policies[i++]->rate.state;
    if (state && !rate_state_count(state))
      return no_memory(c, &row->row, OPTION_POLICY_RATE_ENTRIES, "so many keys, 32 bytes each");
  }
  rows_each(&root->listeners, struct conf_listener, row) {
    struct listener_state *state = s->listeners[k++].listener->state;
    if (row->client_max && !listener_state_count(state, s->max_connections))
      return no_memory(c, &row->row, OPTION_LISTENER_PER_CLIENT, "the table of its clients");
  }
  return true;
}
