# CUDA for the engine from the wheels beside torch (tools/requirements-test.txt): ithaca_cuda headers and libraries, and the CUDA
# language with the wheel's nvcc. A machine that builds this needs no GPU and no driver.
#
# The wheels hold versioned libraries only (libcudart.so.13), where linkers want libcudart.so: a directory of links in the build
# tree supplies that name. A toolkit elsewhere is used with -D ITHACA_CUDA_ROOT=/usr/local/cuda.

set(ITHACA_CUDA_ROOT ${ITHACA_SITE_PACKAGES}/nvidia/cu13 CACHE PATH "Directory with CUDA's bin/nvcc, include/ and lib/")
set(ITHACA_CUDA_ARCHITECTURES 80-real 90-real 90-virtual CACHE STRING "GPU generations that CUDA kernels are compiled for")
if(NOT EXISTS ${ITHACA_CUDA_ROOT}/bin/nvcc)
  message(FATAL_ERROR "No nvcc in '${ITHACA_CUDA_ROOT}/bin': run tools/setup.sh test, or set ITHACA_CUDA_ROOT")
endif()

find_file(cudart NAMES libcudart.so.13 libcudart.so PATHS ${ITHACA_CUDA_ROOT}/lib ${ITHACA_CUDA_ROOT}/lib64 NO_DEFAULT_PATH NO_CACHE REQUIRED)
set(unversioned ${CMAKE_BINARY_DIR}/cuda-libraries)
file(MAKE_DIRECTORY ${unversioned})
file(CREATE_LINK ${cudart} ${unversioned}/libcudart.so SYMBOLIC)

# One process must have one CUDA runtime: the shared one, which is torch's.
set(CMAKE_CUDA_COMPILER ${ITHACA_CUDA_ROOT}/bin/nvcc)
set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
set(CMAKE_CUDA_FLAGS "-L${unversioned} -L${ITHACA_CUDA_ROOT}/lib" CACHE STRING "Flags of nvcc")
set(CMAKE_CUDA_ARCHITECTURES ${ITHACA_CUDA_ARCHITECTURES})
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 17)  # all that CMake 3.25 knows of this nvcc
set(CMAKE_CUDA_STANDARD_REQUIRED ON)

file(GLOB cuda_includes ${ITHACA_SITE_PACKAGES}/nvidia/nccl/include ${ITHACA_SITE_PACKAGES}/nvidia/cudnn/include)
target_include_directories(ithaca_torch SYSTEM INTERFACE ${ITHACA_CUDA_ROOT}/include ${ITHACA_CUDA_ROOT}/include/cccl ${cuda_includes})
target_link_libraries(ithaca_torch INTERFACE ${cudart})

# ithaca_cuda_library(NAME x SRCS a.cu): kernels behind a plain header. No torch in them: nvcc does not see LibTorch.
function(ithaca_cuda_library)
  cmake_parse_arguments(ARG "" "NAME" "SRCS" ${ARGN})
  add_library(${ARG_NAME} STATIC ${ARG_SRCS})
  target_include_directories(${ARG_NAME} PUBLIC ${PROJECT_SOURCE_DIR})
  target_compile_options(${ARG_NAME} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror;--Werror=all-warnings;-lineinfo>")
  target_link_libraries(${ARG_NAME} PUBLIC ${cudart})
endfunction()
