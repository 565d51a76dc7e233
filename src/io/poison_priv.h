/* poison_priv.h: AddressSanitizer marks for buffers that were given back. No code without ASan. */
#ifndef WEIR_IO_POISON_PRIV_H
#define WEIR_IO_POISON_PRIV_H

#if defined(__SANITIZE_ADDRESS__)
#define WEIR_IO_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WEIR_IO_ASAN 1
#endif
#endif

#ifdef WEIR_IO_ASAN
#include <sanitizer/asan_interface.h>
#define poison(ptr, len) ASAN_POISON_MEMORY_REGION((ptr), (len))
#define unpoison(ptr, len) ASAN_UNPOISON_MEMORY_REGION((ptr), (len))
#else
#define poison(ptr, len) ((void)(ptr), (void)(len))
#define unpoison(ptr, len) ((void)(ptr), (void)(len))
#endif

#endif
