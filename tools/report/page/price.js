// What the emulator leaves out, priced.
import { absent, element, figure, paragraph, picture, section, table } from "./dom.js";
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
  const least = Math.max(1, Math.min(...bars.filter((bar) => bar.low > 0).map((bar) => bar.low)));
  return Plot.plot({
    height: 50 + series.length * 76,
    marginLeft: 50,
    marginRight: 40,
    marginTop: 30,
    fy: { domain: series.map((each) => each.label), label: null, axis: null, padding: 0.18 },
    y: { domain: columns, label: null, tickSize: 0, axis: null },
    x: { type: "log", label: "cycles per switch, logarithmic", grid: true, tickFormat: "~s" },
    marks: [
      Plot.text(series, { fy: "label", text: "label", frameAnchor: "top-left", dy: -12, fill: "var(--ink)", fontWeight: "600" }),
      Plot.barX(bars, {
        fy: "series",
        y: "column",
        x1: (bar) => Math.max(bar.low, least),
        x2: "high",
        fill: Plot.colored,
        rx: 2,
        insetTop: 1,
        insetBottom: 1,
        title: (bar) => `${bar.series}, ${bar.column}: ${range(bar)} cycles`,
      }),
      Plot.text(bars, { fy: "series", y: "column", x: "high", text: "column", textAnchor: "start", dx: 4, fontSize: 9, fill: "var(--muted)" }),
    ],
  });
}

function rows(series) {
  return series.flatMap((each) => [
    {
      head: each.label,
      cells: columns.map((column) => (each.figures[column] ? range(each.figures[column].total) : null)),
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
        table(`${title}, on ${data.price.processor}: low to high`, ["cycles per switch", ...columns], rows(series)),
      ],
    }),
    figure("costs", "The costs, and where they come from", { content: [costTable(data.price), refillTable(data.price)] }),
    series.some((each) => columns.some((column) => each.figures[column]?.not_counted?.length > 0))
      ? element("p", { class: "note" }, "Where some kind of event was not counted, the sum is of the others, and the kind is said to be not measured.")
      : null,
  );
}
