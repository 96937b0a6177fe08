# cortex_library and cortex_test: a folder is a library, its mirror under tests/ is a test binary.
add_library(cortex_options INTERFACE)
target_compile_features(cortex_options INTERFACE cxx_std_20)
target_include_directories(cortex_options INTERFACE "${PROJECT_SOURCE_DIR}/src")
target_compile_options(cortex_options INTERFACE
  -Wall -Wextra -Wpedantic -Werror -Wno-missing-field-initializers
  -fstack-protector-strong -ffp-contract=off)
target_compile_definitions(cortex_options INTERFACE
  _GLIBCXX_ASSERTIONS
  "CORTEX_VERSION=\"${PROJECT_VERSION}\"")
if(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(cortex_options INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # Asio's coroutines trip both at -O2.
  target_compile_options(cortex_options INTERFACE -Wno-mismatched-new-delete -Wno-tsan)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64" AND NOT APPLE)
  target_compile_options(cortex_options INTERFACE -fcf-protection)
endif()
if(NOT APPLE)
  target_link_options(cortex_options INTERFACE -Wl,-z,relro,-z,now)
endif()

set(CORTEX_SANITIZE "" CACHE STRING "Sanitizers, as -fsanitize= takes them")
if(CORTEX_SANITIZE)
  add_compile_options(-fsanitize=${CORTEX_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${CORTEX_SANITIZE})
endif()

# cortex_library(NAME SOURCES a.cpp ... DEPENDS cortex_base ...)
function(cortex_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(${name} STATIC ${arg_SOURCES})
  target_link_libraries(${name} PUBLIC cortex_options ${arg_DEPENDS} PRIVATE ${arg_PRIVATE_DEPENDS})
endfunction()

# cortex_test(NAME SOURCES a_test.cpp ... DEPENDS cortex_base ...): tests may read tests/data and include tests/fakes.
function(cortex_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE cortex_options ${arg_DEPENDS} GTest::gmock GTest::gtest_main)
  target_include_directories(${name} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
  target_compile_definitions(${name} PRIVATE "CORTEX_TEST_DATA=\"${PROJECT_SOURCE_DIR}/tests/data\"")
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS unit)
endfunction()
