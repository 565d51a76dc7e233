# One static library weir_<layer> for each row of src/layers.txt, linked as the row says, and the
# executable weir. A layer without sources yet is an empty interface library. Which layer sees
# which outside library is decided here, so that an include of it elsewhere does not even find its
# header (only for the built ones: the system's headers are seen by all, tests/lint/lint_borders.py
# checks those).

# weir_external(<layer> <interface target>): include path for this layer's files only, link for all
# users.
function(weir_external layer external)
  if(TARGET weir_${layer})
    get_target_property(kind weir_${layer} TYPE)
    if(NOT kind STREQUAL "INTERFACE_LIBRARY")
      target_link_libraries(weir_${layer} PRIVATE ${external})
    endif()
  endif()
endfunction()

file(STRINGS "${PROJECT_SOURCE_DIR}/src/layers.txt" weir_rows REGEX "^[a-z]+:")
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS
  "${PROJECT_SOURCE_DIR}/src/layers.txt")
set(weir_layers)     # all but main, lowest first
set(weir_layer_libs)
foreach(row IN LISTS weir_rows)
  string(REGEX MATCH "^([a-z]+): *(.*)$" _ "${row}")
  set(layer "${CMAKE_MATCH_1}")
  separate_arguments(uses UNIX_COMMAND "${CMAKE_MATCH_2}")
  list(TRANSFORM uses PREPEND weir_)
  file(GLOB sources CONFIGURE_DEPENDS "${PROJECT_SOURCE_DIR}/src/${layer}/*.c")
  if(layer STREQUAL "main")
    if(sources)
      add_executable(weir ${sources})
      target_link_libraries(weir PRIVATE weir_flags weir_warnings ${uses})
    endif()
    continue()
  endif()
  if(sources)
    add_library(weir_${layer} STATIC ${sources})
    target_link_libraries(weir_${layer} PUBLIC weir_flags ${uses} PRIVATE weir_warnings)
  else()
    add_library(weir_${layer} INTERFACE)
    target_link_libraries(weir_${layer} INTERFACE weir_flags ${uses})
  endif()
  list(APPEND weir_layers ${layer})
  list(APPEND weir_layer_libs weir_${layer})
endforeach()

weir_external(base weir_xxhash)
weir_external(base weir_pcre2)
weir_external(io weir_tls)
weir_external(io weir_uring)
weir_external(io weir_compress)
weir_external(config weir_libconfig)
weir_external(control weir_cares)
# base/crypto.c alone sees the TLS library's headers; all of base links it.
if(EXISTS "${PROJECT_SOURCE_DIR}/src/base/crypto.c")
  target_link_libraries(weir_base PRIVATE $<LINK_ONLY:weir_tls>)
  set_source_files_properties("${PROJECT_SOURCE_DIR}/src/base/crypto.c" PROPERTIES
    COMPILE_OPTIONS "-isystem;${weir_tls_prefix}/include")
endif()

foreach(target weir weir_control)
  if(TARGET ${target})
    get_target_property(kind ${target} TYPE)
    if(NOT kind STREQUAL "INTERFACE_LIBRARY")
      target_compile_definitions(${target} PRIVATE WEIR_VERSION="${PROJECT_VERSION}"
        WEIR_PROFILE="${WEIR_PROFILE}" WEIR_TLS_NAME="${WEIR_TLS}"
        WEIR_TLS_VERSION="${weir_tls_version}" WEIR_URING_VERSION="${weir_uring_version}")
    endif()
  endif()
endforeach()

if(TARGET weir)
  include(GNUInstallDirs)
  install(TARGETS weir RUNTIME DESTINATION ${CMAKE_INSTALL_SBINDIR})
  install(FILES "${PROJECT_SOURCE_DIR}/packaging/systemd/weir.service"
    DESTINATION lib/systemd/system)
  install(FILES "${PROJECT_SOURCE_DIR}/packaging/systemd/weir.sysusers"
    DESTINATION lib/sysusers.d RENAME weir.conf)
endif()
