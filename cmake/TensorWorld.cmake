# LibTorch for the engine: ithaca::torch (and ithaca::torch_cuda with ITHACA_CUDA).
#
# The torch wheel carries headers and libraries, but find_package(Torch) on it wants unversioned CUDA libraries that the wheel does
# not have. So the imported target is made from the wheel's include/ and lib/ directly. ITHACA_TORCH_DIR may name any
# directory with include/ and lib/ (a LibTorch archive, say); by default it is the torch package of the project's .venv.

if(NOT ITHACA_TORCH_DIR)
  file(GLOB wheel ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
  list(GET wheel 0 wheel)
  set(ITHACA_TORCH_DIR ${wheel} CACHE PATH "Directory with LibTorch's include/ and lib/" FORCE)
endif()
if(NOT EXISTS ${ITHACA_TORCH_DIR}/lib/libtorch_cpu.so)
  message(FATAL_ERROR "No LibTorch in '${ITHACA_TORCH_DIR}': run tools/setup.sh, or set ITHACA_TORCH_DIR")
endif()
get_filename_component(ITHACA_SITE_PACKAGES ${ITHACA_TORCH_DIR}/.. ABSOLUTE)
file(GLOB nvidia_lib_dirs ${ITHACA_SITE_PACKAGES}/nvidia/*/lib)

# c10d's Gloo header includes Gloo's own headers, which the wheel does not ship; Debian's libgloo-dev does. Nothing is linked from it.
find_path(GLOO_INCLUDE_DIR gloo/algorithm.h REQUIRED)

add_library(ithaca_torch INTERFACE)
add_library(ithaca::torch ALIAS ithaca_torch)
target_include_directories(ithaca_torch SYSTEM INTERFACE ${ITHACA_TORCH_DIR}/include
                           ${ITHACA_TORCH_DIR}/include/torch/csrc/api/include ${GLOO_INCLUDE_DIR})
target_compile_definitions(ithaca_torch INTERFACE USE_DISTRIBUTED USE_C10D_GLOO $<$<BOOL:${ITHACA_CUDA}>:USE_C10D_NCCL>)
target_compile_options(ithaca_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-deprecated-declarations>)
# at::parallel_for is a template over OpenMP: without the option it runs on one thread. The runtime is the wheel's own libgomp.
target_compile_options(ithaca_torch INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fopenmp>)
target_link_libraries(ithaca_torch INTERFACE ${ITHACA_TORCH_DIR}/lib/libgomp.so.1)
if(ITHACA_CUDA)
  include(CudaWheels)
  target_link_libraries(ithaca_torch INTERFACE -Wl,--no-as-needed ${ITHACA_TORCH_DIR}/lib/libtorch.so
                        ${ITHACA_TORCH_DIR}/lib/libtorch_cpu.so ${ITHACA_TORCH_DIR}/lib/libtorch_cuda.so
                        ${ITHACA_TORCH_DIR}/lib/libc10.so ${ITHACA_TORCH_DIR}/lib/libc10_cuda.so -Wl,--as-needed)
else()
  target_link_libraries(ithaca_torch INTERFACE ${ITHACA_TORCH_DIR}/lib/libtorch_cpu.so ${ITHACA_TORCH_DIR}/lib/libc10.so)
endif()
# libtorch_cpu.so itself needs libcudart and libcupti from the nvidia wheels; the linker must not ask for them.
target_link_options(ithaca_torch INTERFACE -Wl,--allow-shlib-undefined)
target_link_libraries(ithaca_torch INTERFACE Threads::Threads)
list(APPEND CMAKE_BUILD_RPATH ${ITHACA_TORCH_DIR}/lib ${nvidia_lib_dirs})

# torch/torch.h costs 15 s and 1 GB a file; it is compiled once, and every engine library and test reuses it.
file(WRITE ${CMAKE_BINARY_DIR}/torch_pch.cc "// Only carries the precompiled header.\n")
add_library(ithaca_torch_pch STATIC ${CMAKE_BINARY_DIR}/torch_pch.cc)
target_link_libraries(ithaca_torch_pch PUBLIC ithaca_options ithaca::torch)
target_precompile_headers(ithaca_torch_pch PRIVATE <torch/torch.h> <nlohmann/json.hpp> <string> <vector>)
