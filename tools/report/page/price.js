// What the emulator leaves out, priced.
import { absent, element, figure, figuresTable, folded, paragraph, picture, section, table } from "./dom.js";
import { count, range } from "./numbers.js";
import * as Plot from "./plot.js";
import { allSeries, columns } from "./series.js";

const parts = [
  ["world_switches", "world switches"],
  ["flush_instructions", "INVVPID"],
  ["refills", "misses after"],
];

function pricedSeries(data) {
  return allSeries(data.price.lat_ctx).filter(
    (each) => each.figures !== null && columns.some((column) => each.figures[column]),
  );
}

function chart(series) {
  const bars = series.flatMap((each) =>
    columns
      .map((column) => ({ column, series: each.label, color: each.color, ...each.figures[column]?.total }))
      .filter((bar) => bar.high > 0),
  );
  const unpriced = series.flatMap((each) =>
    columns.filter((column) => !each.figures[column]?.total).map((column) => ({ column, series: each.label })),
  );
  const least = Math.max(1, Math.min(...bars.filter((bar) => bar.low > 0).map((bar) => bar.low)));
  return Plot.plot({
    height: 70 + series.length * 20,
    marginLeft: 250,
    marginRight: 20,
    fx: { domain: columns, label: null, padding: 0.08 },
    y: { domain: series.map((each) => each.label), label: null },
    x: { type: "log", label: "cycles per switch, logarithmic", grid: true, ticks: 3, tickFormat: "~s" },
    marks: [
      Plot.barX(bars, {
        fx: "column",
        y: "series",
        x1: (bar) => Math.max(bar.low, least),
        x2: "high",
        fill: Plot.colored,
        rx: 2,
        insetTop: 4,
        insetBottom: 4,
        title: (bar) => `${bar.series}, ${bar.column}: ${range(bar)} cycles`,
      }),
      Plot.text(unpriced, { fx: "column", y: "series", x: () => least, text: () => "not measured", textAnchor: "start", dx: 2, fontSize: 10, fontStyle: "italic", fill: "var(--muted)" }),
    ],
  });
}

function rows(series) {
  return series.flatMap((each) => [
    {
      head: each.label,
      cells: columns.map((column) => (each.figures[column]?.total ? range(each.figures[column].total) : null)),
    },
    ...parts.map(([name, text]) => ({
      head: text,
      class: "sub",
      cells: columns.map((column) => {
        const part = each.figures[column]?.[name];
        return part ? range(part) : null;
      }),
    })),
  ]);
}

function costTable(price) {
  return table(
    `What each event is taken to cost, cycles of ${price.processor}`,
    ["event", "cycles", "basis", "source"],
    Object.values(price.costs).map((cost) => ({ head: cost.text, cells: [range(cost), cost.basis, cost.source] })),
  );
}

function refillTable(price) {
  return table(
    "What a flush makes the processor fetch again, from the machine’s model of lat_ctx",
    ["column", "L1’s tag: misses", "walk references", "L2’s tag: misses", "walk references"],
    columns
      .filter((column) => price.refill_of_a_flush[column])
      .map((column) => {
        const { l1_tag: l1, l2_tag: l2 } = price.refill_of_a_flush[column];
        return { head: column, cells: [l1.misses, l1.walk_references, l2.misses, l2.walk_references].map(count) };
      }),
  );
}

export function price(data) {
  const title = "Cycles per context switch that were not charged";
  const intro = paragraph(
    "The emulator charges one tick an instruction and nothing for a TLB miss, a page walk, a VM entry or a VM exit. What was counted is priced here with costs of a named processor. ",
    "Each end of a range takes every cost at its lowest, or at its highest; two digits, for more would say more than is known. It is an estimate and no measurement.",
  );
  if (!data.price) {
    return section("price", "What the emulator does not charge for", intro, absent("Cycles not charged", data.price_missing ?? ""));
  }
  const series = pricedSeries(data);
  return section(
    "price",
    "What the emulator does not charge for",
    intro,
    figure("price-ranges", title, {
      content: [
        picture(chart(series), title, "Bars from the low to the high end of each range, by configuration and column, on a logarithmic scale; the table has the same figures."),
        figuresTable(`${title}, on ${data.price.processor}: low to high`, ["cycles per switch", ...columns], rows(series)),
      ],
    }),
    figure("costs", "The costs, and where they come from", { content: [folded("Each cost with its source", costTable(data.price), refillTable(data.price))] }),
    series.some((each) => columns.some((column) => each.figures[column]?.not_counted?.length > 0))
      ? element("p", { class: "note" }, "Where some kind of event was not counted there is no sum: the kind is said to be not measured.")
      : null,
  );
}
