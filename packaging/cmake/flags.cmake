# Compiler and linker flags by WEIR_PROFILE, as two interface targets:
#   weir_flags     what every file of ours is compiled and linked with
#   weir_warnings  the warnings of STYLE.md (errors with WEIR_WERROR)
# Does not: touch flags of the dependencies (packaging/deps has its own).

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON) # gnu17
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE None CACHE STRING "unused: WEIR_PROFILE decides the flags" FORCE)
endif()

add_library(weir_warnings INTERFACE)
target_compile_options(weir_warnings INTERFACE -Wall -Wextra -Wshadow -Wconversion
  -Wsign-conversion -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wswitch-enum
  -Wnull-dereference -Wimplicit-fallthrough
  $<$<BOOL:${WEIR_WERROR}>:-Werror>)

add_library(weir_flags INTERFACE)
# Empty, not 1: a file that says `#define _GNU_SOURCE` itself then repeats the same definition.
target_compile_options(weir_flags INTERFACE -D_GNU_SOURCE= -fno-common
  -fno-strict-aliasing -pthread)
target_link_options(weir_flags INTERFACE -pthread)
target_include_directories(weir_flags INTERFACE "${PROJECT_SOURCE_DIR}/include"
  "${PROJECT_SOURCE_DIR}/src")

set(weir_hardening -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -fstack-protector-strong
  -fstack-clash-protection -ftrivial-auto-var-init=zero -fno-plt -ffunction-sections
  -fdata-sections -fvisibility=hidden)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  list(APPEND weir_hardening -fcf-protection)
endif()
set(weir_hardening_link -pie -Wl,-z,relro,-z,now,-z,noexecstack,-z,separate-code
  -Wl,--gc-sections -Wl,--as-needed)
set(weir_ubsan -fno-sanitize-recover=all -fno-omit-frame-pointer)

if(WEIR_PROFILE STREQUAL "dev")
  target_compile_options(weir_flags INTERFACE -O1 -g)
elseif(WEIR_PROFILE STREQUAL "asan")
  target_compile_options(weir_flags INTERFACE -O1 -g -fsanitize=address,undefined ${weir_ubsan})
  target_link_options(weir_flags INTERFACE -fsanitize=address,undefined)
elseif(WEIR_PROFILE STREQUAL "tsan")
  target_compile_options(weir_flags INTERFACE -O1 -g -fsanitize=thread -fno-omit-frame-pointer)
  target_link_options(weir_flags INTERFACE -fsanitize=thread)
elseif(WEIR_PROFILE STREQUAL "fuzz")
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "the fuzz profile needs clang (libFuzzer): cmake --preset fuzz")
  endif()
  target_compile_options(weir_flags INTERFACE -O1 -g ${weir_ubsan}
    -fsanitize=fuzzer-no-link,address,undefined -DFUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION)
  target_link_options(weir_flags INTERFACE -fsanitize=address,undefined)
elseif(WEIR_PROFILE STREQUAL "release")
  target_compile_options(weir_flags INTERFACE ${weir_hardening})
  target_link_options(weir_flags INTERFACE ${weir_hardening_link} -s)
elseif(WEIR_PROFILE STREQUAL "bench") # what release ships, with symbols for the profiler
  target_compile_options(weir_flags INTERFACE ${weir_hardening} -g)
  target_link_options(weir_flags INTERFACE ${weir_hardening_link})
else()
  message(FATAL_ERROR "WEIR_PROFILE is ${WEIR_PROFILE}: not dev, asan, tsan, fuzz, release, bench")
endif()

if(WEIR_PROFILE MATCHES "^(release|bench)$")
  include(CheckIPOSupported)
  check_ipo_supported(RESULT weir_lto LANGUAGES C)
  set(CMAKE_INTERPROCEDURAL_OPTIMIZATION ${weir_lto})
endif()
