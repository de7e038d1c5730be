#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// Returns from the enclosing function if `expression`, an absl::Status, is not OK.
#define RETURN_IF_ERROR(expression)                           \
  do {                                                        \
    if (absl::Status status_ = (expression); !status_.ok()) { \
      return status_;                                         \
    }                                                         \
  } while (false)

// Assigns the value of `expression`, an absl::StatusOr, to `lhs` (which may declare a variable), or returns its status.
#define ASSIGN_OR_RETURN(lhs, expression) ITHACA_ASSIGN_OR_RETURN_(ITHACA_CONCAT_(or_, __LINE__), lhs, expression)

#define ITHACA_ASSIGN_OR_RETURN_(variable, lhs, expression) \
  auto variable = (expression);                             \
  if (!variable.ok()) {                                     \
    return std::move(variable).status();                    \
  }                                                         \
  lhs = *std::move(variable)

#define ITHACA_CONCAT_(a, b) ITHACA_CONCAT2_(a, b)
#define ITHACA_CONCAT2_(a, b) a##b
