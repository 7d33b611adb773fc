// Which rules of the SDM a hypervisor's nested VT-x keeps, and what its operations cost; a run a hypervisor.
import { element, figure, figuresTable, folded, legend, paragraph, picture, section, table } from "./dom.js";
import { count } from "./numbers.js";
import * as Plot from "./plot.js";

const outcomes = [
  { key: "passed", label: "passed", color: "var(--flatback-1)" },
  { key: "failed", label: "failed", color: "var(--flush)" },
  { key: "not_offered", label: "not offered", color: "var(--line)" },
  { key: "platform_fault", label: "the emulator’s fault", color: "var(--bare)" },
];

const isProbe = (result) => result.name.startsWith("stale");

// Two runs may be of the same hypervisor in other modes.
function named(runs) {
  return runs.map((run, index) => {
    const before = runs.slice(0, index).filter((other) => other.under === run.under).length;
    return { ...run, label: before === 0 ? run.under : `${run.under} (${before + 1})` };
  });
}

function tally(results) {
  return outcomes.map(({ key }) => results.filter((result) => result.outcome === key).length);
}

// "3C 27.2.1.1" is of chapter 27 of volume 3C.
function chapterOf(result) {
  const [, chapter] = /^(\S+ \d+)/.exec(result.section ?? "") ?? [];
  return chapter ?? "no section of the SDM";
}

function numbersIn(text) {
  return (text.match(/\d+/g) ?? ["9999"]).map(Number);
}

function byChapter(one, other) {
  const [mine, its] = [numbersIn(one), numbersIn(other)];
  for (let place = 0; place < Math.max(mine.length, its.length); place++) {
    const difference = (mine[place] ?? 0) - (its[place] ?? 0);
    if (difference !== 0) return difference;
  }
  return one < other ? -1 : 1;
}

function chart(runs) {
  const bars = runs.flatMap((run) => {
    const counts = tally(run.results);
    return outcomes.map((outcome, index) => ({ ...outcome, run: run.label, results: counts[index] })).filter((bar) => bar.results > 0);
  });
  return Plot.plot({
    height: 60 + 40 * runs.length,
    marginLeft: 160,
    marginRight: 40,
    x: { label: "results", grid: true },
    y: { domain: runs.map((run) => run.label), label: null },
    marks: [
      Plot.barX(bars, Plot.stackX({ y: "run", x: "results", z: "key", fill: Plot.colored, insetTop: 4, insetBottom: 4, title: (bar) => `${bar.run}: ${count(bar.results)} ${bar.label}` })),
      Plot.ruleX([0], { stroke: "var(--ink)" }),
    ],
  });
}

function chapters(runs) {
  const all = [...new Set(runs.flatMap((run) => run.results.map(chapterOf)))].sort(byChapter);
  const write = (results) => {
    if (results.length === 0) return null;
    const [passed, failed, notOffered, platform] = tally(results);
    return [
      `${count(passed)} passed`,
      failed > 0 ? `${count(failed)} failed` : null,
      notOffered > 0 ? `${count(notOffered)} not offered` : null,
      platform > 0 ? `${count(platform)} the emulator’s` : null,
    ]
      .filter((part) => part !== null)
      .join(", ");
  };
  return [
    ...all.map((chapter) => ({ head: chapter, cells: runs.map((run) => write(run.results.filter((result) => chapterOf(result) === chapter))) })),
    { head: "of these, probes for stale translations", cells: runs.map((run) => write(run.results.filter(isProbe))) },
    { head: "all", cells: runs.map((run) => write(run.results)) },
  ];
}

function failures(run) {
  const failed = run.results.filter((result) => result.outcome === "failed");
  if (failed.length === 0) return null;
  const made = table(
    `Failed under ${run.label}`,
    ["check", "SDM", "rule", "expected", "seen"],
    failed.map((result) => ({
      head: result.name,
      cells: [result.section ?? "–", [result.rule ?? "–", result.ledger_row ? ` (row ${result.ledger_row} of the ledger)` : ""].join(""), result.expected ?? "–", result.seen ?? "–"],
    })),
  );
  made.classList.add("words-in-cells");
  return folded(`${count(failed.length)} failed under ${run.label}`, made);
}

function costs(runs) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.costs ?? {})))].sort();
  if (names.length === 0) return null;
  return folded(
    "What the operations cost",
    table(
      "Cost of one operation, the mean of many",
      ["operation", ...runs.map((run) => `${run.label}, ${run.unit ?? "ticks"}`)],
      names.map((name) => ({ head: name.replaceAll("_", " "), cells: runs.map((run) => count(run.costs?.[name] ?? null)) })),
    ),
  );
}

export function conformance(data) {
  const runs = named(data.conform);
  const title = "Results by hypervisor";
  const cut = runs.filter((run) => run.incomplete);
  return section(
    "conformance",
    "The rules of the SDM, hypervisor by hypervisor",
    paragraph("A bare L1 that knows nothing of what is beneath it checks nested VT-x by section of the SDM, looks for stale translations, and times each operation. What the capability MSRs do not offer is no failure."),
    ...cut.map((run) => element("p", { class: "absent" }, element("strong", {}, `${run.label} did not come to its end:`), ` ${run.incomplete}`)),
    figure("conformance-results", title, {
      content: [
        legend(outcomes),
        picture(chart(runs), title, "A bar a hypervisor, by outcome; the table has the same figures by chapter."),
        figuresTable("Results by chapter of the SDM", ["chapter", ...runs.map((run) => run.label)], chapters(runs)),
        ...runs.map(failures),
        costs(runs),
      ].filter((each) => each !== null),
    }),
  );
}
