/* object_priv.h: finding or making an object by identity; used by snapshot.c. */
#ifndef WEIR_MODEL_OBJECT_PRIV_H
#define WEIR_MODEL_OBJECT_PRIV_H

#include "weir/model/object.h"

/* object_identity says what is wanted and how to make it. */
struct object_identity {
  enum object_kind kind;
  size_t size;
  struct span name;
  /* same refines equality of kind and name; NULL: they suffice. */
  bool (*same)(const struct object *o, const void *key);
  /* init fills a new object (its arena is ready); it may not call the registry. */
  void (*init)(struct object *o, const void *key);
  const void *key;
};

/* object_get gives the object of that identity with a new ref, making it when there is none. One
 * that is dead but still pinned comes back to life. */
struct object *object_get(struct registry *r, const struct object_identity *want);

#endif
