#include "server/metrics/status_page.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace ithaca {
namespace {

constexpr char kHead[] = R"html(<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ithaca</title>
<noscript><meta http-equiv="refresh" content="2"></noscript>
<style>
:root { color-scheme: light dark; --ink: #1c2330; --soft: #667085; --line: #e4e7ec; --paper: #fff; --back: #f6f7f9;
        --sea: #0b6e99; --good: #18794e; --bad: #c0362c; --warn: #9a6700; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --soft: #98a2b3; --line: #2b3340; --paper: #171c24; --back: #0f1319;
          --sea: #58b4dc; --good: #4cc38a; --bad: #f0716a; --warn: #e2b04a; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 14px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; }
header, main { max-width: 1180px; margin: 0 auto; padding: 20px 24px; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: 6px 28px; padding-bottom: 4px; }
h1 { font-size: 20px; margin: 0; letter-spacing: .01em; }
a { color: var(--sea); text-decoration: none; } a:hover { text-decoration: underline; }
header .fact { color: var(--soft); } header .fact b { color: var(--ink); font-weight: 600; }
table { width: 100%; border-collapse: collapse; background: var(--paper); border: 1px solid var(--line); border-radius: 8px;
        overflow: hidden; }
th { text-align: left; font-weight: 500; font-size: 12px; color: var(--soft); padding: 9px 14px; white-space: nowrap;
     border-bottom: 1px solid var(--line); }
td { padding: 11px 14px; border-bottom: 1px solid var(--line); vertical-align: top; font-variant-numeric: tabular-nums; }
tr:last-child td { border-bottom: 0; }
.num { text-align: right; white-space: nowrap; }
.name { font-weight: 600; overflow-wrap: anywhere; min-width: 10em; }
.when { white-space: nowrap; } .id, .why, .small { color: var(--soft); font-size: 12px; }
.why { max-width: 30em; overflow-wrap: anywhere; margin-top: 3px; }
.state { display: inline-block; padding: 1px 9px; border-radius: 999px; font-size: 12px; font-weight: 600; white-space: nowrap;
         color: var(--soft); background: color-mix(in srgb, currentColor 13%, transparent); }
.running, .starting { color: var(--sea); } .succeeded { color: var(--good); } .failed { color: var(--bad); }
.backoff, .stopping { color: var(--warn); }
.bar { height: 5px; width: 120px; border-radius: 3px; background: var(--line); margin-top: 6px; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--sea); } .succeeded-bar i { background: var(--good); }
svg { display: block; margin-left: auto; margin-top: 4px; } polyline { fill: none; stroke: var(--sea); stroke-width: 1.5; }
.ranks { display: grid; grid-template-columns: auto auto; gap: 0 10px; width: max-content; }
.ranks span:nth-child(odd) { color: var(--soft); } .ranks span:nth-child(even) { text-align: right; }
.empty { padding: 48px; text-align: center; color: var(--soft); background: var(--paper); border: 1px solid var(--line);
         border-radius: 8px; } code { font: 13px ui-monospace, Menlo, Consolas, monospace; }
.scroll { overflow-x: auto; } .stale { opacity: .45; }
</style>
</head>
<body>
<div id="page">
)html";

constexpr char kTail[] = R"html(</div>
<script>
setInterval(async () => {
  const page = document.getElementById("page");
  try {
    const answer = await fetch("/", {cache: "no-store"});
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("page");
    page.innerHTML = next.innerHTML;
    page.classList.remove("stale");
  } catch (lost) {
    page.classList.add("stale");
  }
}, 2000);
</script>
</body>
</html>
)html";

std::string HumanBytes(int64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    ++unit;
  }
  return absl::StrFormat(unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
}

// 1234567 as "1,234,567".
std::string Grouped(int64_t value) {
  const std::string digits = absl::StrCat(value);
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0 && digits[i - 1] != '-') out.push_back(',');
    out.push_back(digits[i]);
  }
  return out;
}

std::string LossCurve(const std::vector<double>& losses) {
  constexpr double kWidth = 120, kHeight = 26;
  std::vector<double> finite;
  std::copy_if(losses.begin(), losses.end(), std::back_inserter(finite),
               [](double loss) { return std::isfinite(loss); });
  if (finite.size() < 2) return "";
  const auto [low, high] = std::minmax_element(finite.begin(), finite.end());
  const double range = std::max(*high - *low, 1e-12);
  std::vector<std::string> points;
  for (size_t i = 0; i < finite.size(); ++i) {
    points.push_back(absl::StrFormat("%.1f,%.1f",
                                     kWidth * static_cast<double>(i) / static_cast<double>(finite.size() - 1),
                                     2 + (kHeight - 4) * (*high - finite[i]) / range));
  }
  return absl::StrCat(
      "<svg width=\"120\" height=\"26\" viewBox=\"0 0 120 26\" aria-hidden=\"true\"><polyline points=\"",
      absl::StrJoin(points, " "), "\"/></svg>");
}

std::string Progress(const StatusRow& row) {
  if (row.steps <= 0) return row.step > 0 ? Grouped(row.step) : "–";
  const double part = std::clamp(static_cast<double>(row.step) / static_cast<double>(row.steps), 0.0, 1.0);
  return absl::StrFormat(
      "%s <span class=\"small\">of %s</span><div class=\"bar %s\"><i style=\"width:%.1f%%\"></i></div>",
      Grouped(row.step), Grouped(row.steps), row.state == "succeeded" ? "succeeded-bar" : "", 100 * part);
}

std::string Memory(const StatusRow& row) {
  if (row.peak_bytes_by_rank.empty()) return "–";
  std::string cells = "<div class=\"ranks\">";
  for (const auto& [rank, bytes] : row.peak_bytes_by_rank) {
    absl::StrAppend(&cells, "<span>rank ", rank, "</span><span>", HumanBytes(bytes), "</span>");
  }
  return absl::StrCat(cells, "</div>");
}

std::string Row(const StatusRow& row) {
  const bool trained = row.step > 0 && !row.losses.empty();
  std::string out = absl::StrCat("<tr><td><div class=\"name\">", EscapeHtml(row.name), "</div><div class=\"id\">",
                                 EscapeHtml(row.id), row.attempt > 1 ? absl::StrCat(" · attempt ", row.attempt) : "",
                                 "</div></td><td><span class=\"state ", EscapeHtml(row.state), "\">",
                                 EscapeHtml(row.state), "</span>");
  if (!row.sentence.empty()) absl::StrAppend(&out, "<div class=\"why\">", EscapeHtml(row.sentence), "</div>");
  absl::StrAppend(&out, "</td><td>", Progress(row), "</td><td class=\"num\">",
                  trained ? absl::StrFormat("%.4f", row.loss) : "–", LossCurve(row.losses), "</td><td class=\"num\">",
                  row.tokens_per_second > 0 ? Grouped(std::llround(row.tokens_per_second)) : "–");
  if (row.mfu > 0) absl::StrAppendFormat(&out, "<div class=\"small\">MFU %.1f%%</div>", 100 * row.mfu);
  absl::StrAppend(&out, "</td><td>", Memory(row), "</td><td class=\"small when\">",
                  absl::FormatTime("%Y-%m-%d %H:%M", row.created, absl::UTCTimeZone()), "</td></tr>\n");
  return out;
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
  }
  return out;
}

std::string RenderStatusPage(const StatusView& view) {
  std::string page = kHead;
  absl::StrAppend(&page, "<header><h1>Ithaca</h1><span class=\"fact\"><b>", view.slots_used, "</b> of <b>",
                  view.slots_total, "</b> slots in use</span><span class=\"fact\"><b>", view.queued,
                  "</b> queued</span><span class=\"fact\">version ", EscapeHtml(view.version),
                  "</span><span class=\"fact\">", absl::FormatTime("%H:%M:%S UTC", view.now, absl::UTCTimeZone()),
                  "</span><span class=\"fact\"><a href=\"/metrics\">metrics</a></span></header>\n<main>");
  if (view.rows.empty()) {
    absl::StrAppend(&page,
                    "<div class=\"empty\">No jobs yet. Submit one with <code>ithaca submit job.yaml</code></div>");
  } else {
    absl::StrAppend(
        &page,
        "<div class=\"scroll\"><table><thead><tr><th>Job</th><th>State</th><th>Step</th>"
        "<th class=\"num\">Loss</th><th class=\"num\">Tokens/s</th><th>Peak memory</th><th>Created (UTC)</th>"
        "</tr></thead><tbody>\n");
    for (const StatusRow& row : view.rows) page += Row(row);
    page += "</tbody></table></div>";
  }
  return absl::StrCat(page, "</main>\n", kTail);
}

}  // namespace ithaca
