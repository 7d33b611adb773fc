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
  { key: "flatback.mapped_ept0", label: "L2, Flatback mapped, L1 ept=0", color: "var(--flatback-1)" },
  { key: "kvm.vpid_ept0", label: "L2, KVM nested VPID, L1 ept=0", color: "var(--kvm-1)" },
];

function at(tree, key) {
  return key.split(".").reduce((place, name) => place?.[name], tree);
}

// The configurations that this page does not know by name, as the file has them.
function others(latCtx) {
  const made = [];
  for (const group of ["flatback", "kvm"]) {
    for (const mode of Object.keys(latCtx?.[group] ?? {})) {
      const key = `${group}.${mode}`;
      if (!known.some((each) => each.key === key)) {
        made.push({ key, label: `L2, ${group === "kvm" ? "KVM" : "Flatback"} ${mode}`, color: `var(--${group}-2)` });
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

// Events per L2 entry over all columns in which both were counted, or null.
export function perL2Entry(series, name) {
  const both = columns.filter(
    (column) => figureOf(series, column, name) !== null && figureOf(series, column, "l2_entries") !== null,
  );
  const total = (wanted) => sum(both.map((column) => figureOf(series, column, wanted)));
  return both.length === 0 ? null : quotient(total(name), total("l2_entries"));
}

// By how much a switch is longer than on bare Linux, as a share, or null.
export function overBare(series, bare, column) {
  const ratio = quotient(figureOf(series, column, "ticks"), figureOf(bare, column, "ticks"));
  return ratio === null ? null : ratio - 1;
}
