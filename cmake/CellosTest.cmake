# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

# Three kinds of test. All have a timeout; any sanitizer's text turns a test red, because Criterion
# exits 0 on a leak; exit code 77 means "skipped: why", which CELLOS_NO_SKIP=1 in the environment
# turns into a failure (tests/support/skip.h).

set(CELLOS_SANITIZER_TEXT
    "ERROR: (Address|Leak|Memory)Sanitizer;WARNING: ThreadSanitizer;runtime error:")

function(_cellos_test_properties name label timeout)
  set_tests_properties(
    ${name} PROPERTIES LABELS "${label}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
                       FAIL_REGULAR_EXPRESSION "${CELLOS_SANITIZER_TEXT}")
endfunction()

# cellos_criterion_test(NAME LABEL unit SOURCES a.c LINKS targets [TIMEOUT s] [ARGS ...])
# Not built under ThreadSanitizer: Criterion crashes there, or passes wrongly.
function(cellos_criterion_test name)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;LINKS;ARGS" ${ARGN})
  if(CELLOS_SANITIZE STREQUAL "thread" OR CELLOS_FUZZ)
    return()
  endif()
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(CRITERION REQUIRED IMPORTED_TARGET criterion)
  add_executable(${name} ${T_SOURCES})
  set_target_properties(${name} PROPERTIES CELLOS_KEEP_SECTIONS ON)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  target_link_libraries(${name} PRIVATE cellos_flags ${T_LINKS} PkgConfig::CRITERION)
  add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
  _cellos_test_properties(${name} ${T_LABEL} ${T_TIMEOUT})
  # No test found is exit 0, too.
  set_property(
    TEST ${name}
    APPEND
    PROPERTY FAIL_REGULAR_EXPRESSION "Tested: 0 ")
endfunction()

# cellos_plain_test(NAME LABEL stress SOURCES a.c LINKS targets [TIMEOUT s] [ARGS ...]): own main().
function(cellos_plain_test name)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "SOURCES;LINKS;ARGS" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  find_package(Threads REQUIRED)
  add_executable(${name} ${T_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests/support)
  target_link_libraries(${name} PRIVATE cellos_flags ${T_LINKS} Threads::Threads)
  add_test(NAME ${name} COMMAND ${name} ${T_ARGS})
  _cellos_test_properties(${name} ${T_LABEL} ${T_TIMEOUT})
endfunction()

# cellos_script_test(NAME LABEL e2e COMMAND ... [TIMEOUT s]): a script that drives real programs.
function(cellos_script_test name)
  cmake_parse_arguments(T "" "LABEL;TIMEOUT" "COMMAND" ${ARGN})
  if(NOT T_TIMEOUT)
    set(T_TIMEOUT 120)
  endif()
  add_test(NAME ${name} COMMAND ${T_COMMAND})
  _cellos_test_properties(${name} ${T_LABEL} ${T_TIMEOUT})
endfunction()

# cellos_fuzz_target(NAME SOURCES fuzz_x.c LINKS targets): fuzz_x.c defines LLVMFuzzerTestOneInput.
# Everywhere: the corpus in tests/fuzz/corpus/NAME is replayed by ctest (label fuzz). With CELLOS_FUZZ
# the same source is also linked with libFuzzer as NAME_libfuzzer.
function(cellos_fuzz_target name)
  cmake_parse_arguments(T "" "" "SOURCES;LINKS" ${ARGN})
  find_package(Threads REQUIRED)
  set(corpus ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
  add_executable(${name}_replay ${T_SOURCES} ${PROJECT_SOURCE_DIR}/tests/fuzz/replay.c)
  target_link_libraries(${name}_replay PRIVATE cellos_flags ${T_LINKS} Threads::Threads)
  add_test(NAME ${name}_replay COMMAND ${name}_replay ${corpus})
  _cellos_test_properties(${name}_replay fuzz 120)
  if(CELLOS_FUZZ)
    add_executable(${name}_libfuzzer ${T_SOURCES})
    target_link_libraries(${name}_libfuzzer PRIVATE cellos_flags ${T_LINKS} Threads::Threads)
    target_link_options(${name}_libfuzzer PRIVATE -fsanitize=fuzzer)
  endif()
endfunction()
