# The training loop over the folders of the engine, and the executable.
if(ITHACA_CUDA)
  set(cuda_device cuda_device.cc)
else()
  set(cuda_device no_cuda_device.cc)
endif()
ithaca_engine_library(NAME ithaca_trainer
                      SRCS batches.cc commands.cc device.cc events.cc failure.cc options.cc run.cc step_report.cc trainer.cc trainer_state.cc
                           ${cuda_device}
                      DEPS ithaca_plan ithaca_comm ithaca_attention ithaca_data ithaca_checkpoint ithaca_memory ithaca_model ithaca_loss
                           ithaca_optim)

add_executable(ithaca-engine main.cc)
target_link_libraries(ithaca-engine PRIVATE ithaca_trainer ithaca::torch)
target_precompile_headers(ithaca-engine REUSE_FROM ithaca_torch_pch)
