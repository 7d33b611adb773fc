// Our table: ticks of a context switch, and the flushes that came with it.
import { absent, element, figure, legend, paragraph, picture, section, table } from "./dom.js";
import { count, percent } from "./numbers.js";
import * as Plot from "./plot.js";
import { allSeries, columns, figureOf, overBare, perL2Entry, rates } from "./series.js";

const howToMeasure = "./flatback bench --peer kvm --json FILE writes it.";

function measuredTicks(series) {
  return series.flatMap((each) =>
    columns
      .map((column) => ({ column, series: each.label, color: each.color, ticks: figureOf(each, column, "ticks") }))
      .filter((bar) => bar.ticks !== null),
  );
}

function tickBars(series) {
  const bars = measuredTicks(series);
  const shown = series.filter((each) => bars.some((bar) => bar.series === each.label));
  return {
    legend: legend(shown),
    chart: Plot.plot({
      height: 320,
      marginLeft: 70,
      fx: { domain: columns, label: null, padding: 0.12 },
      x: { domain: shown.map((each) => each.label), axis: null, padding: 0.1 },
      y: { label: "ticks per switch", grid: true, tickFormat: "~s" },
      marks: [
        Plot.barY(bars, {
          fx: "column",
          x: "series",
          y: "ticks",
          fill: Plot.colored,
          title: (bar) => `${bar.column}, ${bar.series}: ${count(bar.ticks)} ticks`,
        }),
        Plot.ruleY([0], { stroke: "var(--ink)" }),
      ],
    }),
  };
}

function ticksFigure(id, title, lead, series, bare) {
  const rows = [];
  for (const each of series) {
    rows.push({ head: each.label, cells: columns.map((column) => count(figureOf(each, column, "ticks"))) });
    const over = columns.map((column) => overBare(each, bare, column));
    if (each.key !== "bare" && over.some((share) => share !== null)) {
      rows.push({ head: "over bare Linux", class: "sub", cells: over.map((share) => percent(share)) });
    }
  }
  const figures = table(`${title}, by column and configuration`, ["ticks per switch", ...columns], rows);
  const drawn = tickBars(series);
  const any = series.some((each) => each.figures !== null);
  return figure(id, title, {
    lead: element("p", {}, lead),
    content: any
      ? [
          drawn.legend,
          picture(drawn.chart, title, "Bars, one a configuration in each of seven columns; the table has the same figures."),
          figures,
        ]
      : [absent(title, howToMeasure)],
  });
}

const flushRates = rates.slice(1);

function flushBars(series) {
  const bars = series.flatMap((each) =>
    flushRates.map((rate) => ({ series: each.label, tag: rate.label, color: each.color, rate: perL2Entry(each, rate) })),
  );
  const measured = bars.filter((bar) => bar.rate !== null);
  return Plot.plot({
    height: 80 + 26 * series.length,
    marginLeft: 230,
    fx: { domain: flushRates.map((rate) => rate.label), label: null },
    x: { label: "per L2 entry", grid: true, ticks: 3, domain: [0, Math.max(1, ...measured.map((bar) => bar.rate)) * 1.25] },
    y: { domain: series.map((each) => each.label), label: null },
    marks: [
      Plot.barX(measured, {
        fx: "tag",
        y: "series",
        x: "rate",
        fill: Plot.colored,
        insetTop: 3,
        insetBottom: 3,
        title: (bar) => `${bar.series}: ${count(bar.rate)} ${bar.tag} per L2 entry`,
      }),
      Plot.text(measured, { fx: "tag", y: "series", x: "rate", text: (bar) => count(bar.rate), textAnchor: "start", dx: 5, fill: "var(--ink)" }),
      Plot.text(
        bars.filter((bar) => bar.rate === null),
        { fx: "tag", y: "series", x: () => 0, text: () => "not measured", textAnchor: "start", dx: 5, fontStyle: "italic", fill: "var(--muted)" },
      ),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
}

function flushesFigure(series) {
  const inL2 = series.filter((each) => each.key !== "bare" && each.key !== "l1");
  const title = "Flushes per entry into L2";
  const known = inL2.some((each) => rates.some((rate) => perL2Entry(each, rate) !== null));
  if (!known) return figure("flushes", title, { content: [absent(title, howToMeasure)] });
  return figure("flushes", title, {
    lead: element(
      "p",
      {},
      "This is where nested VPID shows. A flushed tag makes its owner walk its page tables again; the emulator counts the flush and charges nothing for it. KVM counts its flushes without telling the tags apart.",
    ),
    content: [
      picture(flushBars(inL2), title, "Three groups of bars, flushes of L2’s tags, of L1’s tag and of any tag, one bar a configuration; the table has the same figures."),
      table(
        "Events per entry into L2, over all columns",
        ["configuration", ...rates.map((rate) => rate.label)],
        inL2.map((each) => ({ head: each.label, cells: rates.map((rate) => count(perL2Entry(each, rate))) })),
      ),
    ],
  });
}

function countsTable(series) {
  const names = [
    ["l2_entries", "entries into L2"],
    ["l0_exits", "exits to L0"],
    ["l2_tag_flushes", "flushes of L2’s tags"],
    ["l1_tag_flushes", "flushes of L1’s tag"],
    ["tlb_flushes", "flushes of any tag"],
  ];
  const rows = series.flatMap((each) =>
    names
      .filter(([name]) => columns.some((column) => figureOf(each, column, name) !== null))
      .map(([name, text]) => ({
        head: `${each.label}: ${text}`,
        cells: columns.map((column) => count(figureOf(each, column, name))),
      })),
  );
  return rows.length === 0
    ? null
    : figure("counts", "What was counted", {
        content: [table("Events per context switch, by column", ["per switch", ...columns], rows)],
      });
}

export function latCtx(data) {
  const series = allSeries(data.bench?.lat_ctx);
  const bare = series.find((each) => each.key === "bare");
  return section(
    "lat-ctx",
    "Context switches, counted",
    paragraph(
      "A ring of processes hands on a token through pipes; each sums an array of its own first (lmbench’s lat_ctx). 8p/16K is eight processes with 16 KB each. ",
      "What the emulator counts are instructions, so these figures are the length of the software’s way.",
    ),
    ticksFigure(
      "ticks",
      "Ticks per context switch",
      "With EPT in L1 an L2’s context switch itself causes no exit: what is over bare Linux comes with timer ticks.",
      series.filter((each) => !each.withoutEpt),
      bare,
    ),
    ticksFigure(
      "ticks-ept0",
      "Ticks per context switch, L1 without EPT",
      "Without EPT in L1 every switch of an L2’s address space is an exit that L1 handles: here L0’s own way is most of the time.",
      series.filter((each) => each.withoutEpt),
      bare,
    ),
    flushesFigure(series),
    countsTable(series),
  );
}
