// What the page says first: the findings that the given files carry, in words and one number each.
import { element, notMeasured } from "./dom.js";
import { count, percent, quotient, range, times } from "./numbers.js";
import { watchedFinding } from "./watched.js";
import { allSeries, anyFlushRate, columns, exitRate, l2FlushRate, overBare, perL2Entry } from "./series.js";

const writtenColumn = "8p/16K"; // the one in which the patch of 2015 gained most in microseconds

function found(data) {
  const series = allSeries(data.bench?.lat_ctx);
  return (key) => series.find((each) => each.key === key);
}

function flushes(of) {
  const ours = perL2Entry(of("flatback.mapped"), l2FlushRate);
  const off = perL2Entry(of("kvm.novpid"), anyFlushRate);
  return {
    figure: count(ours),
    text: "flushes of an L2’s tag for each entry into L2, with Flatback’s map of tags",
    beside: off === null ? null : `KVM without nested VPID, flushes of any tag: ${count(off)}`,
  };
}

function overhead(of) {
  const shares = columns
    .map((column) => overBare(of("flatback.mapped"), of("bare"), column))
    .filter((share) => share !== null);
  const worst = shares.length === 0 ? null : Math.max(...shares);
  const peer = columns.map((column) => overBare(of("kvm.vpid"), of("bare"), column)).filter((share) => share !== null);
  return {
    worst,
    figure: percent(worst),
    text: shares.length === 0
      ? "instructions for a context switch in L2, over bare Linux"
      : `instructions for a context switch in L2 over bare Linux, in the worst of ${shares.length} columns`,
    beside: peer.length === 0 ? null : `KVM as L0: ${percent(Math.max(...peer))}`,
  };
}

function exitsPerEntry(of) {
  const ours = perL2Entry(of("flatback.mapped"), exitRate);
  const peer = perL2Entry(of("kvm.vpid"), exitRate);
  return {
    figure: count(ours),
    text: "exits to L0 for each entry into L2",
    beside: peer === null ? null : `KVM as L0: ${count(peer)}`,
  };
}

function path(data) {
  const name = "l2_cpuid_reflected";
  const ours = data.bench?.primitives?.flatback?.[name];
  const peer = data.bench?.primitives?.kvm?.[name];
  const ratio = quotient(peer, ours);
  return {
    figure: ratio === null ? count(ours) : times(ratio),
    text: ratio === null
      ? "instructions for an L2’s CPUID that L1 handles"
      : "the instructions for an L2’s CPUID to L1 and back: KVM’s way against Flatback’s",
    beside: ratio === null ? null : `${count(ours)} instructions against ${count(peer)}`,
  };
}

function unpriced(data) {
  const priced = data.price?.lat_ctx?.flatback?.mapped?.[writtenColumn]?.total;
  return {
    figure: priced ? range(priced) : null,
    text: `cycles a switch (${writtenColumn}) that the emulator does not charge for${data.price ? `, on ${data.price.processor.replaceAll("-", "\u2011")}` : ""}`,
    beside: priced ? "priced from counts, a range" : null,
  };
}

// The finding that leads where there is one: a real run on a tagged TLB.
function watchedSentence(finding) {
  if (finding.figure === null) return null;
  const met = finding.stale === 0 ? "no access could have met a stale translation" : `${count(finding.stale)} accesses could have met a stale translation`;
  const off = finding.off === null ? "" : `, where it misses ${finding.off} without nested VPID`;
  return `An entry into L2 misses the TLB ${finding.figure} times${off}, and ${met}.`;
}

function sentence(flush, over) {
  const switches = over.figure === null
    ? null
    : `a context switch in L2 takes ${over.worst > 0 ? `at most ${over.figure.replace("+", "")}` : "no"} more instructions than on bare Linux`;
  if (flush.figure === "0") {
    return switches === null
      ? "Switching between L1 and L2 flushes nothing of L2’s."
      : `Switching between L1 and L2 flushes nothing of L2’s, and ${switches}.`;
  }
  if (switches !== null) return `${switches[0].toUpperCase()}${switches.slice(1)}.`;
  if (flush.figure !== null) return `${flush.figure} flushes of L2’s tags for each entry into L2.`;
  return "The files given to this report hold no run of the benchmark.";
}

export function headline(data) {
  const of = found(data);
  const leads = data.watch === null ? null : watchedFinding(data);
  const [flush, over] = [flushes(of), overhead(of)];
  const findings = [leads, flush, over, exitsPerEntry(of), path(data), unpriced(data)].filter((each) => each !== null);
  const files = Object.entries(data.sources)
    .filter(([, name]) => name)
    .map(([kind, name]) => `${kind}: ${name}`);
  return element(
    "header",
    {},
    element("p", { class: "kicker" }, "Flatback · nested VT-x with every guest hypervisor’s VPIDs on real TLB tags"),
    element("h1", {}, (leads && watchedSentence(leads)) ?? sentence(flush, over)),
    element(
      "dl",
      { class: "findings" },
      findings.map((finding) =>
        element(
          "div",
          {},
          element("dt", {}, finding.text),
          element("dd", { class: finding.figure === null ? "missing" : null }, finding.figure ?? notMeasured),
          finding.beside ? element("dd", { class: "beside" }, finding.beside) : null,
        ),
      ),
    ),
    element(
      "p",
      { class: "words" },
      "L0 is the hypervisor on the machine, L1 a guest hypervisor (Linux with KVM), L2 its guest. A tick is one instruction that the emulated processor executes. ",
      `Made from ${files.length === 0 ? "no file" : files.join(", ")}.`,
    ),
  );
}
