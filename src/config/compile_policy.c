/* compile_policy.c: a policy's row to its object; one of the generation before with the same
 * content is taken again. Called by compile.c. */
#include "compile_priv.h"

static struct field_set *sets_of(struct arena *arena, const struct conf_list *list) {
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
                              .set = sets_of(arena, &row->set),
                              .set_count = row->set.count,
                              .add = sets_of(arena, &row->add),
                              .add_count = row->add.count};
}

void compile_policy(struct compile *c, const struct conf_policy *row) {
  uint64_t content = row_hash(&row->row);
  struct policy *policy = names_find(&c->old_policies, row->row.name);
  if (policy && policy->obj.content == content) {
    object_ref(c->registry, &policy->obj);
  } else {
    policy = policy_new(c->registry, row->row.name);
    policy->obj.content = content;
    policy->request = edits_of(&policy->obj.arena, &row->request);
    policy->response = edits_of(&policy->obj.arena, &row->response);
  }
  c->snapshot->policies[c->snapshot->policy_count++] = policy;
  names_put(&c->policies, policy->obj.name, policy);
}

static struct policy *policy_of(const struct compile *c, const struct conf_route *row,
                                uint32_t i) {
  struct policy *policy = names_find(&c->policies, row->policies.items[i].text);
  check(policy != NULL); /* check_routes.c saw to it */
  return policy;
}

bool route_policies_same(const struct compile *c, const struct route *route,
                         const struct conf_route *row) {
  if (route->policy_count != row->policies.count) return false;
  for (uint32_t i = 0; i < route->policy_count; i++)
    if (route->policies[i] != policy_of(c, row, i)) return false;
  return true;
}

void route_policies(struct compile *c, struct route *route, const struct conf_route *row) {
  uint32_t count = row->policies.count;
  struct policy **policies = arena_get(&route->obj.arena, (count + 1) * sizeof *policies);
  for (uint32_t i = 0; i < count; i++) {
    policies[i] = policy_of(c, row, i);
    object_ref(c->registry, &policies[i]->obj);
  }
  route->policies = policies;
  route->policy_count = count;
}
