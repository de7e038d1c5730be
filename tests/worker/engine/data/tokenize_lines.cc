// Tokenizes JSON strings, one a line of the input, and prints the ids of each on a line: for comparison with Hugging
// Face.
//   tokenize_lines TOKENIZER_JSON [--special] < strings
// The last line on stderr is the speed in MB of text a second.

#include <chrono>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "worker/engine/data/tokenizer.h"
#include "worker/engine/errors.h"

int main(int argc, char** argv) try {
  if (argc < 2) {
    std::cerr << "usage: tokenize_lines TOKENIZER_JSON [--special] < strings\n";
    return 2;
  }
  const bool special = argc > 2 && std::string(argv[2]) == "--special";
  auto tokenizer = ithaca::engine::Tokenizer::Load(argv[1]);
  std::string line;
  std::vector<int32_t> ids;
  std::chrono::duration<double> spent{0};
  double bytes = 0;
  while (std::getline(std::cin, line)) {
    const auto text = nlohmann::json::parse(line).get<std::string>();
    ids.clear();
    const auto start = std::chrono::steady_clock::now();
    tokenizer.Encode(text, special, ids);
    spent += std::chrono::steady_clock::now() - start;
    bytes += static_cast<double>(text.size());
    std::string out;
    for (const int32_t id : ids) out += std::to_string(id) + " ";
    std::cout << out << '\n';
  }
  std::cerr << bytes / 1e6 / spent.count() << " MB/s\n";
  return 0;
} catch (const ithaca::engine::EngineError& error) {
  std::cerr << error.what() << '\n';
  return static_cast<int>(error.code());
}
