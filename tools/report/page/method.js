// How it was measured, and what it can't say.
import { element, section } from "./dom.js";

function list(items) {
  return element("ul", {}, items.map((item) => element("li", {}, item)));
}

export function method(data) {
  return section(
    "method",
    "Method, and honest limits",
    list([
      "Everything ran in Debian’s Bochs 2.7, an emulator with VT-x, on one emulated CPU of the model corei7_skylake_x. One tick is one instruction executed; a run repeats to within a few ticks in a billion.",
      "The peer is Debian’s Linux 6.1 with KVM as L0 in the same emulated machine, over the same images of L1 and L2.",
      "Ticks show the length of software. They do not show time: no cache, no TLB miss, no cost of a world switch. The emulator’s TLB has no tags, so a flush saves or costs nothing there; that is why flushes are counted and priced apart.",
      "The 2015 figures are times on a real, unnamed machine with older software; nothing here can be compared with them but the direction.",
      "Nothing on this page was run on real silicon.",
      "“Not measured” means that the file given to this report does not have the figure. It is never drawn as zero.",
    ]),
    data.trace ? null : element("p", { class: "note" }, "No trace was given, so no timeline is shown."),
  );
}
