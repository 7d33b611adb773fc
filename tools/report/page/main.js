// Builds the page from the data that `flatback report` has put into it.
import { claim } from "./claim.js";
import { conformance } from "./conformance.js";
import { element } from "./dom.js";
import { exits } from "./exits.js";
import { flushes } from "./flushes.js";
import { headline } from "./headline.js";
import { latCtx } from "./lat_ctx.js";
import { method } from "./method.js";
import { model } from "./model.js";
import { price } from "./price.js";
import { primitives } from "./primitives.js";
import { silicon } from "./silicon.js";
import { timeline } from "./timeline.js";
import { watched } from "./watched.js";

const data = JSON.parse(document.getElementById("flatback-data").textContent);
const main = document.querySelector("main");

// What most readers do not measure has no section that says so.
const given = (part, make) => (data[part] === null ? [] : [make]);
const sections = [
  ...given("watch", watched),
  latCtx,
  primitives,
  ...given("self_test", silicon),
  model,
  flushes,
  claim,
  ...given("conform", conformance),
  timeline,
  exits,
  price,
  method,
].map((make) => make(data));
const contents = element(
  "nav",
  { "aria-label": "Contents" },
  element(
    "ul",
    {},
    sections.map((made) => element("li", {}, element("a", { href: `#${made.id}` }, made.querySelector("h2").textContent))),
  ),
);
main.replaceChildren(headline(data), contents, ...sections);

// Paper has nothing to click on.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
