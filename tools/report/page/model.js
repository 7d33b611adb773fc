// What the software machine's model says of the ways to give out tags.
import { absent, beside, figure, figuresTable, legend, paragraph, picture, section } from "./dom.js";
import { count } from "./numbers.js";
import * as Plot from "./plot.js";
import { columns } from "./series.js";

const policies = [
  { name: "bare", label: "bare: no L0", color: "var(--bare)", symbol: "triangle" },
  { name: "mapped", label: "mapped: Flatback", color: "var(--flatback-1)", symbol: "circle" },
  { name: "single", label: "single: KVM 2015", color: "var(--kvm-1)", symbol: "square" },
  { name: "shared", label: "shared: before it", color: "var(--kvm-2)", symbol: "diamond" },
];

function points(tree, places) {
  return places.flatMap((place) =>
    policies
      .map((policy) => ({ ...policy, place, misses: tree[place]?.[policy.name]?.misses ?? null }))
      .filter((point) => point.misses !== null),
  );
}

const said = (point) => `${point.place}, ${point.label}: ${count(point.misses)} misses`;

function missesTable(caption, tree, places, first) {
  return figuresTable(
    caption,
    [first, ...policies.map((policy) => policy.label)],
    places.map((place) => ({ head: place, cells: policies.map((policy) => count(tree[place]?.[policy.name]?.misses)) })),
  );
}

function columnsFigure(tree) {
  const title = "TLB misses per context switch, one L2";
  const bars = points(tree, columns);
  const svg = Plot.plot({
    width: Plot.half,
    height: 250,
    marginRight: 10,
    fx: { domain: columns, label: null, padding: 0.15 },
    x: { domain: policies.map((policy) => policy.label), axis: null },
    y: { label: "misses", grid: true },
    marks: [
      Plot.barY(bars, { fx: "place", x: "label", y: "misses", fill: Plot.colored, title: said }),
      Plot.ruleY([0], { stroke: "var(--ink)" }),
    ],
  });
  return figure("model-columns", title, {
    content: [
      legend(policies),
      picture(svg, title, "Bars by column, one a policy; the table has the same figures."),
      missesTable(title, tree, columns, "column"),
    ],
  });
}

function turnsFigure(tree) {
  const title = "TLB misses per context switch, several L2s taking turns";
  const places = Object.keys(tree).sort((one, other) => Number(one) - Number(other));
  const dots = points(tree, places);
  const svg = Plot.plot({
    width: Plot.half,
    height: 250,
    marginRight: 24,
    x: { type: "point", domain: places, label: "L2s on one virtual CPU of L1" },
    y: { label: "misses", grid: true, domain: [0, Math.max(1, ...dots.map((dot) => dot.misses)) * 1.08] },
    marks: [
      Plot.lineY(dots, { x: "place", y: "misses", z: "name", stroke: Plot.colored, strokeWidth: 2 }),
      Plot.dot(dots, { x: "place", y: "misses", symbol: "symbol", fill: Plot.colored, r: 5, title: said }),
    ],
  });
  return figure("model-turns", title, {
    content: [
      legend(policies),
      picture(svg, title, "A line a policy over the number of L2s; the table has the same figures."),
      missesTable(title, tree, places, "L2s"),
    ],
  });
}

export function model(data) {
  const intro = paragraph(
    "A model, not a run: the benchmark’s accesses on the software machine’s TLB with the sets and ways of a named processor, for four ways to give out tags.",
  );
  const { machine } = data;
  return section(
    "model",
    "Several L2s: what a tag each saves",
    intro,
    machine
      ? [
          beside(
            machine.l2s ? turnsFigure(machine.l2s) : absent("Misses by number of L2s", ""),
            machine.columns ? columnsFigure(machine.columns) : absent("Misses by column", ""),
          ),
        ]
      : absent("Misses by policy", "./flatback machine lat_ctx --json FILE writes them; give that file with --machine."),
  );
}
