// The page can be read by everyone: by axe's rules, and by a few of our own.
import assert from "node:assert/strict";
import { test } from "node:test";
import { axeSource, everything, withReport } from "./browser.mjs";

async function violations(page) {
  await page.evaluate(axeSource);
  const result = await page.evaluate(() => globalThis.axe.run(document));
  return result.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html.slice(0, 120)).join(" | ")}`);
}

for (const colorScheme of ["light", "dark"]) {
  test(`axe finds nothing, ${colorScheme}`, () =>
    withReport(everything, async (page) => assert.deepEqual(await violations(page), []), { colorScheme }));
}

test("axe finds nothing where most is missing", () =>
  withReport({ bench: "partial-bench" }, async (page) => assert.deepEqual(await violations(page), [])));

test("every chart is a picture with a name, in a figure with a heading and a table", () =>
  withReport(everything, async (page) => {
    const charts = await page.locator(".chart svg").evaluateAll((all) =>
      all.map((svg) => {
        const figure = svg.closest("figure");
        return {
          id: figure?.id,
          role: svg.getAttribute("role"),
          named: (svg.getAttribute("aria-label") ?? "").length > 20,
          heading: Boolean(figure?.querySelector("h3")?.textContent),
          table: Boolean(figure?.querySelector("table caption")?.textContent),
          scopes: [...(figure?.querySelectorAll("th") ?? [])].every((head) => ["row", "col"].includes(head.scope)),
        };
      }),
    );
    assert.ok(charts.length >= 10);
    for (const chart of charts) {
      assert.deepEqual(chart, { id: chart.id, role: "img", named: true, heading: true, table: true, scopes: true });
    }
  }));

test("light and dark differ, and paper is always light", () =>
  withReport(
    everything,
    async (page) => {
      const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
      const dark = await paper();
      await page.emulateMedia({ colorScheme: "light" });
      const light = await paper();
      assert.notEqual(dark, light);
      await page.emulateMedia({ colorScheme: "dark", media: "print" });
      assert.equal(await paper(), light);
    },
    { colorScheme: "dark" },
  ));

test("a narrow page does not scroll sideways as a whole", () =>
  withReport(
    everything,
    async (page) => {
      const wider = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(wider, 0);
    },
    { viewport: { width: 390, height: 800 } },
  ));

for (const width of [390, 800, 1280]) {
  test(`no number of the headline is cut at ${width} pixels`, () =>
    withReport(
      everything,
      async (page) => {
        const cut = await page.evaluate(() =>
          [...document.querySelectorAll(".findings dd, .findings dt")]
            .filter((each) => each.scrollWidth > each.clientWidth)
            .map((each) => each.textContent),
        );
        assert.deepEqual(cut, []);
      },
      { viewport: { width, height: 900 } },
    ));
}
