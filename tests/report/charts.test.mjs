// Every chart has the marks that its data call for; the expected numbers are counted in the fixtures.
import assert from "node:assert/strict";
import { test } from "node:test";
import { columns, everything, marksOf, readFixture, withReport } from "./browser.mjs";

const bench = readFixture("bench");
const trace = readFixture("trace");
const machine = readFixture("machine");

const configurations = [
  ["bare", bench.lat_ctx.bare],
  ["l1", bench.lat_ctx.l1],
  ...["flatback", "kvm"].flatMap((host) => Object.entries(bench.lat_ctx[host])),
];
const measured = (wanted, figure) =>
  configurations
    .filter(([name]) => wanted(name))
    .flatMap(([, figures]) => columns.filter((column) => typeof figures[column]?.[figure] === "number")).length;
const withoutEpt = (name) => name.includes("ept0");

for (const colorScheme of ["light", "dark"]) {
  test(`all charts have their marks, ${colorScheme}`, () =>
    withReport(
      everything,
      async (page) => {
        const marks = (id, mark) => marksOf(page, id, mark);

        assert.equal(await marks("ticks", "bar"), measured((name) => !withoutEpt(name), "ticks"));
        assert.equal(await marks("ticks-ept0", "bar"), measured(withoutEpt, "ticks"));

        // The patch's own seven shares, and two more where a mode with and one without were measured.
        assert.equal(await marks("shares", "dot"), 7 + 7 + 7);

        // L2's tags and L1's tag where they are told apart, any tag for every configuration that enters an L2.
        const ofFlatback = Object.keys(bench.lat_ctx.flatback).length;
        const ofKvm = Object.keys(bench.lat_ctx.kvm).length;
        assert.equal(await marks("flushes", "bar"), 3 * ofFlatback + ofKvm);

        const reasons = Object.values(bench.exits.flatback.mapped);
        assert.equal(await marks("exits-flatback-mapped", "bar"), 2 * reasons.length);

        const { flatback, kvm } = bench.primitives;
        assert.equal(await marks("operations", "dot"), Object.keys(flatback).length + Object.keys(kvm).length);
        assert.equal(await marks("operations", "link"), Object.keys(flatback).filter((name) => name in kvm).length);
        assert.equal(await marks("boot", "bar"), 4);

        // All that is counted is priced: every configuration but bare Linux, which has no counts.
        assert.equal(await marks("price-ranges", "bar"), 7 * (configurations.length - 1));

        assert.equal(await marks("model-columns", "bar"), 7 * 4);
        assert.equal(await marks("model-turns", "dot"), Object.keys(machine.l2s).length * 4);
        assert.equal(await marks("model-turns", "line"), 4);
      },
      { colorScheme },
    ));
}

test("the timeline has a bar from each event of the window to the next, and a mark for each flush", () =>
  withReport(everything, async (page) => {
    const bars = () => marksOf(page, "timeline-window", "bar");
    const flushes = () => marksOf(page, "timeline-window", "dot");
    const rows = () => page.locator("#timeline-window tbody tr").count();
    const isFlush = (event) => event.kind === "flush";

    const first = trace.events.slice(0, 40);
    assert.equal(await bars(), 39);
    assert.equal(await rows(), 40);
    assert.equal(await flushes(), first.filter(isFlush).length);

    await page.getByRole("button", { name: "Later" }).click();
    const second = trace.events.slice(40);
    assert.equal(await rows(), second.length);
    assert.equal(await flushes(), second.filter(isFlush).length);

    await page.getByRole("combobox", { name: "Events" }).selectOption("20");
    await page.getByRole("combobox", { name: "Spaced" }).selectOption("ticks");
    assert.equal(await rows(), 20);

    await page.getByRole("button", { name: "Next flush" }).click();
    const window = await page.locator("#timeline-window tbody").innerText();
    assert.match(window, /an invented reason/);
  }));

test("the tables have the figures of the files", () =>
  withReport(everything, async (page) => {
    const row = async (id, name) =>
      (await page.locator(`#${id} tbody tr`, { has: page.locator("th", { hasText: name }) }).first().locator("td").allInnerTexts());
    const grouped = (value) => value.toLocaleString("en-US");
    assert.deepEqual(
      await row("ticks", "L2, Flatback single"),
      columns.map((column) => grouped(bench.lat_ctx.flatback.single[column].ticks)),
    );
    assert.deepEqual(await row("seed", "nested VPID"), ["1.22", "1.37", "1.45", "4.78", "2.33", "5.60", "2.88"]);
    assert.deepEqual(await row("seed", "without"), ["1.26", "1.43", "1.56", "12.70", "12.90", "3.49", "7.46"]);
    // 2 flushes a switch with 2 entries into L2 a switch.
    assert.deepEqual(await row("flushes", "L2, Flatback off"), ["2", "1", "1", "2"]);
    assert.deepEqual(await row("flushes", "L2, KVM no nested VPID"), ["4", "not measured", "not measured", "2"]);
    assert.deepEqual(await row("operations", "L2 CPUID reflected"), ["1,000", "9,000", "9.0 ×"]);
  }));
