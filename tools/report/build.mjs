// Puts page/ and the plotting library into one HTML file with a gap for the data: node build.mjs PACKAGES OUTPUT.
// PACKAGES is the folder node_modules with the packages of package-lock.json.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { fileURLToPath } from "node:url";

const [packages, output] = process.argv.slice(2).map((argument) => path.resolve(argument));
if (!output) throw new Error("usage: node build.mjs PACKAGES OUTPUT");
const page = path.join(path.dirname(fileURLToPath(import.meta.url)), "page");
const esbuild = createRequire(path.join(packages, "anchor.js"))("esbuild");

async function bundle(entry) {
  const result = await esbuild.build({
    entryPoints: [path.join(page, entry)],
    nodePaths: [packages],
    bundle: true,
    minify: true,
    write: false,
    metafile: true,
    charset: "ascii",
    target: "es2020",
    format: "iife",
    logLevel: "warning",
  });
  return { text: result.outputFiles[0].text.trimEnd(), inputs: Object.keys(result.metafile.inputs) };
}

// The licence of each package of which something was bundled.
function licences(inputs) {
  const names = new Set();
  for (const input of inputs) {
    const [, name] = /node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(input) ?? [];
    if (name) names.add(name);
  }
  return [...names].sort().map((name) => {
    const folder = path.join(packages, name);
    const file = readdirSync(folder).find((each) => /^licen[cs]e/i.test(each));
    if (!file) throw new Error(`${name} has no licence file: it can not be put into the page`);
    return `${name}\n\n${readFileSync(path.join(folder, file), "utf8").trim()}\n`;
  });
}

const script = await bundle("main.js");
const style = await bundle("page.css");
const hash = `sha256-${createHash("sha256").update(script.text).digest("base64")}`;
const parts = {
  SCRIPT_HASH: hash,
  STYLE: style.text,
  SCRIPT: script.text,
  LICENCES: `\n${licences(script.inputs).join("\n----\n\n").replaceAll("<", "(").replaceAll(">", ")")}`,
};
const template = readFileSync(path.join(page, "index.html"), "utf8");
writeFileSync(
  output,
  template.replace(/%(SCRIPT_HASH|STYLE|SCRIPT|LICENCES)%/g, (_, name) => parts[name]),
);
