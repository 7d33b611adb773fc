// A place for one of L1's active VMCSs: what L1 wrote, and the hardware's VMCSs that stand for it.
#pragma once

#include <array>
#include <cstdint>

#include "../../tag/numbers.hpp"
#include "../../vmx/ept.hpp"
#include "../../x86/address.hpp"
#include "../entry/io_bitmaps.hpp"
#include "../entry/msr_bitmap.hpp"
#include "../entry/vmcs_bitmaps.hpp"
#include "../vmcs/learned_fields.hpp"
#include "../vmcs/newest.hpp"
#include "../vmcs/vmcs12.hpp"

namespace flatback::nested {

// The VMCS under which the L2 runs, and what is known to be in it.
struct Vmcs02 {
    x86::Hpa page{};
    bool prepared = false;         // host state and what else never changes is written
    bool launched = false;         // the hardware's launch state
    bool primary_changed = false;  // `primary` is to be written
    // A control that it has as L1 wrote it, but for the host's demands, has been written or is to be, since
    // demands were last put over it. (Nothing without demands.)
    bool below_demands_changed = true;
    tag::TagNumber tag = tag::TagNumber::none;
    std::uint32_t primary = 0;    // processor-based controls
    std::uint32_t secondary = 0;  // but for "enable VPID", which goes with the tag
    vmx::Eptp ept_pointer{};
    std::uint64_t link_pointer = ~std::uint64_t{0};
    FieldSet pending;      // words of L1's to be written to it at the next entry
    FieldSet overwritten;  // guest state in it that this entry brought from elsewhere
};

// What an entry has to look at, because it changed since it was last found good.
struct Unchecked {
    bool controls = true;  // and to be composed anew
    bool host_state = true;
    bool guest_state = true;  // there may be something for L0 to judge
    bool unpromised = false;  // in guest state: an activity state, or a bit of CR3, CR4 or IA32_DEBUGCTL
};

// What L1 keeps active in a slot: nothing, a VMCS for a guest of its own (perhaps with fields learned), or a
// shadow VMCS that it shows one.
enum class Activity : std::uint8_t { none, ordinary, ordinary_learned, shadow };

struct Slot {
    x86::Gpa<x86::L1> region{};
    Activity activity = Activity::none;
    bool launched = false;  // as L1 sees it
    bool l1_uses_vpid = false;
    bool l1_uses_ept = false;
    bool l1_logs_writes = false;  // page-modification logging
    Unchecked unchecked;
    std::uint32_t work = 0;  // what each entry and exit has to do besides (nested/vcpu/entry.hpp)
    std::uint64_t last_used = 0;
    Vmcs02 vmcs02;
    // Of an ordinary VMCS: where L1 reads and writes without an exit. Of L1's shadow VMCS: where all of it
    // is.
    x86::Hpa shadow{};
    Slot* linked = nullptr;  // that the last entry showed L2; it may be another VMCS's by now
    MergedMsrBitmap msr_bitmap;
    MergedIoBitmaps io_bitmaps;
    MergedVmcsBitmaps vmcs_bitmaps;
    LearnedFields learned;  // that L1 reaches without an exit beside the field sheet's ...
    std::array<x86::Hpa, 2> learned_bitmaps{};  // ... by these: for VMREAD and for VMWRITE
    Newest newest;                              // where each field's newest value is
    Vmcs12 vmcs12;
};

}  // namespace flatback::nested
