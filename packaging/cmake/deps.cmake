# The libraries, each as one interface target:
#   weir_tls       BoringSSL or AWS-LC, static (-DWEIR_BORINGSSL_DIR, else built by packaging/deps)
#   weir_uring     liburing >= 2.9, static when built by packaging/deps
#   weir_libconfig, weir_cares, weir_xxhash   from the system
#   weir_compress  zlib and brotli, static, each where it is there: certificates are compressed
#   weir_pcre2     PCRE2 with its JIT, from the system, static
# Built dependencies are cached outside the tree; a second configure takes milliseconds.

# weir_build_dep(<script> <result variable>): runs packaging/deps/<script>.sh and returns the
# prefix it prints.
function(weir_build_dep script result)
  # Flags of whoever runs cmake would end in a build that looks like any other: not here.
  set(environment --unset=WEIR_DEPS_FLAGS --unset=WEIR_DEPS_SANITIZE CC=cc CXX=c++)
  if(WEIR_PROFILE STREQUAL "tsan")
    # TSan sees only instrumented atomics: an uninstrumented TLS library would look like a race.
    list(APPEND environment WEIR_DEPS_SANITIZE=thread)
  elseif(WEIR_PROFILE STREQUAL "fuzz" AND script STREQUAL "boringssl")
    # Its fuzzer mode: the same randomness each time, nothing encrypted, each MAC and signature
    # good. For nothing but fuzzing.
    set(environment CC=clang CXX=clang++ WEIR_DEPS_SANITIZE=address,fuzzer-no-link
      "WEIR_DEPS_FLAGS=-O1 -DBORINGSSL_UNSAFE_FUZZER_MODE")
  endif()
  message(STATUS "dependency ${script}: looking in the cache, else fetching and building")
  execute_process(COMMAND ${CMAKE_COMMAND} -E env ${environment}
      "${PROJECT_SOURCE_DIR}/packaging/deps/${script}.sh"
    OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "packaging/deps/${script}.sh failed (${status}); see above")
  endif()
  set(${result} "${prefix}" PARENT_SCOPE)
endfunction()

# weir_dep_version(<prefix> <result variable>): the version that packaging/deps wrote, or
# "unknown".
function(weir_dep_version prefix result)
  set(version "unknown")
  if(EXISTS "${prefix}/weir-dep")
    file(STRINGS "${prefix}/weir-dep" line REGEX "^version=")
    string(REPLACE "version=" "" version "${line}")
  endif()
  set(${result} "${version}" PARENT_SCOPE)
endfunction()

# weir_static_target(<target> <prefix> <library>...): an interface target of static archives under
# <prefix>.
function(weir_static_target target prefix)
  add_library(${target} INTERFACE)
  target_include_directories(${target} SYSTEM INTERFACE "${prefix}/include")
  foreach(library IN LISTS ARGN)
    find_library(weir_file_${library} NAMES lib${library}.a PATHS "${prefix}"
      PATH_SUFFIXES lib lib64 . ${library} build/${library} NO_DEFAULT_PATH NO_CACHE)
    if(NOT weir_file_${library})
      message(FATAL_ERROR "${prefix} holds no lib${library}.a (nor lib, lib64, ${library} in it)")
    endif()
    target_link_libraries(${target} INTERFACE "${weir_file_${library}}")
    unset(weir_file_${library})
  endforeach()
endfunction()

# weir_system_target(<target> <header> <library or empty> <Debian package>)
function(weir_system_target target header library package)
  add_library(${target} INTERFACE)
  find_path(${target}_include ${header})
  if(NOT ${target}_include)
    message(FATAL_ERROR "${header} is missing: apt-get install ${package}")
  endif()
  if(library)
    find_library(${target}_library ${library})
    if(NOT ${target}_library)
      message(FATAL_ERROR "lib${library} is missing: apt-get install ${package}")
    endif()
    target_link_libraries(${target} INTERFACE "${${target}_library}")
  endif()
endfunction()

# --- TLS
if(NOT WEIR_TLS MATCHES "^(boringssl|aws-lc)$")
  message(FATAL_ERROR "WEIR_TLS is ${WEIR_TLS}: it must be boringssl or aws-lc")
endif()
set(weir_tls_prefix "${WEIR_BORINGSSL_DIR}")
if(NOT weir_tls_prefix)
  weir_build_dep(${WEIR_TLS} weir_tls_prefix)
endif()
weir_static_target(weir_tls "${weir_tls_prefix}" ssl crypto)
weir_dep_version("${weir_tls_prefix}" weir_tls_version)
if(WEIR_PROFILE STREQUAL "fuzz" AND WEIR_TLS STREQUAL "boringssl" AND NOT WEIR_BORINGSSL_DIR)
  target_compile_definitions(weir_tls INTERFACE BORINGSSL_UNSAFE_FUZZER_MODE)
endif()
# An upstream BoringSSL of today uses libstdc++; then it goes in statically. The packaged ones need
# none of it.
get_target_property(weir_tls_archives weir_tls INTERFACE_LINK_LIBRARIES)
execute_process(COMMAND ${CMAKE_NM} -u ${weir_tls_archives}
  OUTPUT_VARIABLE weir_tls_undefined ERROR_QUIET)
if(weir_tls_undefined MATCHES "U (_Zn|_Zd|_ZNSt|_ZSt|__cxa_|__gxx_)")
  target_link_libraries(weir_tls INTERFACE -static-libgcc -Wl,-Bstatic -lstdc++ -Wl,-Bdynamic)
endif()
message(STATUS "TLS: ${WEIR_TLS} ${weir_tls_version} in ${weir_tls_prefix}")

# --- liburing
set(weir_uring_prefix "${WEIR_LIBURING_DIR}")
if(NOT weir_uring_prefix)
  execute_process(COMMAND pkg-config --atleast-version=2.9 liburing RESULT_VARIABLE status
    OUTPUT_QUIET ERROR_QUIET)
  if(status EQUAL 0)
    execute_process(COMMAND pkg-config --variable=prefix liburing OUTPUT_VARIABLE weir_uring_system
      OUTPUT_STRIP_TRAILING_WHITESPACE)
    find_library(weir_uring_archive NAMES liburing.a)
  endif()
  if(weir_uring_archive)
    set(weir_uring_prefix "${weir_uring_system}")
  else()
    weir_build_dep(liburing weir_uring_prefix)
  endif()
endif()
if(weir_uring_archive)
  add_library(weir_uring INTERFACE)
  target_link_libraries(weir_uring INTERFACE "${weir_uring_archive}")
  execute_process(COMMAND pkg-config --modversion liburing OUTPUT_VARIABLE weir_uring_version
    OUTPUT_STRIP_TRAILING_WHITESPACE)
else()
  weir_static_target(weir_uring "${weir_uring_prefix}" uring)
  weir_dep_version("${weir_uring_prefix}" weir_uring_version)
endif()
message(STATUS "liburing: ${weir_uring_version} in ${weir_uring_prefix}")

# --- from the system
weir_system_target(weir_libconfig libconfig.h config libconfig-dev)
weir_system_target(weir_cares ares.h cares libc-ares-dev)
weir_system_target(weir_xxhash xxhash.h "" libxxhash-dev)
# PCRE2 goes in statically: Debian's libpcre2-8.a has the JIT and can stand in a PIE.
add_library(weir_pcre2 INTERFACE)
find_path(weir_pcre2_include pcre2.h)
find_library(weir_pcre2_library NAMES libpcre2-8.a pcre2-8)
if(NOT weir_pcre2_include OR NOT weir_pcre2_library)
  message(FATAL_ERROR "pcre2.h or libpcre2-8 is missing: apt-get install libpcre2-dev")
endif()
target_link_libraries(weir_pcre2 INTERFACE "${weir_pcre2_library}")

# Compression of certificates (RFC 8879): without the one or the other weir does not offer it.
add_library(weir_compress INTERFACE)
set(weir_compress_names)
find_path(weir_zlib_include zlib.h)
find_library(weir_zlib_library NAMES libz.a)
if(weir_zlib_include AND weir_zlib_library)
  target_link_libraries(weir_compress INTERFACE "${weir_zlib_library}")
  target_compile_definitions(weir_compress INTERFACE WEIR_ZLIB)
  list(APPEND weir_compress_names zlib)
endif()
find_path(weir_brotli_include brotli/encode.h)
find_library(weir_brotli_library NAMES libbrotlienc.a libbrotlienc-static.a)
find_library(weir_brotli_common NAMES libbrotlicommon.a libbrotlicommon-static.a)
if(weir_brotli_include AND weir_brotli_library AND weir_brotli_common)
  target_link_libraries(weir_compress INTERFACE "${weir_brotli_library}" "${weir_brotli_common}" m)
  target_compile_definitions(weir_compress INTERFACE WEIR_BROTLI)
  list(APPEND weir_compress_names brotli)
endif()
message(STATUS "compression of certificates: ${weir_compress_names}")
