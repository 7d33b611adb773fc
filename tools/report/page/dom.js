// Building blocks of the page. Everything that comes from a file becomes a text node, never markup.

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return made;
}

export const notMeasured = "not measured";

function cell(content) {
  return content === null || content === undefined
    ? element("td", { class: "missing" }, notMeasured)
    : element("td", {}, content);
}

// `head`: the headings of the columns, the first one over the headings of the rows.
// `rows`: [{head, cells}]; a cell that is null was not measured.
export function table(caption, head, rows) {
  const made = element(
    "table",
    {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, head.map((text) => element("th", { scope: "col" }, text)))),
    element(
      "tbody",
      {},
      rows.map((row) =>
        element("tr", { class: row.class }, element("th", { scope: "row" }, row.head), row.cells.map(cell)),
      ),
    ),
  );
  // It scrolls where the page is narrow: then the keyboard must reach it.
  return element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption }, made);
}

// A chart of the plotting library as a picture with a name and a description. What is inside a picture has no names of
// its own: the library's, by kind of mark ("bar"), become data.
export function picture(svg, label, description) {
  for (const group of svg.querySelectorAll("[aria-label]")) {
    group.setAttribute("data-mark", group.getAttribute("aria-label"));
    group.removeAttribute("aria-label");
  }
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${label}. ${description}`);
  return element("div", { class: "chart" }, svg);
}

// What the colours of a chart mean: [{label, color}].
export function legend(entries) {
  return element(
    "ul",
    { class: "legend" },
    entries.map(({ label, color }) =>
      element("li", {}, element("span", { class: "swatch", style: `background:${color}`, "aria-hidden": "true" }), label),
    ),
  );
}

export function figure(id, title, parts) {
  return element("figure", { id }, element("figcaption", {}, element("h3", {}, title), parts.lead ?? null), parts.content);
}

// What not every reader needs: closed until it is asked for, and open on paper (main.js).
export function folded(summary, ...content) {
  return element("details", {}, element("summary", {}, summary), content);
}

// The table of a chart's figures.
export function figuresTable(...parts) {
  return folded("The figures as a table", table(...parts));
}

// Figures that stand beside each other where there is room.
export function beside(...figures) {
  return element("div", { class: "beside-each-other" }, figures);
}

export function paragraph(...content) {
  return element("p", {}, ...content);
}

export function absent(what, how) {
  return element("p", { class: "absent" }, element("strong", {}, `${what}: ${notMeasured}.`), ` ${how}`);
}

export function section(id, title, ...content) {
  return element("section", { id, "aria-labelledby": `${id}-title` }, element("h2", { id: `${id}-title` }, title), content);
}
