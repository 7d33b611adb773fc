// What self-tests on other machines found, one a column.
import { element, figure, paragraph, section, table } from "./dom.js";
import { count } from "./numbers.js";
import { named } from "./operations.js";

function heading(test) {
  return `${test.processor.replaceAll("-", " ")}, ${test.under === "NOTHING" ? "nothing beneath" : `under ${test.under}`}`;
}

export function silicon(data) {
  const tests = data.self_test;
  const names = Object.keys(tests[0].values).filter((name) => tests.some((test) => test.values[name] !== null));
  const title = "Self-tests, in ticks or cycles";
  return section(
    "silicon",
    "On other machines",
    paragraph("Each column is one line that a self-test showed on its machine: cycles of its time-stamp counter, or instructions in an emulator that counts those."),
    figure("self-tests", title, {
      content: [
        table(
          title,
          ["", ...tests.map(heading)],
          [
            { head: "Flatback’s version", cells: tests.map((test) => test.version) },
            { head: "family, model and stepping", cells: tests.map((test) => test.signature) },
            { head: "checks passed", cells: tests.map((test) => count(test.passed)) },
            { head: "checks failed", cells: tests.map((test) => count(test.failed)) },
            ...names.map((name) => ({ head: named(name), cells: tests.map((test) => (test.values[name] === null ? null : count(test.values[name]))) })),
          ],
        ),
      ],
    }),
  );
}
