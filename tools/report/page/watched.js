// Windows of a real run on tagged TLBs: what an entry into L2 misses, by the level that ran.
import { absent, element, figure, figuresTable, folded, legend, paragraph, picture, section, table } from "./dom.js";
import { count, sum } from "./numbers.js";
import * as Plot from "./plot.js";

const known = [
  { key: "mapped", label: "mapped: each of L1’s VPIDs a tag" },
  { key: "single", label: "single: one tag for all L2s" },
  { key: "off", label: "off: no nested VPID" },
  { key: "ept0", label: "mapped, L1 without EPT" },
];

const levels = [
  { key: "l0", label: "while L0 ran", color: "var(--l0)" },
  { key: "l1", label: "while L1 ran", color: "var(--l1)" },
  { key: "l2", label: "while L2 ran", color: "var(--l2)" },
];

// Of the whole phase, counted by a checker inside another build of the emulator: Linux, Skylake’s second-level TLB.
const wholePhase = { mapped: 12.2, single: 12.9, off: 103.6 };

function modesOf(watch) {
  const given = Object.keys(watch.modes);
  const first = known.filter(({ key }) => given.includes(key));
  const others = given.filter((key) => !known.some((each) => each.key === key)).map((key) => ({ key, label: key }));
  return [...first, ...others].map((mode) => ({ ...mode, counted: watch.modes[mode.key] }));
}

// Of all levels, or null where one of them was not counted.
export function missesPerEntry(counted) {
  const parts = levels.map(({ key }) => counted?.misses_per_l2_entry?.[key] ?? null);
  return parts.includes(null) ? null : sum(parts);
}

const tenths = (value) => (value === null || value === undefined ? null : value.toFixed(1));

const references = (watch) => (watch.guest === "linux" && watch.tlb === "skylake-x" ? wholePhase : {});

function chart(watch, modes) {
  const bars = modes.flatMap((mode) =>
    levels
      .map((level) => ({ ...level, mode: mode.label, misses: mode.counted.misses_per_l2_entry?.[level.key] ?? null }))
      .filter((bar) => bar.misses !== null),
  );
  // Behind the bar, and behind the mark where that is further.
  const totals = modes
    .map((mode) => ({ mode: mode.label, misses: missesPerEntry(mode.counted), mark: references(watch)[mode.key] ?? 0 }))
    .filter((each) => each.misses !== null);
  const marks = modes
    .filter((mode) => references(watch)[mode.key])
    .map((mode) => ({ mode: mode.label, misses: references(watch)[mode.key] }));
  return Plot.plot({
    height: 60 + 46 * modes.length,
    marginLeft: 220,
    marginRight: 60,
    x: { label: "misses for each entry into L2", grid: true, nice: true },
    y: { domain: modes.map((mode) => mode.label), label: null },
    marks: [
      Plot.barX(bars, Plot.stackX({ y: "mode", x: "misses", z: "key", fill: Plot.colored, insetTop: 4, insetBottom: 4, title: (bar) => `${bar.mode}, ${bar.label}: ${tenths(bar.misses)} misses` })),
      Plot.text(totals, { y: "mode", x: (each) => Math.max(each.misses, each.mark), text: (each) => tenths(each.misses), textAnchor: "start", dx: 6, fontWeight: 650, fill: "var(--ink)" }),
      Plot.tickX(marks, { y: "mode", x: "misses", stroke: "var(--ink)", strokeWidth: 2, strokeDasharray: "3 2", title: (mark) => `${mark.mode}: ${mark.misses} over the whole phase, counted inside the emulator` }),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
}

function rowsOf(modes, watch) {
  const cells = (read) => modes.map(({ counted }) => count(read(counted)));
  const rates = (read) => modes.map(({ counted, key }) => tenths(read(counted, key)));
  return [
    { head: "misses for each entry into L2", cells: rates((counted) => missesPerEntry(counted)) },
    ...levels.map(({ key, label }) => ({ head: label, class: "sub", cells: rates((counted) => counted.misses_per_l2_entry?.[key]) })),
    ...(Object.keys(references(watch)).length === 0 ? [] : [{ head: "over the whole phase, counted inside the emulator", class: "sub", cells: rates((_, key) => references(watch)[key]) }]),
    {
      head: "misses for each context switch in L2",
      cells: rates((counted) => {
        const parts = levels.map(({ key }) => counted.misses_per_l2_context_switch?.[key] ?? null);
        return parts.includes(null) ? null : sum(parts);
      }),
    },
    { head: "references of page walks for each entry", cells: rates((counted) => counted.walk_references_per_l2_entry) },
    { head: "accesses that could have met a stale translation", cells: cells((counted) => counted.stale) },
    { head: "accesses that the structures seen do not explain", cells: cells((counted) => counted.unexplained) },
    { head: "windows", cells: cells((counted) => counted.windows) },
    { head: "instructions in them", cells: cells((counted) => counted.instructions) },
    { head: "entries into L2 that were counted", cells: cells((counted) => counted.l2_entries) },
    { head: "entries into L2 that they stand for", cells: cells((counted) => (counted.phase?.l2_entries == null ? null : Math.round(counted.phase.l2_entries))) },
  ];
}

// What L0 said of its flushes, where it was asked to record them.
function causes(modes) {
  const traced = modes.filter(({ counted }) => counted.l0_trace);
  if (traced.length === 0) return null;
  const names = [...new Set(traced.flatMap(({ counted }) => Object.keys(counted.l0_trace.causes ?? {})))].sort();
  const cells = (read) => traced.map(({ counted }) => count(read(counted.l0_trace) ?? 0));
  return folded(
    "Flushes by L0’s own trace, beside what the processor executed",
    table(
      "Flushes in the windows, by cause",
      ["", ...traced.map(({ label }) => label)],
      [
        { head: "recorded by L0", cells: cells((trace) => trace.flushes) },
        ...names.map((name) => ({ head: name, class: "sub", cells: cells((trace) => trace.causes?.[name]) })),
        { head: "recorded and not executed", cells: cells((trace) => trace.not_executed) },
        { head: "executed otherwise than recorded", cells: cells((trace) => trace.executed_otherwise) },
        { head: "executed and not recorded", cells: cells((trace) => trace.not_recorded) },
      ],
    ),
  );
}

const guests = {
  linux: "Debian’s Linux as L1 and L2, in lat_ctx",
  boot: "Debian’s Linux as L1, and as L2 while it boots",
  bare: "two L2s in turn on a bare L1",
  probes: "a bare L1 that looks for stale translations",
  file: "a kept text of the emulator’s",
};

export function watched(data) {
  const { watch } = data;
  const modes = modesOf(watch);
  const title = "TLB misses for each entry into L2";
  const withMarks = modes.some((mode) => references(watch)[mode.key]);
  return section(
    "watched",
    "On tagged TLBs: what an entry into L2 costs",
    paragraph(
      `Windows of a real run (${guests[watch.guest] ?? "of a guest that the file does not name"}), access by access as the emulator’s debugger printed it, on two TLBs with tags: `,
      `one with the sets and ways of ${watch.tlb ? `a ${watch.tlb}` : "a named processor"} counts misses, one that forgets nothing says whether any access could have met a stale translation.`,
    ),
    modes.length === 0
      ? absent(title, "./flatback watch --json FILE writes them.")
      : figure("watched-misses", title, {
          lead: withMarks ? element("p", {}, "The dashed marks are the whole phase, counted by a checker inside another build of the emulator.") : null,
          content: [
            legend(levels),
            picture(chart(watch, modes), title, "A bar for each way to give out tags, by the level that ran; the table has the same figures."),
            figuresTable(title, ["", ...modes.map(({ label }) => label)], rowsOf(modes, watch)),
            causes(modes),
          ].filter((each) => each !== null),
        }),
  );
}

// For the headline; null where the file has no mode that was counted.
export function watchedFinding(data) {
  const { modes } = data.watch;
  const [mapped, off] = ["mapped", "off"].map((key) => missesPerEntry(modes[key]));
  const all = Object.values(modes);
  const stale = sum(all.map((counted) => counted.stale ?? 0));
  return {
    figure: tenths(mapped),
    off: tenths(off),
    stale,
    text: "TLB misses for each entry into L2, with Flatback’s map of tags, on a tagged TLB",
    beside: [off === null ? null : `without nested VPID: ${tenths(off)}`, all.length === 0 ? null : `accesses that could have met a stale translation: ${count(stale)}`]
      .filter((each) => each !== null)
      .join("; ") || null,
  };
}
