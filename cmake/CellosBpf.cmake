# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# BPF programs, written in C, compiled by clang at build time and embedded as C headers.
#
# cellos_bpf_embed(TARGET name PROGRAMS a b [DEPENDS headers])
#   compiles bpf/<name>.bpf.c; TARGET may include "<name>_bpf.h" with <name>_bpf_a and <name>_bpf_b.
#
# CELLOS_BPF: AUTO embeds them when a clang that can make BPF is found, ON demands it, OFF leaves
# them out. Left out, the same names are there without instructions, and a probe that needs them says
# why it is not armed.

set(CELLOS_BPF "AUTO" CACHE STRING "AUTO, ON or OFF: embed the BPF programs (needs clang)")
set_property(CACHE CELLOS_BPF PROPERTY STRINGS AUTO ON OFF)

set(cellos_bpf_embed_script "${CMAKE_CURRENT_LIST_DIR}/CellosBpfEmbed.cmake")
# v3: 32-bit registers, and atomics that fetch. Kernels before 5.12 do not take the latter: a program
# that shall run there uses no result of an atomic, which then is the old addition.
set(cellos_bpf_flags -target bpfel -mcpu=v3 -O2 -g0 -std=gnu11 -Wall -Wextra -Wno-unused-function)

set(cellos_bpf_compiler "")
if(NOT CELLOS_BPF STREQUAL "OFF" AND NOT CMAKE_C_BYTE_ORDER STREQUAL "BIG_ENDIAN")
  find_program(CELLOS_BPF_CLANG NAMES clang clang-14 clang-15 clang-16 clang-17 clang-18 clang-19
               DOC "The clang that compiles the BPF programs")
  find_path(CELLOS_BPF_HEADERS NAMES asm/types.h
            PATHS /usr/include/${CMAKE_LIBRARY_ARCHITECTURE}
                  /usr/include/${CMAKE_HOST_SYSTEM_PROCESSOR}-linux-gnu /usr/include
            NO_DEFAULT_PATH DOC "Where the kernel's asm/types.h is")
  if(CELLOS_BPF_CLANG AND CELLOS_BPF_HEADERS)
    list(APPEND cellos_bpf_flags -idirafter ${CELLOS_BPF_HEADERS} -idirafter /usr/include)
    file(WRITE ${CMAKE_BINARY_DIR}/bpf/try.bpf.c "#include <linux/bpf.h>\nint x;\n")
    execute_process(
      COMMAND ${CELLOS_BPF_CLANG} ${cellos_bpf_flags} -c ${CMAKE_BINARY_DIR}/bpf/try.bpf.c -o
              ${CMAKE_BINARY_DIR}/bpf/try.bpf.o
      RESULT_VARIABLE _result OUTPUT_QUIET ERROR_VARIABLE _error)
    if(_result EQUAL 0)
      set(cellos_bpf_compiler ${CELLOS_BPF_CLANG})
    endif()
  endif()
endif()
if(CELLOS_BPF STREQUAL "ON" AND NOT cellos_bpf_compiler)
  message(FATAL_ERROR "CELLOS_BPF is ON, and no clang here can compile for BPF: ${_error}")
endif()
if(NOT cellos_bpf_compiler)
  message(STATUS "BPF programs: left out; the probes that need them will say so")
else()
  message(STATUS "BPF programs: compiled by ${cellos_bpf_compiler}")
endif()

function(cellos_bpf_embed target name)
  cmake_parse_arguments(B "" "" "PROGRAMS;DEPENDS" ${ARGN})
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/bpf)
  set(header ${folder}/${name}_bpf.h)
  set(source ${CMAKE_CURRENT_SOURCE_DIR}/bpf/${name}.bpf.c)
  set(object "")
  file(MAKE_DIRECTORY ${folder})
  if(cellos_bpf_compiler)
    set(object ${folder}/${name}.bpf.o)
    list(TRANSFORM B_DEPENDS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/bpf/)
    add_custom_command(
      OUTPUT ${object}
      COMMAND ${cellos_bpf_compiler} ${cellos_bpf_flags} $<$<BOOL:${CELLOS_WERROR}>:-Werror> -c
              ${source} -o ${object}
      DEPENDS ${source} ${B_DEPENDS}
      COMMENT "Compiling ${name}.bpf.c for BPF"
      VERBATIM)
  endif()
  add_custom_command(
    OUTPUT ${header}
    COMMAND ${CMAKE_COMMAND} -D OBJECT=${object} -D HEADER=${header} -D NAME=${name} -D
            "PROGRAMS=${B_PROGRAMS}" -P ${cellos_bpf_embed_script}
    DEPENDS ${object} ${cellos_bpf_embed_script}
    COMMENT "Embedding the BPF programs of ${name}"
    VERBATIM)
  target_sources(${target} PRIVATE ${header})
  target_include_directories(${target} PRIVATE ${folder})
endfunction()
