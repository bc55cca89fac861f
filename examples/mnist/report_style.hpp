// SPDX-License-Identifier: Apache-2.0
//
// The style sheet of the report: light and dark, wide and narrow.
#pragma once

namespace mnist::report {

inline const char* const style = R"css(
:root { color-scheme: light dark; --page: #f7f8fa; --card: #fff; --ink: #1b2230; --soft: #5b6577;
  --line: #dfe3ea; --faint: #edf0f4; --good: #0f7a4f; --good-bg: #e4f5ec; --bad: #b3261e; --bad-bg: #fce8e6;
  --f0: #6a7383; --f1: #2b6cd4; --f2: #c2600f; --f3: #0f8560; --bars: #b9c9e8; --grid: #a3384f; }
@media (prefers-color-scheme: dark) { :root { --page: #11151c; --card: #191f29; --ink: #e6eaf1;
  --soft: #9aa5b8; --line: #303948; --faint: #232b37; --good: #5fd6a2; --good-bg: #12352a; --bad: #ff8a80;
  --bad-bg: #431f1d; --f0: #a9b3c3; --f1: #7db0ff; --f2: #ffab61; --f3: #54d3a4; --bars: #3d5480;
  --grid: #f08ca0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system,
  "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
main { max-width: 1240px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 1.25rem; margin: 44px 0 4px; }
h3 { font-size: 1rem; margin: 0 0 8px; }
p { margin: 0 0 12px; max-width: 75ch; }
.soft, figcaption { color: var(--soft); }
.small { font-size: .85rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 14px; margin: 24px 0 8px; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 16px 18px; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile.good { background: var(--good-bg); border-color: var(--good); } .tile.good b { color: var(--good); }
.tile.bad { background: var(--bad-bg); border-color: var(--bad); } .tile.bad b { color: var(--bad); }
.scroll { overflow-x: auto; margin: 10px 0; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
table { border-collapse: collapse; width: 100%; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: 7px 7px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--faint); }
thead th { color: var(--soft); font-weight: 600; vertical-align: bottom; border-bottom: 1px solid var(--line); }
thead tr.groups th { border: 0; text-align: center; padding-bottom: 0; color: var(--ink); }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--card); font-weight: 500;
  color: var(--ink); min-width: 9.5em; }
td.text, th.text { text-align: left; } tbody tr:last-child > * { border-bottom: 0; }
td small { color: var(--soft); }
.good-text { color: var(--good); font-weight: 600; } .bad-text { color: var(--bad); font-weight: 700; }
.dot { display: inline-block; width: 9px; height: 9px; border-radius: 50%; margin-right: 7px; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: .85rem; color: var(--soft); margin: 8px 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 14px; }
.layers { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 310px), 1fr)); gap: 14px; padding: 4px 0 12px; }
figure { margin: 0; min-width: 0; } figcaption { font-size: .82rem; overflow-wrap: anywhere; }
figure h4 { margin: 0 0 4px; font-size: .92rem; } figure h4 span { font-weight: 400; color: var(--soft); }
details { border-top: 1px solid var(--line); } summary { cursor: pointer; padding: 10px 0; font-weight: 500; }
details:last-of-type { border-bottom: 1px solid var(--line); }
svg { display: block; width: 100%; height: auto; } .chart { max-width: 540px; margin: 0 auto; }
svg text { font-family: inherit; fill: var(--ink); }
.tick { font-size: 10.5px; fill: var(--soft) !important; } .axis-title { font-size: 11.5px; fill: var(--soft) !important; }
.label { font-size: 11px; paint-order: stroke; stroke: var(--card); stroke-width: 3px; stroke-linejoin: round; }
.axis, .rule, .lead, .base, .grid, .zero { fill: none; } .axis { stroke: var(--soft); } .rule { stroke: var(--faint); }
.lead { stroke: var(--soft); stroke-width: .7; } .base { stroke: var(--f0); stroke-dasharray: 4 4; }
circle { stroke: var(--card); stroke-width: 1.5; }
.bars { fill: var(--bars); } .grid { stroke: var(--grid); stroke-width: .7; opacity: .5; }
.zero { stroke: var(--ink); stroke-width: 1.2; } .clip { fill: var(--bad); opacity: .14; }
.f0 { fill: var(--f0); background: var(--f0); } .f1 { fill: var(--f1); background: var(--f1); }
.f2 { fill: var(--f2); background: var(--f2); } .f3 { fill: var(--f3); background: var(--f3); }
.none { color: var(--soft); font-style: italic; }
@media (max-width: 600px) { main { padding: 20px 14px 48px; } h1 { font-size: 1.4rem; } .card { padding: 12px; }
  th, td { padding: 6px 8px; } th:first-child { white-space: normal; min-width: 8.5em; } }
)css";

} // namespace mnist::report
