#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>

#include "client/command_line.h"

int main(int argc, char** argv) {
  ithaca::client::Terminal terminal{std::cout, std::cerr};
  winsize size{};
  terminal.interactive = isatty(STDOUT_FILENO) == 1;
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) terminal.columns = size.ws_col;
  const char* server = std::getenv("ITHACA_SERVER");
  return ithaca::client::RunCommandLine({argv + 1, argv + argc},
                                        server != nullptr && *server != '\0' ? server : "127.0.0.1:7070", terminal);
}
