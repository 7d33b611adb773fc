// What a context switch in L2 takes: over bare Linux, and where L1 has no EPT.
import { absent, beside, element, figure, folded, figuresTable, legend, paragraph, picture, section, table } from "./dom.js";
import { count, percent } from "./numbers.js";
import * as Plot from "./plot.js";
import { allSeries, columns, figureOf, overBare } from "./series.js";

const howToMeasure = "./flatback bench --peer kvm --json FILE writes it.";

// Like beside like: both give L1 its VPIDs.
const compared = [
  { name: "flatback", label: "Flatback as L0", color: "var(--flatback-1)" },
  { name: "kvm", label: "KVM as L0", color: "var(--kvm-1)" },
];

function pairs(series, keys, valueOf) {
  return compared.flatMap((host, index) =>
    columns
      .map((column) => ({ ...host, column, value: valueOf(series.find((each) => each.key === keys[index]), column) }))
      .filter((bar) => bar.value !== null),
  );
}

function pairedBars(bars, label, write) {
  return Plot.plot({
    width: Plot.half,
    height: 270,
    marginRight: 10,
    marginTop: 30,
    fx: { domain: columns, label: null, padding: 0.15 },
    x: { domain: compared.map((host) => host.label), axis: null, padding: 0.08 },
    y: { label, grid: true, ticks: 5, nice: true, tickFormat: (value) => write(value) },
    marks: [
      Plot.barY(bars, { fx: "column", x: "label", y: "value", fill: Plot.colored, title: (bar) => `${bar.column}, ${bar.label}: ${write(bar.value)}` }),
      Plot.text(bars, { fx: "column", x: "label", y: "value", text: (bar) => write(bar.value, true), dy: -7, fontSize: 9.5, fill: "var(--ink)" }),
      Plot.ruleY([0], { stroke: "var(--ink)" }),
    ],
  });
}

const perCent = (share) => `${(share * 100).toFixed(1)}`;
const thousands = (ticks, short) => (short ? `${Math.round(ticks / 1000)}k` : count(ticks));

function rowsOf(series, bare) {
  const rows = [];
  for (const each of series) {
    rows.push({ head: each.label, cells: columns.map((column) => count(figureOf(each, column, "ticks"))) });
    const over = columns.map((column) => overBare(each, bare, column));
    if (each.key !== "bare" && over.some((share) => share !== null)) {
      rows.push({ head: "over bare Linux", class: "sub", cells: over.map((share) => percent(share)) });
    }
  }
  return rows;
}

function comparison({ id, title, lead, series, keys, valueOf, label, write, rows }) {
  const bars = pairs(series, keys, valueOf);
  const heads = ["ticks per switch", ...columns];
  const measured = rows.some((row) => row.cells.some((cell) => cell !== null));
  if (!measured) return figure(id, title, { content: [absent(title, howToMeasure)] });
  return figure(id, title, {
    lead: element("p", {}, lead),
    content: [
      ...(bars.length === 0
        ? [absent("A comparison", howToMeasure)]
        : [
            legend(compared),
            picture(pairedBars(bars, label, write), title, "A bar for Flatback and one for KVM in each of seven columns; the table has the same figures."),
          ]),
      figuresTable(`${title}: ticks of all configurations`, heads, rows),
    ],
  });
}

function countsTable(series) {
  const names = [
    ["l2_entries", "entries into L2"],
    ["l0_exits", "exits to L0"],
    ["l2_tag_flushes", "flushes of L2’s tags"],
    ["l1_tag_flushes", "flushes of L1’s tag"],
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
    : element("div", { id: "counts" }, folded("All that was counted, per context switch", table("Events per context switch, by column", ["per switch", ...columns], rows)));
}

export function latCtx(data) {
  const series = allSeries(data.bench?.lat_ctx);
  const bare = series.find((each) => each.key === "bare");
  return section(
    "lat-ctx",
    "A context switch in L2",
    paragraph(
      "A ring of processes hands on a token through pipes; each sums an array of its own first (lmbench’s lat_ctx). 8p/16K is eight processes with 16 KB each. ",
      "What the emulator counts are instructions, so these figures are the length of the software’s way.",
    ),
    beside(
      comparison({
        id: "ticks",
        title: "More than on bare Linux, in per cent",
        lead: "With EPT in L1 an L2’s context switch itself causes no exit: what is over bare Linux comes with timer ticks.",
        series,
        keys: ["flatback.mapped", "kvm.vpid"],
        valueOf: (each, column) => overBare(each, bare, column),
        label: "% over bare Linux",
        write: perCent,
        rows: rowsOf(series.filter((each) => !each.withoutEpt), bare),
      }),
      comparison({
        id: "ticks-ept0",
        title: "Ticks a switch, where L1 has no EPT",
        lead: "Then every switch of an L2’s address space is an exit that L1 handles: here L0’s own way is most of the time.",
        series,
        keys: ["flatback.mapped_ept0", "kvm.vpid_ept0"],
        valueOf: (each, column) => figureOf(each, column, "ticks"),
        label: "ticks a switch",
        write: thousands,
        rows: rowsOf(series.filter((each) => each.withoutEpt), bare),
      }),
    ),
    countsTable(series),
  );
}
