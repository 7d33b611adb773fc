// The configurations that lat_ctx ran in: their names, their order, their colours.
import { quotient, sum } from "./numbers.js";

export const columns = ["2p/0K", "2p/16K", "2p/64K", "8p/16K", "8p/64K", "16p/16K", "16p/64K"];

const known = [
  { key: "bare", label: "bare Linux", color: "var(--bare)" },
  { key: "l1", label: "Linux as L1", color: "var(--l1)" },
  { key: "flatback.mapped", label: "L2, Flatback mapped", color: "var(--flatback-1)" },
  { key: "flatback.single", label: "L2, Flatback single", color: "var(--flatback-2)" },
  { key: "flatback.off", label: "L2, Flatback off", color: "var(--flatback-3)" },
  { key: "kvm.vpid", label: "L2, KVM nested VPID", color: "var(--kvm-1)" },
  { key: "kvm.novpid", label: "L2, KVM no nested VPID", color: "var(--kvm-2)" },
  { key: "flatback.mapped_ept0", label: "L2, Flatback mapped, L1 without EPT", color: "var(--flatback-1)" },
  { key: "kvm.vpid_ept0", label: "L2, KVM nested VPID, L1 without EPT", color: "var(--kvm-1)" },
];

function at(tree, key) {
  return key.split(".").reduce((place, name) => place?.[name], tree);
}

// Those that need not be there.
const extra = {
  "flatback.mapped_qemu": { label: "L2 by QEMU, Flatback mapped", color: "var(--flatback-4)" },
};

// The configurations that this page does not want, as the file has them.
function others(latCtx) {
  const made = [];
  for (const group of ["flatback", "kvm"]) {
    for (const mode of Object.keys(latCtx?.[group] ?? {})) {
      const key = `${group}.${mode}`;
      if (!known.some((each) => each.key === key)) {
        const plain = { label: `L2, ${group === "kvm" ? "KVM" : "Flatback"} ${mode}`, color: `var(--${group}-2)` };
        made.push({ key, ...(extra[key] ?? plain) });
      }
    }
  }
  return made;
}

// Every configuration that there is or should be; `figures` is null where it was not measured.
export function allSeries(latCtx) {
  return [...known, ...others(latCtx)].map((each) => ({
    ...each,
    withoutEpt: each.key.includes("ept0"),
    figures: at(latCtx, each.key) ?? null,
  }));
}

export function labelOf(key, latCtx) {
  return allSeries(latCtx).find((each) => each.key === key)?.label ?? key;
}

// The figure of one column, or null.
export function figureOf(series, column, name) {
  return series.figures?.[column]?.[name] ?? null;
}

// KVM's one counter leaves out the flushes that it makes for an INVVPID of L1's: it has them all only where L1 executes
// none. Otherwise it says how many there were at least, whatever name the file has for it.
function hasAllFlushes(series) {
  return !series.key.startsWith("kvm.") || series.key.includes("novpid");
}

function leastFlushes(series, column) {
  if (hasAllFlushes(series)) return null;
  return figureOf(series, column, "tlb_flushes_at_least") ?? figureOf(series, column, "tlb_flushes");
}

// Flushes of any tag. KVM's counter does not tell the tags apart, Flatback's do.
function anyFlushes(series, column) {
  if (!hasAllFlushes(series)) return null;
  const together = figureOf(series, column, "tlb_flushes");
  if (together !== null) return together;
  const [ofL2, ofL1] = ["l2_tag_flushes", "l1_tag_flushes"].map((name) => figureOf(series, column, name));
  return ofL2 === null || ofL1 === null ? null : ofL2 + ofL1;
}

// What is counted for each entry into L2: a name in the file, or a sum of several.
export const rates = [
  { label: "exits to L0", count: (series, column) => figureOf(series, column, "l0_exits") },
  { label: "flushes of L2’s tags", count: (series, column) => figureOf(series, column, "l2_tag_flushes") },
  { label: "flushes of L1’s tag", count: (series, column) => figureOf(series, column, "l1_tag_flushes") },
  { label: "flushes of any tag", count: anyFlushes },
];
export const [exitRate, l2FlushRate, , anyFlushRate] = rates;
// Where flushes of any tag were not all counted: so many there were at least.
export const leastFlushRate = { label: "flushes of any tag, at least", count: leastFlushes };

// Events per L2 entry over all columns in which both were counted, or null.
export function perL2Entry(series, rate) {
  const counted = columns
    .map((column) => ({ events: rate.count(series, column), entries: figureOf(series, column, "l2_entries") }))
    .filter(({ events, entries }) => events !== null && entries !== null);
  return counted.length === 0
    ? null
    : quotient(sum(counted.map(({ events }) => events)), sum(counted.map(({ entries }) => entries)));
}

// By how much a switch is longer than on bare Linux, as a share, or null.
export function overBare(series, bare, column) {
  const ratio = quotient(figureOf(series, column, "ticks"), figureOf(bare, column, "ticks"));
  return ratio === null ? null : ratio - 1;
}
