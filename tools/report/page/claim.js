// The seed's claim and ours: how long a switch takes with nested VPID, as a share of the time without.
import { figure, paragraph, section, table } from "./dom.js";
import { quotient } from "./numbers.js";
import { seed, seedSource } from "./seed.js";
import { allSeries, columns, figureOf } from "./series.js";

const sources = [
  { label: "the patch: with over without" },
  { label: "Flatback: mapped over off, in ticks" },
  { label: "KVM: nested VPID over none, in ticks" },
];

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

export function claim(data) {
  const rows = shares(data.bench?.lat_ctx);
  const cells = (of) => rows.map((row) => of(row)?.toFixed(2));
  return section(
    "claim",
    "The patch of 2015, and the same switch here",
    paragraph(
      "Nested VPID came to KVM with a table: lmbench’s context switches in an L2, in microseconds, shorter with it in six of seven columns. ",
      "In this emulator a flush costs nothing, so that a share near 1.00 is what must be seen in ticks: the gain is in the flushes above, in the misses of the model, and priced below.",
    ),
    figure("seed", "With nested VPID and without", {
      content: [
        table(`Source of the patch’s figures: ${seedSource}`, ["a context switch in an L2", ...columns], [
          { head: "the patch: nested VPID, µs", cells: seed.map((each) => each.withNestedVpid.toFixed(2)) },
          { head: "the patch: without (“vanilla”), µs", cells: seed.map((each) => each.without.toFixed(2)) },
          ...sources.map((source, index) => ({ head: source.label, cells: cells((row) => row.shares[index]) })),
        ]),
      ],
    }),
  );
}
