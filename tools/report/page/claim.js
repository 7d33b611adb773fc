// The seed's claim and ours: how long a switch takes with nested VPID, as a share of the time without.
import { element, figure, legend, paragraph, picture, section, table } from "./dom.js";
import { count, quotient } from "./numbers.js";
import * as Plot from "./plot.js";
import { seed, seedSource } from "./seed.js";
import { allSeries, columns, figureOf } from "./series.js";

const sources = [
  { label: "the patch of 2015, microseconds", color: "var(--seed)", symbol: "diamond", aside: -11 },
  { label: "Flatback, mapped over off, ticks", color: "var(--flatback-1)", symbol: "circle", aside: 0 },
  { label: "KVM 6.1, nested VPID over none, ticks", color: "var(--kvm-1)", symbol: "square", aside: 11 },
];

// The ends of the scale; what is beyond them is drawn at the end, and the table has its figure.
const least = 0.15;
const most = 2.2;

function shares(latCtx) {
  const of = (key) => allSeries(latCtx).find((each) => each.key === key);
  const ticks = (key, column) => figureOf(of(key), column, "ticks");
  return seed.map(({ column, withNestedVpid, without }) => ({
    column,
    shares: [
      quotient(withNestedVpid, without),
      quotient(ticks("flatback.mapped", column), ticks("flatback.off", column)),
      quotient(ticks("kvm.vpid", column), ticks("kvm.novpid", column)),
    ],
  }));
}

function chart(rows) {
  const dots = rows.flatMap(({ column, shares: each }) =>
    sources
      .map((source, index) => ({ ...source, column, share: each[index] }))
      .filter((dot) => dot.share !== null),
  );
  const last = dots.filter((dot) => dot.symbol !== "diamond");
  return Plot.plot({
    height: 300,
    x: { domain: columns, label: null, padding: 0.3 },
    y: { type: "log", label: "share of the time without nested VPID", grid: true, ticks: [0.2, 0.5, 1, 2], tickFormat: "~g", domain: [least, most] },
    marks: [
      Plot.ruleY([1], { stroke: "var(--ink)" }),
      Plot.text(["as long as without"], { frameAnchor: "right", y: () => 1, dy: -8, fill: "var(--muted)", textAnchor: "end" }),
      ...sources.map((source) =>
        Plot.dot(
          dots.filter((dot) => dot.label === source.label),
          {
            x: "column",
            y: (dot) => Math.min(most, Math.max(least, dot.share)),
            dx: source.aside,
            symbol: () => source.symbol,
            r: 5.5,
            fill: Plot.colored,
            title: (dot) => `${dot.column}, ${dot.label}: ${dot.share.toFixed(3)}`,
          },
        ),
      ),
      last.length === 0
        ? Plot.text(["no other share was measured"], { frameAnchor: "bottom-right", fill: "var(--muted)", dy: -6 })
        : null,
    ],
  });
}

export function claim(data) {
  const rows = shares(data.bench?.lat_ctx);
  const head = ["microseconds a context switch", ...columns];
  const seedTable = table(`The patch’s own figures, 2015. Source: ${seedSource}`, head, [
    { head: "nested VPID", cells: seed.map((each) => each.withNestedVpid.toFixed(2)) },
    { head: "without (“vanilla”)", cells: seed.map((each) => each.without.toFixed(2)) },
  ]);
  const shareTable = table(
    "Time of a context switch in L2 with nested VPID, as a share of the time without",
    ["share", ...columns],
    sources.map((source, index) => ({
      head: source.label,
      cells: rows.map((row) => (row.shares[index] === null ? null : count(row.shares[index]))),
    })),
  );
  return section(
    "claim",
    "The claim of 2015, and ours",
    paragraph(
      "Nested VPID came to KVM with a table: lmbench’s context switches in an L2, faster with it in six of seven columns. ",
      "The table below is the patch’s own; the shares beside it are of the same benchmark in this emulator, where a flush costs nothing, so that a share near 1 is what must be seen here: ",
      "the gain is in the flushes counted further down, and priced after that.",
    ),
    figure("seed", "The patch’s table", { content: [seedTable] }),
    figure("shares", "With nested VPID, as a share of without", {
      lead: element("p", {}, "Below the line nested VPID was faster, above it slower."),
      content: [
        legend(sources),
        picture(
          chart(rows),
          "Share of the time without nested VPID, by column",
          "One dot a column for the patch of 2015, for Flatback and for KVM, on a logarithmic scale; the table has the same figures.",
        ),
        shareTable,
      ],
    }),
  );
}
