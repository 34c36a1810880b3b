# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# Flags that every target of ours takes, carried by one interface target; nothing global.

add_library(cellos_flags INTERFACE)
target_compile_definitions(cellos_flags INTERFACE _GNU_SOURCE
                                                  CELLOS_VERSION="${PROJECT_VERSION}")
target_compile_options(
  cellos_flags
  INTERFACE -Wall -Wextra -Wshadow -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wcast-qual
            -Wformat=2 $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes
            -Wold-style-definition> $<$<BOOL:${CELLOS_WERROR}>:-Werror>)
# Sections let the static agent drop what it does not call.
target_compile_options(cellos_flags INTERFACE -ffunction-sections -fdata-sections)
# Criterion finds its tests by section, and nothing refers to them: those programs keep all.
target_link_options(
  cellos_flags
  INTERFACE $<$<NOT:$<BOOL:$<TARGET_PROPERTY:CELLOS_KEEP_SECTIONS>>>:-Wl,--gc-sections>)

if(CELLOS_SANITIZE STREQUAL "address")
  set(_san -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g)
elseif(CELLOS_SANITIZE STREQUAL "thread")
  set(_san -fsanitize=thread -fno-omit-frame-pointer -g)
  target_compile_definitions(cellos_flags INTERFACE CELLOS_TSAN=1)
elseif(NOT CELLOS_SANITIZE STREQUAL "none")
  message(FATAL_ERROR "CELLOS_SANITIZE is none, address or thread, not ${CELLOS_SANITIZE}")
endif()
if(CELLOS_FUZZ)
  if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "CELLOS_FUZZ needs clang (cmake --preset fuzz)")
  endif()
  # no-link: only the fuzz targets themselves link the fuzzer's main.
  list(APPEND _san -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
       -fno-omit-frame-pointer -g)
endif()
if(DEFINED _san)
  target_compile_options(cellos_flags INTERFACE ${_san})
  target_link_options(cellos_flags INTERFACE ${_san})
  target_compile_definitions(cellos_flags INTERFACE CELLOS_SANITIZED=1)
endif()
