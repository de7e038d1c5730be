# The coordinator: main.cc and what puts the folders together.
add_executable(ithacad ${CMAKE_CURRENT_LIST_DIR}/main.cc ${CMAKE_CURRENT_LIST_DIR}/coordinator.cc
               ${CMAKE_CURRENT_LIST_DIR}/state_lock.cc)
target_compile_definitions(ithacad PRIVATE ITHACA_VERSION="${PROJECT_VERSION}")
target_link_libraries(ithacad PRIVATE ithaca_core ithaca_store ithaca_launcher ithaca_rpc ithaca_metrics CLI11::CLI11)
