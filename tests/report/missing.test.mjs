// What is not in the files is said in words, and drawn as nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { countOf, marksOf, withReport } from "./browser.mjs";

const chartsOf = (page) => countOf(page, "figure .chart svg");

test("a bench with one figure draws that one and says what is not measured", () =>
  withReport({ bench: "partial-bench" }, async (page) => {
    // There is nothing to compare with: no chart, and the one figure in the table.
    assert.equal(await marksOf(page, "ticks", "bar"), 0);
    const cells = await page.locator("#ticks tbody tr", { hasText: "L2, Flatback mapped" }).first().locator("td").allTextContents();
    assert.equal(cells[0], "1,234");
    assert.deepEqual(cells.slice(1), Array(6).fill("not measured"));
    for (const section of ["exits", "timeline", "primitives", "price", "model"]) {
      assert.match(await page.locator(`#${section}`).innerText(), /not measured/, section);
      assert.equal(await countOf(page, `#${section} svg`), 0, section);
    }
    assert.match(await page.locator("#price").innerText(), /no exits and no flushes are counted/);
  }));

test("a trace alone is shown alone", () =>
  withReport({ trace: "trace" }, async (page) => {
    // The timeline.
    assert.equal(await chartsOf(page), 1);
    assert.match(await page.locator("h1").innerText(), /no run of the benchmark/);
    assert.equal(await countOf(page, "header dd.missing"), 5);
  }));

test("windows in which nothing was counted have no bar", () =>
  withReport({ watch: "empty-watch" }, async (page) => {
    assert.equal(await marksOf(page, "watched-misses", "bar"), 0);
    assert.equal(await countOf(page, "header dd.missing"), 6);
    const cells = await page.locator("#watched tbody tr").first().locator("td").allTextContents();
    assert.deepEqual(cells, ["not measured"]);
  }));

test("results alone are shown alone", () =>
  withReport({ conform: "conform" }, async (page) => {
    assert.equal(await chartsOf(page), 1);
    assert.equal(await countOf(page, "#watched"), 0);
    assert.equal(await countOf(page, "#conformance .absent"), 0);
  }));

test("the machine's model alone is shown alone", () =>
  withReport({ machine: "machine" }, async (page) => {
    assert.equal(await chartsOf(page), 2);
    assert.match(await page.locator("#timeline").innerText(), /not measured/);
  }));

test("names in a file are text, whatever they hold", () =>
  withReport({ bench: "hostile-bench" }, async (page) => {
    assert.equal(await countOf(page, "img"), 0);
    assert.notEqual(await page.title(), "owned");
    assert.match(await page.locator("#operations").textContent(), /<\/script>/);
  }));

test("self-tests of other machines stand side by side, and no section of them where there are none", async () => {
  await withReport({ "self-test": "self-tests.txt" }, async (page) => {
    const heads = await page.locator("#self-tests thead th").allTextContents();
    assert.deepEqual(heads, ["", "INVENTED PROCESSOR ONE, under FLATBACKFLAT", "INVENTED PROCESSOR TWO, nothing beneath"]);
    const cells = async (text) => page.locator("#self-tests tbody tr", { hasText: text }).first().locator("td").allTextContents();
    assert.deepEqual(await cells("L1: CPUID"), ["100", "1,234"]);
    assert.deepEqual(await cells("L1: VMCALL"), ["101", "not measured"]);
    assert.deepEqual(await cells("checks failed"), ["0", "2"]);
    assert.deepEqual(await cells("family, model"), ["906EAH", "306C3H"]);
  });
  await withReport({ trace: "trace" }, async (page) => assert.equal(await countOf(page, "#silicon"), 0));
});
