// Builds the page from the data that `flatback report` has put into it.
import { claim } from "./claim.js";
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

const data = JSON.parse(document.getElementById("flatback-data").textContent);
const main = document.querySelector("main");

const others = data.self_test === null ? [] : [silicon];
const sections = [latCtx, primitives, ...others, model, flushes, claim, timeline, exits, price, method].map((make) => make(data));
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
