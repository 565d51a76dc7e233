/* heap.c: see heap.h. Two heaps become one by making the root that comes later the first child of
 * the other; the children of a removed root are paired from left to right, then merged from right
 * to left. */
#include "weir/base/heap.h"

#include "weir/base/check.h"

/* merge makes one heap of two roots without siblings; either may be NULL. */
static struct heap_node *merge(struct heap_node *a, struct heap_node *b, heap_before before) {
  if (!a || !b) return a ? a : b;
  if (before(b, a)) {
    struct heap_node *t = a;
    a = b;
    b = t;
  }
  b->prev = a;
  b->next = a->child;
  if (b->next) b->next->prev = b;
  a->child = b;
  return a;
}

/* alone takes a root from its siblings and gives the next of them. */
static struct heap_node *alone(struct heap_node *node) {
  struct heap_node *next = node->next;
  node->next = node->prev = NULL;
  return next;
}

/* merge_all makes one heap of a row of siblings. */
static struct heap_node *merge_all(struct heap_node *first, heap_before before) {
  struct heap_node *pairs = NULL, *root = NULL;
  while (first) { /* each turn takes one or two of them */
    struct heap_node *a = first, *b = alone(a);
    first = b ? alone(b) : NULL;
    a = merge(a, b, before);
    a->next = pairs; /* the last pair first */
    pairs = a;
  }
  while (pairs) {
    struct heap_node *a = pairs;
    pairs = alone(a);
    root = merge(root, a, before);
  }
  return root;
}

void heap_insert(struct heap *heap, struct heap_node *node, heap_before before) {
  node->child = node->next = node->prev = NULL;
  heap->root = merge(heap->root, node, before);
}

/* cut takes a node with what hangs below it out of its parent's row. */
static void cut(struct heap_node *node) {
  if (node->prev->child == node) node->prev->child = node->next;
  else node->prev->next = node->next;
  if (node->next) node->next->prev = node->prev;
  node->next = node->prev = NULL;
}

void heap_remove(struct heap *heap, struct heap_node *node, heap_before before) {
  dcheck(heap->root == node || node->prev);
  if (heap->root == node) heap->root = NULL;
  else cut(node);
  struct heap_node *below = merge_all(node->child, before);
  heap->root = merge(heap->root, below, before);
  node->child = NULL;
}
