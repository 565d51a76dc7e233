/* resolver_srv.c: SRV names: their hosts are names of their own, asked for like all others; the
 * endpoints are the hosts' addresses with the records' ports, weights and priorities. A new answer
 * counts when each of its hosts has been asked for, so that a pool does not shrink in between, and
 * only if it has an address or nothing is lost by it. Called by resolver_round.c and resolver.c.
 */
#include <stdio.h>

#include "control/lookup_priv.h"
#include "weir/base/mem.h"

/* ---- answers and their hosts; the lock is held ---- */

static void answer_free(struct srv_answer *a) {
  for (uint32_t i = 0; a && i < a->reply.count; i++) {
    check(a->hosts[i]->parents > 0);
    a->hosts[i]->parents--;
    a->hosts[i]->resolver->reap = true;
  }
  if (a) {
    mem_free(a->hosts);
    srv_reply_fini(&a->reply);
    mem_free(a);
  }
}

void srv_forget(struct lookup *l) {
  answer_free(l->srv);
  answer_free(l->srv_next);
  l->srv = l->srv_next = NULL;
  list_remove(&l->settling);
}

/* host_of is the lookup of a target; what a server names is a full name: no search list. */
static struct lookup *host_of(struct lookup *l, const struct srv_record *row) {
  char name[DNS_NAME_SIZE + 1];
  struct buf b = buf_of(name, sizeof name);
  struct name_query q = l->query;
  buf_put(&b, span_str(row->target));
  buf_char(&b, '.');
  q.name = buf_span(&b);
  q.srv = false;
  struct lookup *host = lookup_get(l->resolver, &q);
  host->parents++;
  return host;
}

static struct srv_answer *answer_new(struct lookup *l, struct srv_reply *reply) {
  struct srv_answer *a = (struct srv_answer *)mem_alloc(sizeof *a);
  a->reply = *reply;
  *reply = (struct srv_reply){.rows = NULL};
  a->hosts = (struct lookup **)mem_array(a->reply.count, sizeof(struct lookup *));
  for (uint32_t i = 0; i < a->reply.count; i++) {
    a->hosts[i] = host_of(l, &a->reply.rows[i]);
  }
  return a;
}

void srv_inherit(struct lookup *l, const struct lookup *from) {
  struct srv_reply copy = from->srv->reply;
  check(l->query.srv && !l->srv);
  copy.rows = (struct srv_record *)mem_array(copy.count, sizeof *copy.rows);
  memcpy(copy.rows, from->srv->reply.rows, copy.count * sizeof *copy.rows);
  l->srv = answer_new(l, &copy);
}

static bool row_same(const struct srv_record *a, const struct srv_record *b) {
  return a->rank == b->rank && a->share == b->share && a->port == b->port &&
         strcmp(a->target, b->target) == 0;
}

static bool reply_same(const struct srv_reply *a, const struct srv_reply *b) {
  if (a->count != b->count) {
    return false;
  }
  for (uint32_t i = 0; i < a->count; i++) {
    if (!row_same(&a->rows[i], &b->rows[i])) {
      return false;
    }
  }
  return true;
}

/* ---- what counts ---- */

static bool all_asked(const struct srv_answer *a) {
  for (uint32_t i = 0; i < a->reply.count; i++) {
    if (!a->hosts[i]->state.answered) {
      return false;
    }
  }
  return true;
}

static bool any_address(const struct srv_answer *a) {
  for (uint32_t i = 0; a && i < a->reply.count; i++) {
    if (a->hosts[i]->addr_count) {
      return true;
    }
  }
  return false;
}

bool srv_resolved(const struct lookup *l) { return any_address(l->srv); }

static bool settle(struct lookup *l) {
  struct srv_answer *next = l->srv_next;
  if (!next || !all_asked(next) || (!any_address(next) && any_address(l->srv))) {
    return false;
  }
  answer_free(l->srv);
  l->srv = next;
  l->srv_next = NULL;
  list_remove(&l->settling);
  lookup_note(l);
  pthread_cond_broadcast(&l->resolver->answered);
  return true;
}

void srv_settle(struct resolver *r) {
  bool changed = false;
  pthread_mutex_lock(&r->lock);
  for (struct list *at = r->settling.next; at != &r->settling;) {
    struct lookup *l = container_of(at, struct lookup, settling);
    at = at->next;
    changed = settle(l) || changed;
  }
  pthread_mutex_unlock(&r->lock);
  if (changed) {
    lookup_changed(r);
  }
}

static void say_odd(struct lookup *l, const struct srv_reply *reply) {
  char line[512];
  struct resolver *r = l->resolver;
  bool odd = reply->left_out || reply->skipped;
  if (odd && !l->srv_odd) {
    (void)snprintf(line, sizeof line,
                   "SRV name " SPAN_FMT
                   ": %u records are used, %u above the limit of %u and %u "
                   "without a good host name or port are not",
                   SPAN_ARG(l->query.name), reply->count, reply->left_out, NAME_ANSWERS_MAX,
                   reply->skipped);
    r->config.say(r->config.ctx, END_LEVEL_WARN, line);
  }
  l->srv_odd = odd;
}

void srv_take(struct lookup *l, struct srv_reply *reply) {
  struct resolver *r = l->resolver;
  say_odd(l, reply);
  pthread_mutex_lock(&r->lock);
  l->good_candidate = l->round.candidate;
  const struct srv_answer *newest = l->srv_next ? l->srv_next : l->srv;
  if (newest && reply_same(&newest->reply, reply)) {
    srv_reply_fini(reply);
  } else {
    struct srv_answer *made = answer_new(l, reply);
    answer_free(l->srv_next);
    l->srv_next = made;
    list_remove(&l->settling);
    list_push_tail(&r->settling, &l->settling);
    lookup_note(l);
  }
  pthread_mutex_unlock(&r->lock);
}

/* ---- addresses ---- */

static bool is_there(const struct name_answer *rows, uint32_t count, const struct addr *a) {
  for (uint32_t i = 0; i < count; i++) {
    if (addr_eq(&rows[i].addr, a)) {
      return true;
    }
  }
  return false;
}

uint32_t srv_answers(const struct lookup *l, struct name_answer *rows, struct arena *texts) {
  uint32_t count = 0;
  for (uint32_t i = 0; l->srv && i < l->srv->reply.count; i++) {
    const struct srv_record *row = &l->srv->reply.rows[i];
    const struct lookup *host = l->srv->hosts[i];
    struct span target =
        host->addr_count ? arena_copy(texts, span_str(row->target), NULL) : SPAN_EMPTY;
    for (uint32_t k = 0; k < host->addr_count && count < NAME_ANSWERS_MAX; k++) {
      struct addr a = name_addr(host->addrs[k], row->port);
      if (!is_there(rows, count, &a)) {
        rows[count++] = (struct name_answer){
            .addr = a, .target = target, .weight = row->share, .priority = row->rank};
      }
    }
  }
  return count;
}
