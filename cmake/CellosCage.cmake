# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# The filter of the agent's own system calls, made by libseccomp at build time.
#
# cellos_cage_embed(TARGET): TARGET may include "cage_filter.h".
# CELLOS_CAGE: AUTO makes the filter when Python has libseccomp (Debian's python3-seccomp), ON demands
# it, OFF leaves it out; the agent then says so.

set(CELLOS_CAGE "AUTO" CACHE STRING "AUTO, ON or OFF: filter the agent's own system calls")
set_property(CACHE CELLOS_CAGE PROPERTY STRINGS AUTO ON OFF)

# Debian's own Python: another one that comes first in PATH has not its modules.
find_program(CELLOS_CAGE_PYTHON NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH)
set(cellos_cage_possible FALSE)
if(CELLOS_CAGE_PYTHON AND NOT CELLOS_CAGE STREQUAL "OFF")
  execute_process(COMMAND ${CELLOS_CAGE_PYTHON} -c "import seccomp" RESULT_VARIABLE _result
                  OUTPUT_QUIET ERROR_QUIET)
  if(_result EQUAL 0)
    set(cellos_cage_possible TRUE)
  endif()
endif()
if(CELLOS_CAGE STREQUAL "ON" AND NOT cellos_cage_possible)
  message(FATAL_ERROR "CELLOS_CAGE is ON, and there is no python3-seccomp here")
endif()

function(cellos_cage_embed target)
  set(header ${CMAKE_CURRENT_BINARY_DIR}/cage/cage_filter.h)
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cage)
  if(cellos_cage_possible)
    add_custom_command(
      OUTPUT ${header}
      COMMAND ${CELLOS_CAGE_PYTHON} -B ${CMAKE_CURRENT_SOURCE_DIR}/cage_filter.py ${header}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/cage_filter.py
      VERBATIM)
  else()
    message(STATUS "Cage: no libseccomp for Python here, so no filter; the agent will say so")
    file(WRITE ${header} "#define CAGE_FILTER {0}\n")
  endif()
  target_sources(${target} PRIVATE ${header})
  target_include_directories(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/cage)
endfunction()
