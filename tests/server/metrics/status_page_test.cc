#include "server/metrics/status_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace ithaca {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

StatusView OneJob() {
  StatusView view;
  view.slots_total = 4;
  view.slots_used = 2;
  view.version = "1.2.3";
  view.now = absl::FromUnixSeconds(0);
  StatusRow row;
  row.id = "j-1";
  row.name = "gutenberg";
  row.state = "running";
  row.attempt = 2;
  row.step = 1500;
  row.steps = 3000;
  row.loss = 2.71828;
  row.losses = {4, 3, 2.71828};
  row.tokens_per_second = 123456.7;
  row.mfu = 0.413;
  row.peak_bytes_by_rank = {{0, 3LL << 30}, {1, 5 << 20}};
  view.rows.push_back(row);
  return view;
}

TEST(StatusPageTest, ShowsStateStepLossThroughputAndMemoryPerRank) {
  const std::string page = RenderStatusPage(OneJob());
  for (const char* part :
       {"gutenberg", "j-1 · attempt 2", ">running<", "1,500", "of 3,000", "width:50.0%", "2.7183", "123,457",
        "MFU 41.3%", "rank 0", "3.00 GiB", "rank 1", "5.00 MiB", "<polyline", "<b>2</b> of <b>4</b> slots"}) {
    EXPECT_THAT(page, HasSubstr(part));
  }
}

TEST(StatusPageTest, EscapesWhatUsersWrote) {
  StatusView view = OneJob();
  view.rows[0].name = "<script>alert('x')</script>";
  view.rows[0].sentence = "a & b \"c\"\n";
  const std::string page = RenderStatusPage(view);
  EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
  EXPECT_THAT(page, HasSubstr("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
  EXPECT_THAT(page, HasSubstr("a &amp; b &quot;c&quot; "));
}

TEST(StatusPageTest, AJobWithoutStepsShowsDashesAndNoCurve) {
  StatusView view = OneJob();
  view.rows[0] = StatusRow{.id = "j-2", .name = "waiting", .state = "queued", .sentence = "waits for 4 slots"};
  const std::string page = RenderStatusPage(view);
  EXPECT_THAT(page, HasSubstr("waits for 4 slots"));
  EXPECT_THAT(page, HasSubstr("<td>–</td>"));
  EXPECT_THAT(page, Not(HasSubstr("<polyline")));
}

TEST(StatusPageTest, ACurveLeavesOutWhatIsNotFinite) {
  StatusView view = OneJob();
  view.rows[0].losses = {1, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 2};
  const std::string page = RenderStatusPage(view);
  EXPECT_THAT(page, HasSubstr("points=\"0.0,24.0 120.0,2.0\""));
}

TEST(StatusPageTest, SaysHowToSubmitWhenThereAreNoJobs) {
  EXPECT_THAT(RenderStatusPage(StatusView{}), HasSubstr("ithaca submit job.yaml"));
}

}  // namespace
}  // namespace ithaca
