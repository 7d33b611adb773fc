// What single operations cost, Flatback and KVM side by side, and the boots.
import { absent, element, figure, figuresTable, legend, paragraph, picture, section } from "./dom.js";
import { count, quotient, times } from "./numbers.js";
import { named } from "./operations.js";
import * as Plot from "./plot.js";

const hosts = [
  { name: "flatback", label: "Flatback", color: "var(--flatback-1)", symbol: "circle" },
  { name: "kvm", label: "KVM", color: "var(--kvm-1)", symbol: "square" },
];

function joined(primitives) {
  const names = [...new Set(hosts.flatMap((host) => Object.keys(primitives[host.name] ?? {})))];
  return names
    .map((name) => {
      const ticks = Object.fromEntries(hosts.map((host) => [host.name, primitives[host.name]?.[name] ?? null]));
      return { name: named(name), ...ticks, ratio: quotient(ticks.kvm, ticks.flatback) };
    })
    .sort((one, other) => (other.ratio ?? -1) - (one.ratio ?? -1) || one.name.localeCompare(other.name));
}

function chart(rows) {
  const drawn = rows.some((row) => row.ratio !== null) ? rows.filter((row) => row.ratio !== null) : rows;
  // A logarithmic scale has no place for nothing: an operation of no ticks is in the table only.
  const dots = drawn.flatMap((row) =>
    hosts
      .map((host) => ({ ...host, operation: row.name, ticks: row[host.name] }))
      .filter((dot) => dot.ticks !== null && dot.ticks > 0),
  );
  const both = rows.filter((row) => row.flatback > 0 && row.kvm > 0);
  return Plot.plot({
    height: 60 + 17 * drawn.length,
    marginLeft: 330,
    marginRight: 80,
    x: { type: "log", label: "ticks, logarithmic", grid: true, tickFormat: "~s" },
    y: { domain: drawn.map((row) => row.name), label: null, grid: true },
    marks: [
      Plot.link(both, { x1: "flatback", x2: "kvm", y: "name", stroke: "var(--muted)", strokeWidth: 2 }),
      Plot.dot(dots, {
        x: "ticks",
        y: "operation",
        symbol: "symbol",
        r: 5.5,
        fill: Plot.colored,
        title: (dot) => `${dot.operation}, ${dot.label}: ${count(dot.ticks)} ticks`,
      }),
      Plot.text(both, { y: "name", text: (row) => times(row.ratio), frameAnchor: "right", dx: 62, textAnchor: "end", fill: "var(--ink)" }),
    ],
  });
}

function primitivesFigure(primitives) {
  const title = "Ticks of single operations";
  const rows = joined(primitives);
  if (rows.length === 0) return figure("operations", title, { content: [absent(title, "./flatback bench --peer kvm --json FILE writes them.")] });
  return figure("operations", title, {
    lead: element("p", {}, "Under a bare L1, where the name does not say Linux: L0’s own cost. The number at the right is how many times KVM’s is longer; the longest come first. What only one of the two has is in the table."),
    content: [
      legend(hosts),
      picture(chart(rows), title, "Two dots an operation, for Flatback and for KVM, on a logarithmic scale, joined by a line; the table has the same figures."),
      figuresTable(
        title,
        ["operation", "Flatback", "KVM", "KVM over Flatback"],
        rows.map((row) => ({ head: row.name, cells: [count(row.flatback), count(row.kvm), times(row.ratio)] })),
      ),
    ],
  });
}

function bootFigure(boot) {
  const title = "Boots, in millions of ticks";
  const rows = [...new Set(hosts.flatMap((host) => Object.keys(boot[host.name] ?? {})))].map((name) => ({
    name,
    figures: hosts.map((host) => boot[host.name]?.[name] ?? null),
  }));
  if (rows.length === 0) return figure("boot", title, { content: [absent(title, "./flatback bench --json FILE writes them.")] });
  const bars = rows.flatMap((row) =>
    hosts
      .map((host, index) => ({ ...host, boot: named(row.name), ticks: row.figures[index] }))
      .filter((bar) => bar.ticks !== null),
  );
  const svg = Plot.plot({
    height: 50 + 34 * rows.length,
    marginLeft: 330,
    marginRight: 80,
    fy: { domain: rows.map((row) => named(row.name)), label: null },
    y: { domain: hosts.map((host) => host.label), axis: null },
    x: { label: "million ticks", grid: true, transform: (ticks) => ticks / 1e6 },
    marks: [
      Plot.barX(bars, { fy: "boot", y: "label", x: "ticks", fill: Plot.colored, insetTop: 1, insetBottom: 1, title: (bar) => `${bar.boot}, ${bar.label}: ${count(bar.ticks)} ticks` }),
      Plot.text(bars, { fy: "boot", y: "label", x: "ticks", text: (bar) => count(bar.ticks / 1e6), textAnchor: "start", dx: 5, fill: "var(--ink)" }),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
  return figure("boot", title, {
    content: [
      legend(hosts),
      picture(svg, title, "Bars for Flatback and for KVM as L0; the table has the same figures."),
      figuresTable(
        "Boots, in ticks",
        ["boot", ...hosts.map((host) => host.label)],
        rows.map((row) => ({ head: named(row.name), cells: row.figures.map(count) })),
      ),
    ],
  });
}

export function primitives(data) {
  return section(
    "primitives",
    "Single operations and boots",
    paragraph("KVM as L0 runs in the same emulated machine, with the same L1 and L2."),
    primitivesFigure(data.bench?.primitives ?? {}),
    bootFigure(data.bench?.boot ?? {}),
  );
}
