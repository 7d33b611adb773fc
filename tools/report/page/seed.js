// What the patch that brought nested VPID to KVM said of itself: lmbench in an L2, microseconds a context switch
// (Wanpeng Li, "[PATCH v2 4/5] KVM: nVMX: nested VPID emulation", linux-kernel, 8 October 2015).
import { columns } from "./series.js";

const withNestedVpid = [1.22, 1.37, 1.45, 4.78, 2.33, 5.6, 2.88];
const without = [1.26, 1.43, 1.56, 12.7, 12.9, 3.49, 7.46];

export const seed = columns.map((column, index) => ({
  column,
  withNestedVpid: withNestedVpid[index],
  without: without[index],
}));

export const seedSource =
  "Wanpeng Li, “[PATCH v2 4/5] KVM: nVMX: nested VPID emulation”, linux-kernel, 8 October 2015: lmbench in an L2 with a 3.5 kernel, on a machine that is not named.";
