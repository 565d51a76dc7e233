/* list.h: intrusive doubly linked lists, O(1) insert and remove. A node that is in no list points
 * at itself. */
#ifndef WEIR_BASE_LIST_H
#define WEIR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
  struct list *next, *prev;
};

static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_push_head(struct list *l, struct list *node) {
  node->next = l->next;
  node->prev = l;
  l->next->prev = node;
  l->next = node;
}
static inline void list_push_tail(struct list *l, struct list *node) {
  node->prev = l->prev;
  node->next = l;
  l->prev->next = node;
  l->prev = node;
}
/* list_remove is safe on a node that is in no list. */
static inline void list_remove(struct list *node) {
  node->prev->next = node->next;
  node->next->prev = node->prev;
  list_init(node);
}
static inline struct list *list_pop_head(struct list *l) {
  if (list_empty(l)) return NULL;
  struct list *node = l->next;
  list_remove(node);
  return node;
}

#endif
