# What every folder's CMakeLists.txt uses: warnings, ccache, libraries by folder, tests by label.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers are cached only with these; see "precompiled headers" in ccache's manual.
  set(launcher ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
               ${CCACHE_PROGRAM})
  set(CMAKE_C_COMPILER_LAUNCHER ${launcher})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${launcher})
endif()

find_program(MOLD_PROGRAM mold)
if(MOLD_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 12.1)
  add_link_options(-fuse-ld=mold)
endif()

add_library(ithaca_options INTERFACE)
target_compile_options(ithaca_options INTERFACE -Wall -Wextra -Werror -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(ithaca_options INTERFACE -Wno-restrict)  # false alarms in std::string, GCC bug 105329
endif()
target_include_directories(ithaca_options INTERFACE ${PROJECT_SOURCE_DIR})

# Adds a folder of the tree if it has a CMakeLists.txt.
function(ithaca_add_folder folder)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${folder}/CMakeLists.txt)
    add_subdirectory(${folder})
  endif()
endfunction()

# ithaca_library(NAME ithaca_x SRCS a.cc b.cc DEPS other...): one folder, one static library.
function(ithaca_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  add_library(${ARG_NAME} STATIC ${ARG_SRCS})
  target_link_libraries(${ARG_NAME} PUBLIC ithaca_options ${ARG_DEPS})
endfunction()

# ithaca_engine_library: the same for the tensor world, with LibTorch's precompiled header.
function(ithaca_engine_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS;DEPS" ${ARGN})
  ithaca_library(NAME ${ARG_NAME} SRCS ${ARG_SRCS} DEPS ${ARG_DEPS} ithaca::torch)
  target_precompile_headers(${ARG_NAME} REUSE_FROM ithaca_torch_pch)
endfunction()

# ithaca_test(NAME x_test SRCS x_test.cc DEPS ithaca_x LABEL unit [ENGINE]): a GoogleTest binary run by ctest.
function(ithaca_test)
  cmake_parse_arguments(ARG "ENGINE" "NAME;LABEL" "SRCS;DEPS" ${ARGN})
  add_executable(${ARG_NAME} ${ARG_SRCS})
  target_link_libraries(${ARG_NAME} PRIVATE ithaca_options ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  set_target_properties(${ARG_NAME} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  if(ARG_ENGINE)
    target_link_libraries(${ARG_NAME} PRIVATE ithaca::torch)
    target_precompile_headers(${ARG_NAME} REUSE_FROM ithaca_torch_pch)
  endif()
  add_test(NAME ${ARG_NAME} COMMAND ${ARG_NAME})
  # c10d records every collective in one recorder of the process, which ranks that are threads would write at the same time.
  set_tests_properties(${ARG_NAME} PROPERTIES LABELS "${ARG_LABEL}" TIMEOUT 600
                       ENVIRONMENT "TORCH_FR_BUFFER_SIZE=0;TORCH_NCCL_TRACE_BUFFER_SIZE=0")
endfunction()
