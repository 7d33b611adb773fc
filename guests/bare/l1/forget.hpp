// Dropping what the processor may have cached for L2s: SDM 3C 29.4.3. A VPID and an EPTP that are used anew,
// and an entry of L2's page tables that L1 changes, are still translated as before until L1 says otherwise;
// so are page tables of L1's own that an L2 walks, whatever INVLPG L1 did for itself.
#pragma once

#include <cstdint>

namespace flatback::guests {

// INVVPID of everything that belongs to this VPID. Nothing where the processor offers no INVVPID: then no
// VPID is used, and every VM entry and exit drops all.
void forget_vpid(std::uint16_t vpid);

// The same for one linear address of it.
void forget_linear(std::uint16_t vpid, std::uint64_t linear_address);

// The same for all VPIDs; may be called outside of VMX operation too.
void forget_all_vpids();

// INVEPT of everything that was cached by way of this EPTP; of all of them.
void forget_ept(std::uint64_t ept_pointer);
void forget_all_epts();

}  // namespace flatback::guests
