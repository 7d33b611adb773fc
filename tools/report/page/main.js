// Builds the page from the data that `flatback report` has put into it.
import { claim } from "./claim.js";
import { element } from "./dom.js";
import { exits } from "./exits.js";
import { headline } from "./headline.js";
import { latCtx } from "./lat_ctx.js";
import { method } from "./method.js";
import { model } from "./model.js";
import { price } from "./price.js";
import { primitives } from "./primitives.js";
import { timeline } from "./timeline.js";

const data = JSON.parse(document.getElementById("flatback-data").textContent);
const main = document.querySelector("main");

const sections = [claim, latCtx, exits, timeline, primitives, price, model, method].map((make) => make(data));
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
