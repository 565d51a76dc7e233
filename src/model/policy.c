/* policy.c: what several policies of a route say together. policy_new is in snapshot.c. Called by
 * config/ (settings, merged once) and proxy/ (pages, when a response is one of errors). */
#include "weir/model/policy.h"

void policy_settings_merge(struct policy_settings *into, const struct policy_settings *over) {
  into->set |= over->set;
  if (over->set & POLICY_REQUEST) into->request_ms = over->request_ms;
  if (over->set & POLICY_FIRST_BYTE) into->first_byte_ms = over->first_byte_ms;
  if (over->set & POLICY_IDLE) into->idle_ms = over->idle_ms;
  if (over->set & POLICY_BODY) into->body_ms = over->body_ms;
  if (over->set & POLICY_SEND) into->send_ms = over->send_ms;
  if (over->set & POLICY_BUFFER) into->buffer_bytes = over->buffer_bytes;
  if (over->set & POLICY_GRPC_WEB) into->grpc_web = over->grpc_web;
  if (over->set & POLICY_EARLY) into->early = over->early;
  if (over->set & POLICY_BODY_BYTES) into->body_bytes = over->body_bytes;
}

bool policies_allow(struct policy *const *policies, uint32_t count, const struct addr *client) {
  for (uint32_t i = 0; i < count; i++)
    if (policies[i]->clients && !netset_allows(policies[i]->clients, client)) return false;
  return true;
}

/* page_fit is the size of the smallest range of a page that has the status; 0: none has. */
static unsigned page_fit(const struct error_page *page, unsigned status) {
  unsigned best = 0;
  for (uint32_t i = 0; i < page->status_count; i++) {
    const struct status_range *r = &page->statuses[i];
    unsigned size = r->to - r->from + 1u;
    if (status >= r->from && status <= r->to && (!best || size < best)) best = size;
  }
  return best;
}

static const struct error_page *page_of(const struct policy *policy, unsigned status,
                                        bool upstream) {
  const struct error_page *found = NULL;
  unsigned best = 0;
  for (uint32_t i = 0; i < policy->page_count; i++) {
    const struct error_page *page = &policy->pages[i];
    unsigned fit = upstream && !page->upstream ? 0 : page_fit(page, status);
    if (!fit || (best && fit >= best)) continue;
    best = fit;
    found = page;
  }
  return found;
}

const struct error_page *error_page_find(struct policy *const *policies, uint32_t count,
                                         unsigned status, bool upstream) {
  for (uint32_t i = count; i > 0; i--) {
    const struct error_page *page = page_of(policies[i - 1], status, upstream);
    if (page) return page;
  }
  return NULL;
}
