// What the tests of the page share: making a report, and opening it in headless Chromium.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";

const packages = createRequire(path.join(process.env.FLATBACK_TEST_PACKAGES, "anchor.js"));
const { chromium } = packages("playwright-core");
const fixtures = path.join(path.dirname(fileURLToPath(import.meta.url)), "fixtures");

export const axeSource = readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
export const columns = ["2p/0K", "2p/16K", "2p/64K", "8p/16K", "8p/64K", "16p/16K", "16p/64K"];

export function fixture(name) {
  return path.join(fixtures, `invented-${name.includes(".") ? name : `${name}.json`}`);
}

export function readFixture(name) {
  return JSON.parse(readFileSync(fixture(name), "utf8"));
}

export const everything = { watch: "watch", bench: "bench", trace: "trace", machine: "machine", conform: ["conform", "other-conform"] };

let folder;
let browser;
before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "flatback-report-"));
  browser = await chromium.launch({
    executablePath: process.env.FLATBACK_CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

// Makes a report with the command; `parts`: {bench: the name of a fixture, or several, ...}.
export function makeReport(parts, output = path.join(folder, "report.html")) {
  const options = Object.entries(parts).flatMap(([part, names]) => [names].flat().flatMap((name) => [`--${part}`, fixture(name)]));
  execFileSync(process.env.FLATBACK_PROGRAM, ["report", ...options, "--output", output], { stdio: "pipe" });
  return output;
}

// Opens a report made from these parts and hands the page to `look`. Whatever the test looks for, the page must not
// report an error, and must ask for nothing but itself.
export async function withReport(parts, look, context = {}) {
  const address = pathToFileURL(makeReport(parts)).href;
  const opened = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...context });
  try {
    const page = await opened.newPage();
    const complaints = [];
    const requests = [];
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") complaints.push(message.text());
    });
    page.on("pageerror", (error) => complaints.push(error.message));
    page.on("request", (request) => requests.push(request.url()));
    await page.goto(address, { waitUntil: "load" });
    await look(page);
    assert.deepEqual(complaints, []);
    assert.deepEqual(requests.filter((url) => url !== address && url !== "data:,"), []);
  } finally {
    await opened.close();
  }
}

export function countOf(page, selector) {
  return page.locator(selector).count();
}

// The marks of one kind ("bar", "dot") in a chart, however they are grouped.
export function marksOf(page, id, kind) {
  return countOf(page, `#${id} svg [data-mark="${kind}"] :is(rect, path, circle, line)`);
}
