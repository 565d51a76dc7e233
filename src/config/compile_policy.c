/* compile_policy.c: a policy's row to its object; one of the generation before with the same
 * content is taken again. Called by compile.c. */
#include "compile_priv.h"

struct field_set *field_sets(struct arena *arena, const struct conf_list *list) {
  struct field_set *sets = arena_get(arena, (list->count + 1) * sizeof *sets);
  for (uint32_t i = 0; i < list->count; i++) {
    struct span name, value;
    edit_split(list->items[i].text, &name, &value);
    sets[i].name = arena_copy(arena, name, NULL);
    sets[i].value = template_parse(value, arena);
  }
  return sets;
}

static struct field_edits edits_of(struct arena *arena, const struct conf_edits *row) {
  struct span *remove = arena_get(arena, (row->remove.count + 1) * sizeof *remove);
  for (uint32_t i = 0; i < row->remove.count; i++)
    remove[i] = arena_copy(arena, row->remove.items[i].text, NULL);
  return (struct field_edits){.remove = remove,
                              .remove_count = row->remove.count,
                              .set = field_sets(arena, &row->set),
                              .set_count = row->set.count,
                              .add = field_sets(arena, &row->add),
                              .add_count = row->add.count};
}

static const struct {
  enum option_id option;
  enum policy_settings_bit bit;
} settings_bits[] = {
    {OPTION_POLICY_REQUEST, POLICY_REQUEST},
    {OPTION_POLICY_IDLE, POLICY_IDLE},
    {OPTION_POLICY_FIRST_BYTE, POLICY_FIRST_BYTE},
    {OPTION_POLICY_BODY, POLICY_BODY},
    {OPTION_POLICY_BUFFER, POLICY_BUFFER},
    {OPTION_POLICY_GRPC_WEB, POLICY_GRPC_WEB},
    {OPTION_POLICY_EARLY, POLICY_EARLY},
    {OPTION_POLICY_BODY_BYTES, POLICY_BODY_BYTES},
    {OPTION_POLICY_SEND, POLICY_SEND},
};

static uint32_t settings_set(const struct conf_policy *row) {
  uint32_t set = 0;
  for (size_t i = 0; i < array_count(settings_bits); i++)
    if (row_origin(&row->row, settings_bits[i].option)->node) set |= settings_bits[i].bit;
  return set;
}

static void pages_of(struct policy *policy, const struct conf_policy *row) {
  struct arena *arena = &policy->obj.arena;
  struct error_page *pages = arena_get(arena, (row->errors.count + 1) * sizeof *pages);
  rows_each(&row->errors, struct conf_error, from) {
    struct status_range *statuses = arena_get(arena, from->status.count * sizeof *statuses);
    for (uint32_t i = 0; i < from->status.count; i++)
      check(statuses_parse(from->status.items[i].text, &statuses[i].from, &statuses[i].to));
    pages[policy->page_count++] = (struct error_page){
        .statuses = statuses,
        .status_count = from->status.count,
        .upstream = from->upstream,
        .body = arena_copy(arena, from->file.len ? from->file_bytes : from->body, NULL),
        .content_type = arena_copy(arena, from->type, NULL)};
  }
  policy->pages = pages;
}

/* policy_hash: what is unset differs from what is 0, and files count by what is in them. */
static uint64_t policy_hash(const struct conf_policy *row) {
  uint64_t hash = hash_mix(row_hash(&row->row), settings_set(row));
  rows_each(&row->errors, struct conf_error, page) {
    hash = text_hash(hash_mix(hash, row_hash(&page->row)), page->file_bytes);
  }
  return hash;
}

void compile_policy(struct compile *c, const struct conf_policy *row) {
  uint64_t content = policy_hash(row);
  struct policy *policy = names_find(&c->old_policies, row->row.name);
  if (policy && policy->obj.content == content) {
    object_ref(c->registry, &policy->obj);
  } else {
    policy = policy_new(c->registry, row->row.name);
    policy->obj.content = content;
    policy->request = edits_of(&policy->obj.arena, &row->request);
    policy->response = edits_of(&policy->obj.arena, &row->response);
    policy->settings = row->settings;
    policy->settings.set = settings_set(row);
    policy->cors = cors_of(&policy->obj.arena, &row->cors);
    policy->clients = netset_of(&policy->obj.arena, &row->allow, &row->deny);
    compile_rate(c, policy, &row->rate);
    pages_of(policy, row);
  }
  c->snapshot->policies[c->snapshot->policy_count++] = policy;
  names_put(&c->policies, policy->obj.name, policy);
}

/* ---- who names them ---- */

static struct policy *policy_of(const struct compile *c, const struct conf_list *names,
                                uint32_t i) {
  struct policy *policy = names_find(&c->policies, names->items[i].text);
  check(policy != NULL); /* check_routes.c and check_listener_policies.c saw to it */
  return policy;
}

static bool same(const struct compile *c, struct policy *const *policies, uint32_t count,
                 const struct conf_list *names) {
  if (count != names->count) return false;
  for (uint32_t i = 0; i < count; i++)
    if (policies[i] != policy_of(c, names, i)) return false;
  return true;
}

/* named gives them in the order of their names, each with a ref. */
static struct policy **named(struct compile *c, struct arena *arena,
                             const struct conf_list *names) {
  struct policy **policies = arena_get(arena, (names->count + 1) * sizeof(struct policy *));
  for (uint32_t i = 0; i < names->count; i++) {
    policies[i] = policy_of(c, names, i);
    object_ref(c->registry, &policies[i]->obj);
  }
  return policies;
}

bool route_policies_same(const struct compile *c, const struct route *route,
                         const struct conf_route *row) {
  return same(c, route->policies, route->policy_count, &row->policies);
}

bool listener_policies_same(const struct compile *c, const struct listener *listener,
                            const struct conf_listener *row) {
  return same(c, listener->policies, listener->policy_count, &row->policies);
}

void route_policies(struct compile *c, struct route *route, const struct conf_route *row) {
  uint32_t count = row->policies.count;
  struct policy **policies = named(c, &route->obj.arena, &row->policies);
  for (uint32_t i = 0; i < count; i++) {
    policy_settings_merge(&route->settings, &policies[i]->settings);
    if (policies[i]->cors) route->cors = policies[i]->cors;
    if (policies[i]->clients || policies[i]->rate.state) route->limited = true;
  }
  bool own = row_origin(&row->row, OPTION_ROUTE_TIMEOUT)->node != NULL;
  route->timeout_ms = own ? row->timeout_ms : route->settings.request_ms;
  route->policies = policies;
  route->policy_count = count;
}

void listener_policies(struct compile *c, struct listener *listener,
                       const struct conf_listener *row) {
  listener->policies = named(c, &listener->obj.arena, &row->policies);
  listener->policy_count = row->policies.count;
}
