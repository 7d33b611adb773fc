// Flushes for each entry into L2: where nested VPID shows in an emulator that charges nothing for them.
import { absent, element, figure, figuresTable, picture, section } from "./dom.js";
import { count } from "./numbers.js";
import * as Plot from "./plot.js";
import { allSeries, leastFlushRate, perL2Entry, rates } from "./series.js";

const flushRates = rates.slice(1);

// A figure as words: a number, or the least that is known of it, or nothing.
function written(series, rate) {
  const exact = perL2Entry(series, rate);
  if (exact !== null) return count(exact);
  const least = rate === flushRates.at(-1) ? perL2Entry(series, leastFlushRate) : null;
  return least === null || least === 0 ? null : `at least ${count(least)}`;
}

function bars(series) {
  const all = series.flatMap((each) =>
    flushRates.map((rate) => ({ series: each.label, tag: rate.label, color: each.color, rate: perL2Entry(each, rate), text: written(each, rate) ?? "not measured" })),
  );
  const measured = all.filter((bar) => bar.rate !== null);
  return Plot.plot({
    height: 76 + 20 * series.length,
    marginLeft: 250,
    marginRight: 20,
    fx: { domain: flushRates.map((rate) => rate.label), label: null },
    x: { label: "per L2 entry", grid: true, ticks: 3, domain: [0, Math.max(1, ...measured.map((bar) => bar.rate)) * 1.35] },
    y: { domain: series.map((each) => each.label), label: null },
    marks: [
      Plot.barX(measured, {
        fx: "tag",
        y: "series",
        x: "rate",
        fill: Plot.colored,
        insetTop: 3,
        insetBottom: 3,
        title: (bar) => `${bar.series}: ${bar.text} ${bar.tag} per L2 entry`,
      }),
      Plot.text(measured, { fx: "tag", y: "series", x: "rate", text: "text", textAnchor: "start", dx: 5, fill: "var(--ink)" }),
      Plot.text(
        all.filter((bar) => bar.rate === null),
        { fx: "tag", y: "series", x: () => 0, text: "text", textAnchor: "start", dx: 5, fontStyle: "italic", fill: "var(--muted)" },
      ),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
}

export function flushes(data) {
  const series = allSeries(data.bench?.lat_ctx).filter((each) => each.key !== "bare" && each.key !== "l1");
  const title = "Flushes for each entry into L2";
  const known = series.some((each) => rates.some((rate) => perL2Entry(each, rate) !== null));
  return section(
    "flushes",
    "What is flushed on the way",
    known
      ? figure("flush-rates", title, {
          lead: element(
            "p",
            {},
            "A flushed tag makes its owner walk its page tables again; the emulator counts the flush and charges nothing for it. KVM counts its flushes without telling the tags apart, and leaves out those that it makes for an INVVPID of L1’s: where L1 uses VPIDs, its number is a least one.",
          ),
          content: [
            picture(bars(series), title, "Three groups of bars, flushes of L2’s tags, of L1’s tag and of any tag, one bar a configuration; the table has the same figures."),
            figuresTable(
              "Events per entry into L2, over all columns",
              ["configuration", ...rates.map((rate) => rate.label)],
              series.map((each) => ({ head: each.label, cells: rates.map((rate) => written(each, rate)) })),
            ),
          ],
        })
      : absent(title, "./flatback bench --peer kvm --json FILE writes it."),
  );
}
