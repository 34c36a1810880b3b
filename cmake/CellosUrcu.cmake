# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# liburcu for src/queue and nobody else: the target cellos_urcu.
#
# Normally only its inlines are used (_LGPL_SOURCE: this project's licence allows it), so nothing is
# linked. Under ThreadSanitizer the calls go out of line, because TSan cannot see the ordering of the
# inlined assembly; src/queue/tsan.h then tells it by annotations.
#
# Under musl the system's include folder cannot be searched whole, it holds glibc's headers; the
# folders that we need (urcu, and the kernel's own) are linked into the build tree one by one.

add_library(cellos_urcu INTERFACE)
add_library(cellos_kernel_headers INTERFACE)

if(CMAKE_C_COMPILER MATCHES "musl")
  set(_inc "${CMAKE_BINARY_DIR}/system-include")
  file(MAKE_DIRECTORY "${_inc}")
  foreach(folder urcu linux asm asm-generic)
    unset(_found) # a plain variable: NO_CACHE below
    find_path(_found NAMES ${folder} PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
              /usr/include/x86_64-linux-gnu /usr/include/aarch64-linux-gnu /usr/include
              NO_DEFAULT_PATH NO_CACHE)
    if(NOT _found)
      message(FATAL_ERROR "no folder ${folder} under /usr/include (liburcu-dev, linux-libc-dev)")
    endif()
    file(CREATE_LINK "${_found}/${folder}" "${_inc}/${folder}" SYMBOLIC)
  endforeach()
  target_include_directories(cellos_urcu SYSTEM INTERFACE "${_inc}")
  target_include_directories(cellos_kernel_headers SYSTEM INTERFACE "${_inc}")
  target_compile_definitions(cellos_urcu INTERFACE _LGPL_SOURCE)
else()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(URCU_CDS REQUIRED IMPORTED_TARGET liburcu-cds)
  if(CELLOS_SANITIZE STREQUAL "thread")
    target_link_libraries(cellos_urcu INTERFACE PkgConfig::URCU_CDS)
  else()
    target_include_directories(cellos_urcu SYSTEM INTERFACE ${URCU_CDS_INCLUDE_DIRS})
    target_compile_definitions(cellos_urcu INTERFACE _LGPL_SOURCE)
  endif()
endif()
