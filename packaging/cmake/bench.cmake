# Bench programs: bench/CMakeLists.txt if there is one, else every bench/*.c as bench_<name>,
# linked with base and the TLS library (the generator speaks TLS).
# In other profiles than bench they are built only on demand: target bench/all (packaging/test.sh).
if(EXISTS "${PROJECT_SOURCE_DIR}/bench/CMakeLists.txt")
  add_subdirectory("${PROJECT_SOURCE_DIR}/bench" bench)
  if(NOT WEIR_PROFILE STREQUAL "bench")
    set_property(DIRECTORY "${PROJECT_SOURCE_DIR}/bench" PROPERTY EXCLUDE_FROM_ALL ON)
  endif()
else()
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/bench/*.c")
  foreach(source IN LISTS sources)
    get_filename_component(name "${source}" NAME_WE)
    string(REGEX REPLACE "^bench_" "" name "${name}")
    add_executable(bench_${name} "${source}")
    target_link_libraries(bench_${name} PRIVATE weir_flags weir_warnings ${weir_layer_libs}
      weir_tls weir_uring)
  endforeach()
endif()
