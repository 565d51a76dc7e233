# Test targets by layout (see CMakeLists.txt): unit tests, simulations, fuzz targets, lints.
#   ctest -L unit | sim | fuzz | lint. In the fuzz profile only libFuzzer binaries are built.

# Shared helpers: tests/support/*.c (any test) and fuzz/*.c other than targets (reference parsers).
function(weir_support_library target)
  file(GLOB sources CONFIGURE_DEPENDS ${ARGN})
  list(FILTER sources EXCLUDE REGEX "/(fuzz_[^/]*|replay_main)\\.c$")
  if(sources)
    add_library(${target} STATIC ${sources})
    target_link_libraries(${target} PRIVATE weir_warnings weir_tls PUBLIC ${weir_layer_libs})
    target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support"
      "${PROJECT_SOURCE_DIR}/fuzz")
  else()
    add_library(${target} INTERFACE)
  endif()
endfunction()

# weir_test_program(<target> <ctest name> <label> <source> <library>...)
function(weir_test_program target name label source)
  add_executable(${target} "${source}")
  target_link_libraries(${target} PRIVATE weir_flags weir_warnings ${ARGN})
  # assert_non_null() does not tell the compiler that it does not return.
  set_source_files_properties("${source}" PROPERTIES COMPILE_OPTIONS -Wno-null-dereference)
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/support")
  add_test(NAME ${name} COMMAND ${target} WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  weir_test_properties(${name} ${label})
endfunction()

# The timeout is a stop for a hang, never a measure of success.
function(weir_test_properties name label)
  set(environment "ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1"
    "UBSAN_OPTIONS=print_stacktrace=1" "WEIR_SOURCE_DIR=${PROJECT_SOURCE_DIR}")
  set_tests_properties(${name} PROPERTIES LABELS ${label} TIMEOUT 900 ENVIRONMENT "${environment}")
endfunction()

# The oracle of HPACK, for tests and fuzz targets only: weir never links it.
weir_system_target(weir_nghttp2 nghttp2/nghttp2.h nghttp2 libnghttp2-dev)

weir_support_library(weir_test_support "${PROJECT_SOURCE_DIR}/tests/support/*.c")

if(NOT WEIR_PROFILE STREQUAL "fuzz")
  weir_system_target(weir_cmocka cmocka.h cmocka libcmocka-dev)
  foreach(layer IN LISTS weir_layers ITEMS main)
    file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/unit/${layer}/test_*.c")
    set(library weir_${layer})
    if(layer STREQUAL "main")
      set(library ${weir_layer_libs})
    endif()
    foreach(source IN LISTS sources)
      string(REGEX REPLACE ".*/test_(.*)\\.c$" "\\1" name "${source}")
      weir_test_program(unit_${layer}_${name} unit.${layer}.${name} unit "${source}"
        weir_test_support ${library} weir_cmocka)
      # These make certificates and check digests with the library itself.
      if(layer MATCHES "^(io|base)$")
        target_link_libraries(unit_${layer}_${name} PRIVATE weir_tls)
      endif()
    endforeach()
  endforeach()
  target_link_libraries(unit_http_hpack PRIVATE weir_nghttp2)
  # Its client decompresses.
  target_link_libraries(unit_io_tls_compress PRIVATE weir_compress brotlidec)
  # It says when the heap is empty.
  target_link_options(unit_http_hpack_decode PRIVATE -Wl,--wrap=mem_try)
  # It says when the kernel takes no submissions.
  target_link_options(unit_io_op_quiet PRIVATE -Wl,--wrap=io_uring_submit
    -Wl,--wrap=io_uring_submit_and_wait -Wl,--wrap=io_uring_submit_and_get_events)
  # It says when nobody is waited for.
  target_link_options(unit_control_loader PRIVATE -Wl,--wrap=waitpid)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/sim/sim_*.c")
  foreach(source IN LISTS sources)
    string(REGEX REPLACE ".*/sim_(.*)\\.c$" "\\1" name "${source}")
    weir_test_program(sim_${name} sim.${name} sim "${source}" weir_test_support ${weir_layer_libs}
      weir_cmocka)
  endforeach()
  # Helpers of simulations (tests/sim/*.c without the prefix) go into each of them.
  file(GLOB helpers CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/sim/*.c")
  list(FILTER helpers EXCLUDE REGEX "/sim_[^/]*\\.c$")
  set_source_files_properties(${helpers} PROPERTIES COMPILE_OPTIONS -Wno-null-dereference)
  foreach(source IN LISTS sources)
    string(REGEX REPLACE ".*/sim_(.*)\\.c$" "\\1" name "${source}")
    target_sources(sim_${name} PRIVATE ${helpers})
  endforeach()
endif()

weir_support_library(weir_fuzz_support "${PROJECT_SOURCE_DIR}/fuzz/*.c")
file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/fuzz/fuzz_*.c")
foreach(source IN LISTS sources)
  string(REGEX REPLACE ".*/fuzz_(.*)\\.c$" "\\1" name "${source}")
  add_executable(fuzz_${name} "${source}")
  target_link_libraries(fuzz_${name} PRIVATE weir_flags weir_warnings weir_fuzz_support
    ${weir_layer_libs})
  target_include_directories(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}/fuzz")
  if(WEIR_PROFILE STREQUAL "fuzz")
    target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(fuzz_${name} PRIVATE "${PROJECT_SOURCE_DIR}/fuzz/replay_main.c")
    add_test(NAME fuzz.${name} COMMAND fuzz_${name} fuzz/corpus/${name} fuzz/regress/${name}
      WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
    weir_test_properties(fuzz.${name} fuzz)
  endif()
endforeach()
target_link_libraries(fuzz_hpack_peer PRIVATE weir_nghttp2)
target_include_directories(fuzz_hpack_peer PRIVATE "${PROJECT_SOURCE_DIR}/tests/support")
target_include_directories(fuzz_h2_conn PRIVATE "${PROJECT_SOURCE_DIR}/tests/support")
target_sources(fuzz_h2_conn PRIVATE "${PROJECT_SOURCE_DIR}/tests/support/h2_peer.c")
# The library itself is at the other end, and its budget is counted on a clock of the input's.
target_link_libraries(fuzz_tls_conn PRIVATE weir_tls)
target_include_directories(fuzz_tls_conn PRIVATE "${PROJECT_SOURCE_DIR}/tests/support")
target_sources(fuzz_tls_conn PRIVATE "${PROJECT_SOURCE_DIR}/tests/support/tls_certs.c")
target_link_options(fuzz_tls_conn PRIVATE -Wl,--wrap=tls_clock_ns)

if(NOT WEIR_PROFILE STREQUAL "fuzz")
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/tests/lint/lint_*.py")
  foreach(source IN LISTS sources)
    string(REGEX REPLACE ".*/lint_(.*)\\.py$" "\\1" name "${source}")
    add_test(NAME lint.${name} COMMAND /usr/bin/python3 -B "${source}"
      --root "${PROJECT_SOURCE_DIR}" --build "${PROJECT_BINARY_DIR}")
    weir_test_properties(lint.${name} lint)
  endforeach()
endif()
