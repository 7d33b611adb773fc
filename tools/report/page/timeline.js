// World switches over time, for a window that the reader chooses, with each flush marked.
import { absent, element, figure, figuresTable, legend, paragraph, picture, section } from "./dom.js";
import { count } from "./numbers.js";
import * as Plot from "./plot.js";

const levels = ["L2", "L1", "L0"];
const colors = { L0: "var(--l0)", L1: "var(--l1)", L2: "var(--l2)" };
const windowSizes = [20, 40, 80, 160, 400];
const firstSize = 40;
// So many events before the first one of interest.
const lead = 4;

function targetOf({ flush, vpid, vpid12 }) {
  const { ep4ta, address } = flush.target ?? {};
  if (ep4ta) return `EP4TA ${ep4ta}`;
  const tag = `tag ${vpid ?? "?"}${vpid12 ? ` (vpid12 ${vpid12})` : ""}`;
  return address ? `${tag}, address ${address}` : tag;
}

function described(event) {
  if (event.flush) {
    return `${event.flush.instruction} ${event.flush.type_name ?? ""}, ${targetOf(event)}: ${event.flush.why}`;
  }
  const reason = event.reason ? `, ${event.reason}` : "";
  const handled = event.handled_by ? ` (handled by ${event.handled_by})` : "";
  return `${event.kind} from ${event.from} to ${event.to}${reason}${handled}`;
}

// Where a CPU is after an event.
const levelAfter = (event) => (event.kind === "entry" || event.kind === "exit" ? event.to : "L0");

// From each event of a CPU to its next one, the level that runs there. The last event of the window has no next.
function stays(events) {
  const last = new Map();
  const made = [];
  for (const event of events) {
    const before = last.get(event.cpu);
    if (before) made.push({ ...before, until: event.place });
    last.set(event.cpu, { cpu: event.cpu, level: levelAfter(event), since: event.place, cause: described(event) });
  }
  return made.filter((stay) => stay.until > stay.since);
}

function chart(events, cpus, even) {
  const placed = events.map((event, index) => ({ ...event, place: even ? index : event.tick }));
  const flushes = placed.filter((event) => event.flush);
  const facet = cpus.length > 1 ? { fy: (datum) => `CPU ${datum.cpu}` } : {};
  return Plot.plot({
    height: 40 + 120 * cpus.length,
    marginLeft: 50,
    marginRight: 50,
    marginTop: 26,
    x: {
      label: even ? "events, evenly spaced" : "ticks",
      tickFormat: even ? (index) => count(events[index]?.tick ?? null) : (tick) => count(tick),
      ticks: 6,
      grid: true,
    },
    y: { domain: levels, label: null, padding: 0.25 },
    ...(cpus.length > 1 ? { fy: { label: null } } : {}),
    marks: [
      Plot.barX(stays(placed), {
        ...facet,
        y: "level",
        x1: "since",
        x2: "until",
        fill: (stay) => colors[stay.level] ?? "var(--muted)",
        title: (stay) => `${stay.level} after ${stay.cause}`,
      }),
      Plot.tickX(flushes, { ...facet, x: "place", stroke: "var(--flush)", strokeDasharray: "2 2" }),
      Plot.dot(flushes, {
        ...facet,
        x: "place",
        y: () => "L0",
        symbol: "diamond",
        r: 6,
        fill: "var(--flush)",
        stroke: "var(--paper)",
        title: (event) => `${count(event.tick)}: ${described(event)}`,
      }),
    ],
  });
}

const or = (value) => (value || value === 0 ? `${value}` : "–");

function eventRow(event) {
  const { flush } = event;
  const switched = event.kind === "entry" || event.kind === "exit" ? `${event.from} → ${event.to}` : event.kind;
  return {
    head: count(event.tick),
    class: flush ? "flush" : null,
    cells: [
      or(event.cpu),
      switched,
      flush ? `${flush.instruction} ${flush.type_name ?? ""}` : or(event.reason),
      flush ? `${targetOf(event)}: ${flush.why}` : or(event.handled_by),
      or(event.vpid12 || null),
      or(event.vpid || null),
    ],
  };
}

const head = ["tick", "CPU", "event", "reason, or instruction", "handled by, or what was flushed and why", "vpid12", "tag"];

function button(text, act) {
  const made = element("button", { type: "button" }, text);
  made.addEventListener("click", act);
  return made;
}

// Where there is something to see first: a flush, else an entry into L2.
function firstOfInterest(events) {
  const flush = events.findIndex((event) => event.flush);
  const at = flush === -1 ? events.findIndex((event) => event.kind === "entry" && event.to === "L2") : flush;
  return Math.max(0, at - lead);
}

// The controls and the chart under them; a change of a control draws the window anew.
function explorer(events) {
  const cpus = [...new Set(events.map((event) => event.cpu))].sort((one, other) => one - other);
  const state = { first: firstOfInterest(events), size: Math.min(firstSize, events.length), even: true };
  let tableOpen = false;
  const drawn = element("div", { id: "timeline-window" });
  const status = element("p", { class: "status", role: "status" });
  const from = element("input", { type: "range", min: 0, max: Math.max(0, events.length - 1), value: 0, step: 1 });

  function draw() {
    const shown = events.slice(state.first, state.first + state.size);
    from.value = state.first;
    const flushes = shown.filter((event) => event.flush).length;
    const span = shown[shown.length - 1].tick - shown[0].tick;
    const says = `Events ${count(state.first + 1)} to ${count(state.first + shown.length)} of ${count(events.length)}: ${count(span)} ticks, ${count(flushes)} ${flushes === 1 ? "flush" : "flushes"}.`;
    status.textContent = says;
    drawn.replaceChildren(
      picture(chart(shown, cpus, state.even), "Timeline of world switches", `${says} A lane for each of L2, L1 and L0; the table has the events.`),
      eventTable(shown),
    );
  }
  function eventTable(shown) {
    const folded = figuresTable("The events of this window", head, shown.map(eventRow));
    folded.open = tableOpen;
    folded.addEventListener("toggle", () => {
      tableOpen = folded.open;
    });
    return folded;
  }
  function move(first) {
    state.first = Math.max(0, Math.min(events.length - 1, first));
    draw();
  }
  // The flush that was gone to last: the next one is after it, wherever the window was moved since.
  let gone = -1;
  function toFlush() {
    const next = events.findIndex((event, index) => index > gone && event.flush);
    gone = next;
    if (next === -1) status.textContent = "No later flush in this trace.";
    else move(next - Math.floor(state.size / 2));
  }

  from.addEventListener("input", () => move(Number(from.value)));
  const sizes = element(
    "select",
    {},
    windowSizes
      .filter((size) => size <= events.length || size === windowSizes[0])
      .map((size) => element("option", { value: size, ...(size === state.size ? { selected: "" } : {}) }, `${size}`)),
  );
  sizes.addEventListener("change", () => {
    state.size = Number(sizes.value);
    draw();
  });
  const spacing = element("select", {}, element("option", { value: "even" }, "evenly"), element("option", { value: "ticks" }, "by ticks"));
  spacing.addEventListener("change", () => {
    state.even = spacing.value === "even";
    draw();
  });
  draw();
  return [
    element(
      "div",
      { class: "controls" },
      element("label", { class: "wide" }, "First event ", from),
      element("label", {}, "Events ", sizes),
      element("label", {}, "Spaced ", spacing),
      button("Earlier", () => move(state.first - state.size)),
      button("Later", () => move(state.first + state.size)),
      button("Next flush", toFlush),
    ),
    status,
    drawn,
  ];
}

export function timeline(data) {
  const title = "World switches over time";
  if (!data.trace || data.trace.events.length === 0) {
    const how = data.trace ? "The trace that was given has no events." : "./flatback trace --json FILE writes it; give that file with --trace.";
    return section("timeline", title, absent("World switches", how));
  }
  return section(
    "timeline",
    title,
    paragraph(
      "From L0’s own trace. A bar is a stay in L2, L1 or L0 from one event to the next; a diamond is a flush. Point at either to read what it was.",
      data.trace.left_out > 0 ? ` The ${count(data.trace.left_out)} earliest events of the trace are left out of this page.` : "",
    ),
    figure("timeline-figure", "One window of the trace", {
      content: [
        legend([...levels.map((level) => ({ label: `in ${level}`, color: colors[level] })), { label: "flush", color: "var(--flush)" }]),
        explorer(data.trace.events.map((event) => ({ cpu: 0, ...event }))),
      ],
    }),
  );
}
