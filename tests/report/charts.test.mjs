// Every chart has the marks that its data call for; the expected numbers are counted in the fixtures.
import assert from "node:assert/strict";
import { test } from "node:test";
import { columns, everything, marksOf, readFixture, withReport } from "./browser.mjs";

const bench = readFixture("bench");
const trace = readFixture("trace");
const machine = readFixture("machine");
const watch = readFixture("watch");
const runs = [readFixture("conform"), readFixture("other-conform")];

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

        // Like beside like: the two that give L1 its VPIDs.
        assert.equal(await marks("ticks", "bar"), measured((name) => ["mapped", "vpid"].includes(name), "ticks"));
        assert.equal(await marks("ticks-ept0", "bar"), measured(withoutEpt, "ticks"));

        // L2's tags, L1's tag and any tag where they are told apart; and of KVM any tag, where all were counted.
        const ofFlatback = Object.keys(bench.lat_ctx.flatback).length;
        assert.equal(await marks("flush-rates", "bar"), 3 * ofFlatback + 1);

        const reasons = Object.values(bench.exits.flatback.mapped);
        assert.equal(await marks("exits-flatback-mapped", "bar"), 2 * reasons.length);

        const { flatback, kvm } = bench.primitives;
        // Those that both have: the rest is in the table.
        const both = Object.keys(flatback).filter((name) => name in kvm).length;
        assert.equal(await marks("operations", "dot"), 2 * both);
        assert.equal(await marks("operations", "link"), both);
        assert.equal(await marks("boot", "bar"), 4);

        // What is counted whole is priced: not bare Linux and L1, whose flushes the file does not have, nor KVM where its
        // counter leaves flushes out.
        const priced = configurations.filter(([name]) => !["bare", "l1", "vpid", "vpid_ept0"].includes(name));
        assert.equal(await marks("price-ranges", "bar"), 7 * priced.length);

        assert.equal(await marks("model-columns", "bar"), 7 * 4);
        assert.equal(await marks("model-turns", "dot"), Object.keys(machine.l2s).length * 4);
        assert.equal(await marks("model-turns", "line"), 4);

        // A bar for each level of each mode, and a mark for each of the three whose whole phase is known.
        assert.equal(await marks("watched-misses", "bar"), 3 * Object.keys(watch.modes).length);
        assert.equal(await marks("watched-misses", "tick"), 3);
        // A bar for each outcome that a run has.
        const kinds = runs.map(({ results }) => new Set(results.map(({ outcome }) => outcome)).size);
        assert.equal(await marks("conformance-results", "bar"), kinds[0] + kinds[1]);
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

    // It opens at the first flush, with four events before it.
    const start = trace.events.findIndex(isFlush) - 4;
    assert.ok(start > 0);
    const first = trace.events.slice(start, start + 40);
    assert.equal(await bars(), first.length - 1);
    assert.equal(await rows(), first.length);
    assert.equal(await flushes(), first.filter(isFlush).length);

    await page.getByRole("button", { name: "Later" }).click();
    const second = trace.events.slice(start + 40);
    assert.equal(await rows(), second.length);
    assert.equal(await flushes(), second.filter(isFlush).length);

    await page.getByRole("combobox", { name: "Events" }).selectOption("20");
    await page.getByRole("combobox", { name: "Spaced" }).selectOption("ticks");
    assert.equal(await rows(), Math.min(20, second.length));

    await page.getByRole("button", { name: "Next flush" }).click();
    const window = await page.locator("#timeline-window tbody").textContent();
    assert.match(window, /an invented reason/);
  }));

test("the tables have the figures of the files", () =>
  withReport(everything, async (page) => {
    const row = async (id, name) =>
      (await page.locator(`#${id} tbody tr`, { has: page.locator("th", { hasText: name }) }).first().locator("td").allTextContents());
    const grouped = (value) => value.toLocaleString("en-US");
    assert.deepEqual(
      await row("ticks", "L2, Flatback single"),
      columns.map((column) => grouped(bench.lat_ctx.flatback.single[column].ticks)),
    );
    assert.deepEqual(await row("seed", "the patch: nested VPID"), ["1.22", "1.37", "1.45", "4.78", "2.33", "5.60", "2.88"]);
    assert.deepEqual(await row("seed", "the patch: without"), ["1.26", "1.43", "1.56", "12.70", "12.90", "3.49", "7.46"]);
    // 2 flushes a switch with 2 entries into L2 a switch.
    assert.deepEqual(await row("flushes", "L2, Flatback off"), ["2", "1", "1", "2"]);
    assert.deepEqual(await row("flushes", "L2, KVM no nested VPID"), ["4", "not measured", "not measured", "2"]);
    // A counter that leaves flushes out says the least that there were, and never that there were none.
    assert.equal((await row("flushes", "L2, KVM nested VPID, L1 without EPT"))[3], "not measured");
    assert.deepEqual(await row("operations", "L2: CPUID to L1 and back"), ["1,000", "9,000", "9.0 ×"]);
    assert.deepEqual(await row("price-ranges", "L2, KVM nested VPID, L1 without EPT"), Array(7).fill("not measured"));
  }));

test("the page leads with what windows of a real run showed", () =>
  withReport(everything, async (page) => {
    assert.equal(
      await page.locator("h1").innerText(),
      "An entry into L2 misses the TLB 11.0 times, where it misses 100.0 without nested VPID, and no access could have met a stale translation.",
    );
    assert.equal(await page.locator(".findings dd").first().innerText(), "11.0");
    assert.equal(await page.locator("section").first().getAttribute("id"), "watched");
    const row = async (name) =>
      (await page.locator("#watched tbody tr", { has: page.locator("th", { hasText: name }) }).first().locator("td").allTextContents());
    // In the page's order, whatever the file's.
    assert.deepEqual(await row("misses for each entry into L2"), ["11.0", "12.0", "100.0"]);
    assert.deepEqual(await row("counted inside the emulator"), ["12.2", "12.9", "103.6"]);
    assert.deepEqual(await row("misses for each context switch"), ["1.1", "1.2", "10.0"]);
    assert.deepEqual(await row("tag handed out"), ["5"]);
    assert.deepEqual(await row("recorded and not executed"), ["0"]);
  }));

test("a hypervisor's failures are named with their rule, and its costs stand beside another's", () =>
  withReport(everything, async (page) => {
    const row = async (name) =>
      (await page.locator("#conformance tbody tr", { has: page.locator("th", { hasText: name }) }).last().locator("td").allTextContents());
    assert.deepEqual(await row("vmlaunch-invented"), ["3C 27.2", "a control", "VMfailValid 7", "VMsucceed"]);
    assert.deepEqual(await row("stale-linear-invented"), ["3C 29.4.3.1", "INVVPID <single-context> & more (row 3 of the ledger)", "the new value", "the old value"]);
    assert.deepEqual(await row("probes for stale"), ["1 passed", "0 passed, 1 failed"]);
    assert.deepEqual(await row("l2 cpuid reflected"), ["1,080", "13,600"]);
    assert.deepEqual(await row("vmread"), ["3", "not measured"]);
    const chapters = await page.locator("#conformance-results table").first().locator("tbody th").allTextContents();
    assert.deepEqual(chapters.slice(0, 5), ["3C 9", "3C 25", "3C 27", "3C 29", "no section of the SDM"]);
    assert.match(await page.locator("#conformance .absent").innerText(), /another hypervisor's.iso did not come to its end: the time is up/);
  }));

test("what is nearly the same as another is closed, and open on paper", () =>
  withReport({ bench: "similar-bench" }, async (page) => {
    const details = (id) => page.locator("#exits > details", { has: page.locator(`#${id}`) });
    assert.equal(await details("exits-flatback-mapped").count(), 0);
    assert.equal(await details("exits-flatback-single").count(), 1);
    assert.equal(await details("exits-flatback-off").count(), 0);
    assert.match(await details("exits-flatback-single").locator("summary").first().innerText(), /nearly the same as L2, Flatback mapped/);
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    assert.equal(await page.locator("details:not([open])").count(), 0);
  }));

test("a label at the right edge is inside its picture", () =>
  withReport(everything, async (page) => {
    const outside = await page.locator(".chart svg").evaluateAll((all) =>
      all.flatMap((svg) => {
        const { right } = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].filter((text) => text.getBoundingClientRect().right > right + 1).map((text) => text.textContent);
      }),
    );
    assert.deepEqual(outside, []);
  }));
