#include "server/store/event_lines.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "tests/server/core/service_fixture.h"

namespace ithaca {
namespace {

TEST(EventLines, WhatIsWrittenIsRead) {
  for (const std::string json : {R"({"event":"step"})", "", "not json", "two\nlines}\n", R"(","event":{}})"}) {
    const EngineEventRecord event{3, 12345, json};
    const std::string line = ToLine(event);
    EngineEventRecord read;
    EXPECT_EQ(FromLine(line + "rest", read), line.size());
    EXPECT_EQ(read.rank, 3);
    EXPECT_EQ(read.offset, 12345);
    EXPECT_EQ(read.json, json);
  }
}

TEST(EventLines, ALineWithoutItsEndIsNotThereYet) {
  const std::string line = ToLine({3, 5, R"({"event":"step","step":1})"});
  EngineEventRecord read;
  for (size_t length = 0; length < line.size(); ++length) EXPECT_EQ(FromLine(line.substr(0, length), read), 0u);
}

TEST(EventLines, ADamagedLineIsSkipped) {
  const std::string good = ToLine({1, 0, "{}"});
  for (const std::string bad : {"garbage\n", "{\"rank\":0,\"offset\":0,\"size\":-5,\"event\":{}}\n",
                                "{\"rank\":0,\"offset\":0,\"size\":1,\"event\":{}}\n", "\n"}) {
    EngineEventRecord read;
    EXPECT_EQ(FromLine(bad + good, read), bad.size()) << bad;
    EXPECT_EQ(read.rank, -1);
  }
}

TEST(EventLines, PagesOfALargeFileHaveEverything) {
  TemporaryDirectory directory;
  const auto path = directory.path() / "lines";
  constexpr int kLines = 1000;
  {
    std::ofstream file(path);
    for (int i = 0; i < kLines; ++i) file << ToLine({0, i, std::string(1000, 'x')});
    file << R"({"rank":0,"offset":)";  // torn
  }
  const int fd = ::open(path.c_str(), O_RDONLY);
  ASSERT_GE(fd, 0);
  int64_t position = 0;
  int next = 0;
  while (true) {
    const auto page = ReadLines(fd, position, 7);
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->ends.size(), page->events.size());
    for (const EngineEventRecord& event : page->events) EXPECT_EQ(event.offset, next++);
    position = page->next_position;
    if (page->at_end) break;
  }
  EXPECT_EQ(next, kLines);
  ::close(fd);
}

}  // namespace
}  // namespace ithaca
