# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# The library, and what `cmake --install` puts where.
#
# The library is wire + queue + transport with its listening side + admission. Probes, agent and host are
# programs' business and stay out of it. Of liburcu it has only inlines, so neither the shared nor the
# static one needs anything but libc; that is also why nothing private stands in the .pc and Config.
#
# Left out: in a sanitizer build the library (nobody may ship that one), under CELLOS_STATIC_AGENT all
# but the agent.

function(cellos_install_program name)
  if(NOT TARGET ${name})
    return()
  endif()
  install(TARGETS ${name} RUNTIME)
  if(EXISTS ${PROJECT_SOURCE_DIR}/man/${name}.1)
    install(FILES ${PROJECT_SOURCE_DIR}/man/${name}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  endif()
endfunction()

cellos_install_program(cellos-telemetry)
cellos_install_program(cellos-telemetry-host)
cellos_install_program(cellos-wire)
cellos_install_program(cellos-guard)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

if(CELLOS_STATIC_AGENT)
  return()
endif()

foreach(section 3 5 7)
  file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/man/*.${section})
  if(pages)
    install(FILES ${pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
  endif()
endforeach()
file(GLOB texts CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/*.md ${PROJECT_SOURCE_DIR}/docs/*.md)
install(FILES ${texts} DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs/schemas docs/images DESTINATION ${CMAKE_INSTALL_DOCDIR})

if(NOT CELLOS_SANITIZE STREQUAL "none" OR CELLOS_FUZZ)
  return()
endif()
set(library_apis event wire queue transport admission)
set(library_modules cellos_wire cellos_queue cellos_transport cellos_listener cellos_admission)
foreach(module ${library_modules})
  if(NOT TARGET ${module})
    message(STATUS "cellos-telemetry: no ${module} here, so no library")
    return()
  endif()
  list(APPEND library_objects $<TARGET_OBJECTS:${module}>)
endforeach()

add_library(cellos_telemetry SHARED ${library_objects})
add_library(cellos_telemetry_static STATIC ${library_objects})
foreach(library cellos_telemetry cellos_telemetry_static)
  set_target_properties(${library} PROPERTIES OUTPUT_NAME cellos-telemetry LINKER_LANGUAGE C)
  foreach(api ${library_apis})
    target_link_libraries(${library} PUBLIC $<BUILD_INTERFACE:cellos_${api}_api>)
  endforeach()
  target_include_directories(${library}
                             INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
set_target_properties(cellos_telemetry PROPERTIES EXPORT_NAME telemetry VERSION ${PROJECT_VERSION}
                                                  SOVERSION 0)
set_target_properties(cellos_telemetry_static PROPERTIES EXPORT_NAME telemetry_static)
add_library(cellos::telemetry ALIAS cellos_telemetry)
add_library(cellos::telemetry_static ALIAS cellos_telemetry_static)

set(map ${PROJECT_SOURCE_DIR}/cmake/cellos-telemetry.map)
target_link_libraries(cellos_telemetry PRIVATE $<BUILD_INTERFACE:cellos_flags>)
# defs: a call that no named library answers is found here, and not by the first user.
target_link_options(cellos_telemetry PRIVATE -Wl,--version-script=${map} -Wl,-z,defs)
set_target_properties(cellos_telemetry PROPERTIES LINK_DEPENDS ${map})

foreach(api ${library_apis})
  install(DIRECTORY include/${api}/cellos DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
          FILES_MATCHING PATTERN "*.h")
endforeach()
install(TARGETS cellos_telemetry cellos_telemetry_static EXPORT cellos-telemetry-targets)

include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/cellos-telemetry)
install(EXPORT cellos-telemetry-targets NAMESPACE cellos:: DESTINATION ${package_dir})
configure_package_config_file(
  cmake/cellos-telemetry-config.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/cellos-telemetry-config.cmake
  INSTALL_DESTINATION ${package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may break.
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/cellos-telemetry-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cellos-telemetry-config.cmake
              ${CMAKE_CURRENT_BINARY_DIR}/cellos-telemetry-config-version.cmake
        DESTINATION ${package_dir})

# The .pc finds its prefix from where it stands, so that an installed tree may be moved, unless
# somebody gave absolute folders.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
  set(CELLOS_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(CELLOS_PC_LIBDIR ${CMAKE_INSTALL_FULL_LIBDIR})
  set(CELLOS_PC_INCLUDEDIR ${CMAKE_INSTALL_FULL_INCLUDEDIR})
else()
  file(RELATIVE_PATH up "/p/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/p")
  string(REGEX REPLACE "/$" "" up "${up}")
  set(CELLOS_PC_PREFIX "\${pcfiledir}/${up}")
  set(CELLOS_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
  set(CELLOS_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
configure_file(cmake/cellos-telemetry.pc.in cellos-telemetry.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/cellos-telemetry.pc
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
