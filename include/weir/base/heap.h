/* heap.h: intrusive pairing heaps (Fredman, Sedgewick, Sleator, Tarjan 1986): the least of many in
 * O(1), insert in O(1), removal of any node in O(log n) amortized, no allocation, no recursion. Of
 * two nodes where neither is before the other, which comes first is not defined. */
#ifndef WEIR_BASE_HEAP_H
#define WEIR_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>

/* heap_node lives in its owner; zeroed while it is in no heap. */
struct heap_node {
  struct heap_node *child, *next;
  struct heap_node *prev; /* the sibling before it, or the parent of the first child */
};

/* heap_before orders two nodes; it must not change while they are in a heap. */
typedef bool (*heap_before)(const struct heap_node *a, const struct heap_node *b);

struct heap {
  struct heap_node *root; /* the first of all; NULL: empty */
};

void heap_insert(struct heap *heap, struct heap_node *node, heap_before before);
/* heap_remove takes a node out that is in the heap. */
void heap_remove(struct heap *heap, struct heap_node *node, heap_before before);

#endif
