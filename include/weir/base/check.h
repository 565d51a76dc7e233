/* check.h: assertions that stay on in release builds. A failed check is our own mistake, never a
 * peer's or the system's: it prints one line to stderr and aborts. Used by every layer. */
#ifndef WEIR_BASE_CHECK_H
#define WEIR_BASE_CHECK_H

/* check_failed prints "file:line: check failed: text" and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *text);

/* check(cond) aborts when cond is false; one fact each. Always on. */
#define check(cond) \
  do { \
    if (__builtin_expect(!(cond), 0)) check_failed(__FILE__, __LINE__, #cond); \
  } while (0)

/* dcheck(cond) is check for costly facts: on unless NDEBUG. */
#ifdef NDEBUG
#define dcheck(cond) ((void)sizeof(cond))
#else
#define dcheck(cond) check(cond)
#endif

/* MUST_USE marks results that a caller may not drop. */
#define MUST_USE __attribute__((warn_unused_result))

#define container_of(ptr, type, member) \
  ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define array_count(a) (sizeof(a) / sizeof((a)[0]))

#endif
