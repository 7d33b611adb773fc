// Which exits there were, by reason and by who handled them.
import { absent, element, figure, figuresTable, folded, legend, paragraph, picture, section } from "./dom.js";
import { count, portion, quotient, sum } from "./numbers.js";
import * as Plot from "./plot.js";
import { labelOf } from "./series.js";

const handlers = [
  { name: "handled", label: "handled by L0", color: "var(--l0)" },
  { name: "reflected", label: "reflected to L1", color: "var(--l1)" },
];
const mostReasons = 10;
// Two configurations whose exits differ in less than this share of all are nearly the same.
const nearly = 0.1;

function sorted(reasons) {
  return Object.entries(reasons)
    .map(([reason, figures]) => ({ reason, ...figures, total: sum(handlers.map(({ name }) => figures[name] ?? 0)) }))
    .sort((one, other) => other.total - one.total || one.reason.localeCompare(other.reason));
}

function chart(rows) {
  const bars = rows.flatMap((row) =>
    handlers
      .map((handler) => ({ ...handler, reason: row.reason, exits: row[handler.name] ?? null }))
      .filter((bar) => bar.exits !== null),
  );
  return Plot.plot({
    height: 50 + 18 * rows.length,
    marginLeft: 230,
    marginRight: 70,
    x: { label: "exits", grid: true, tickFormat: "~s" },
    y: { domain: rows.map((row) => row.reason), label: null },
    marks: [
      Plot.barX(
        bars,
        Plot.stackX({
          y: "reason",
          x: "exits",
          fill: Plot.colored,
          insetTop: 2,
          insetBottom: 2,
          title: (bar) => `${bar.reason}, ${bar.label}: ${count(bar.exits)}`,
        }),
      ),
      Plot.text(rows, { y: "reason", x: "total", text: (row) => count(row.total), textAnchor: "start", dx: 5, fill: "var(--ink)" }),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
}

function ofMode(mode, reasons, latCtx) {
  const rows = sorted(reasons);
  const label = labelOf(mode, latCtx);
  const all = sum(rows.map((row) => row.total));
  const shown = rows.slice(0, mostReasons);
  const title = `Exits by reason, ${label}`;
  return figure(`exits-${mode.replaceAll(/[^A-Za-z0-9]/g, "-")}`, title, {
    lead: rows.length > mostReasons ? element("p", {}, `The chart has the ${mostReasons} most frequent of ${rows.length} reasons, the table all.`) : null,
    content: [
      legend(handlers),
      picture(chart(shown), title, "Bars by reason, each divided into exits that L0 handled and exits that it reflected to L1; the table has the same figures."),
      figuresTable(
        title,
        ["reason", "handled by L0", "reflected to L1", "of all exits"],
        rows.map((row) => ({
          head: row.reason,
          cells: [
            ...handlers.map(({ name }) => count(row[name])),
            portion(quotient(row.total, all)),
          ],
        })),
      ),
    ],
  });
}

const isReason = (tree) => handlers.some(({ name }) => typeof tree?.[name] === "number");

// The configurations in a tree of any depth: where a place's children are reasons, that place is one.
function configurations(tree, place = []) {
  const reasons = Object.entries(tree ?? {}).filter(([, child]) => isReason(child));
  if (reasons.length > 0) return [[place.join("."), Object.fromEntries(reasons)]];
  return Object.entries(tree ?? {})
    .filter(([, child]) => typeof child === "object")
    .flatMap(([name, child]) => configurations(child, [...place, name]));
}

// What share of one configuration's exits would have to be others to make it the other's.
function differenceOf(one, other) {
  const shareOf = (reasons) => {
    const all = sum(Object.values(reasons).flatMap((figures) => handlers.map(({ name }) => figures[name] ?? 0)));
    return (reason, name) => (all === 0 ? 0 : (reasons[reason]?.[name] ?? 0) / all);
  };
  const [ofOne, ofOther] = [shareOf(one), shareOf(other)];
  const names = [...new Set([...Object.keys(one), ...Object.keys(other)])];
  return sum(names.flatMap((reason) => handlers.map(({ name }) => Math.abs(ofOne(reason, name) - ofOther(reason, name))))) / 2;
}

// Each configuration's figure; closed where one like it is open.
function figuresOf(modes, latCtx) {
  const open = [];
  return modes.map(([mode, reasons]) => {
    const made = ofMode(mode, reasons, latCtx);
    const like = open.find(([, other]) => differenceOf(reasons, other) < nearly);
    if (!like) {
      open.push([mode, reasons]);
      return made;
    }
    return folded(`${labelOf(mode, latCtx)}: nearly the same as ${labelOf(like[0], latCtx)}`, made);
  });
}

export function exits(data) {
  const modes = configurations(data.bench?.exits);
  return section(
    "exits",
    "Exits: why, and who handled them",
    paragraph("An exit from L2 ends in L0. It handles what is its own affair and reflects to L1 what L1 asked to see."),
    modes.length === 0
      ? absent("Exits by reason", "./flatback bench --json FILE writes them.")
      : figuresOf(modes, data.bench?.lat_ctx),
  );
}
