// The plotting library with the settings that all charts share.
import * as Plot from "@observablehq/plot";

export * from "@observablehq/plot";

// Wide enough to be read; the page scrolls a chart sideways on a narrower screen.
export const width = 960;
// Of a chart that has another one beside it.
export const half = 500;

export function plot(options) {
  return Plot.plot({
    width,
    marginLeft: 60,
    marginBottom: 44,
    ...options,
    style: { background: "none", color: "var(--ink)", fontFamily: "inherit", fontSize: "12px", ...options.style },
  });
}

// The fill of a mark by a field whose values are CSS colours already.
export const colored = (datum) => datum.color;
