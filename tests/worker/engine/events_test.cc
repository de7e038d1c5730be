#include "worker/engine/events.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace ithaca::engine {
namespace {

class EventsTest : public testing::Test {
 protected:
  EventsTest() {
    std::signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(pipe(ends_), 0);
  }
  ~EventsTest() override {
    for (const int fd : ends_) {
      if (fd >= 0) close(fd);
    }
  }

  void CloseReader() {
    close(ends_[0]);
    ends_[0] = -1;
  }

  // Everything that was written, once the writer's end is closed.
  std::vector<nlohmann::json> ReadAll() {
    close(ends_[1]);
    ends_[1] = -1;
    std::string text;
    char buffer[65536];
    for (ssize_t count; (count = read(ends_[0], buffer, sizeof buffer)) > 0;) text.append(buffer, count);
    std::vector<nlohmann::json> events;
    for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
      events.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
    }
    return events;
  }

  int ends_[2] = {-1, -1};
};

TEST_F(EventsTest, EveryEventHasItsNameTimeAndRankAndComesInOrder) {
  {
    EventSink sink(ends_[1], 3);
    sink.Emit("ready", nlohmann::json::object());
    sink.Emit("step", {{"step", 1}, {"loss", 2.5}});
  }
  const auto events = ReadAll();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0]["event"], "ready");
  EXPECT_EQ(events[1]["event"], "step");
  EXPECT_EQ(events[1]["loss"], 2.5);
  EXPECT_EQ(events[1]["rank"], 3);
  EXPECT_GT(events[1]["time"].get<double>(), 1.6e9);
}

TEST_F(EventsTest, AReaderThatDoesNotReadCostsEventsButNotTheOnesThatMustArrive) {
  constexpr int kEmitted = 20'000;  // far beyond the pipe and the queue; nobody reads while they are emitted
  std::vector<nlohmann::json> events;
  int64_t dropped = 0;
  std::thread reader;
  {
    EventSink sink(ends_[1], 0);
    for (int i = 0; i < kEmitted; ++i) sink.Emit("step", {{"step", i}});
    dropped = sink.dropped();
    EXPECT_GT(dropped, 0);
    sink.Emit("checkpoint", {{"path", "x"}});
    sink.Emit("finished", {{"reason", "done"}});
    reader = std::thread([&] {
      std::string text;
      char buffer[65536];
      for (ssize_t count; (count = read(ends_[0], buffer, sizeof buffer)) > 0;) text.append(buffer, count);
      for (size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
        events.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
      }
    });
  }
  close(ends_[1]);
  ends_[1] = -1;
  reader.join();
  ASSERT_EQ(static_cast<int64_t>(events.size()), kEmitted - dropped + 2);
  EXPECT_EQ(events[events.size() - 2]["event"], "checkpoint");
  EXPECT_EQ(events.back()["event"], "finished");
}

TEST_F(EventsTest, AClosedPipeShowsAndLaterEventsAreLetGo) {
  CloseReader();
  EventSink sink(ends_[1], 0);
  while (!sink.reader_gone()) {
    sink.Emit("step", {{"step", 1}});
    std::this_thread::yield();
  }
  for (int i = 0; i < 10'000; ++i) sink.Emit("step", {{"step", i}});
  EXPECT_TRUE(sink.reader_gone());
}

TEST_F(EventsTest, AHeartbeatTellsStepPhaseAndMemory) {
  EventSink sink(ends_[1], 0);
  Heartbeat heartbeat(sink);
  std::string line;
  char byte;
  while (line.find('\n') == std::string::npos && read(ends_[0], &byte, 1) == 1) line += byte;
  const nlohmann::json event = nlohmann::json::parse(line);
  EXPECT_EQ(event["event"], "heartbeat");
  EXPECT_EQ(event["step"], 0);
  EXPECT_EQ(event["phase"], "starting");
  EXPECT_GT(event["memory"]["allocated"].get<int64_t>(), 0);
}

}  // namespace
}  // namespace ithaca::engine
