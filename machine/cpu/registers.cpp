#include "machine/cpu/registers.hpp"

namespace flatback::machine {

Registers kernel_registers(std::uint64_t cr3) {
    Registers registers;
    registers.cr3 = cr3;
    registers.segment(SegmentName::cs) = {0x08, 0, 0xFFFF'FFFF, flat_segment::code_64};
    for (const SegmentName name : {SegmentName::ss, SegmentName::ds, SegmentName::es}) {
        registers.segment(name) = {0x10, 0, 0xFFFF'FFFF, flat_segment::data};
    }
    registers.segment(SegmentName::tr) = {0x18, 0, 0x67, flat_segment::task};
    registers.rip = 0x10'0000;
    return registers;
}

Registers registers_after_init(const Registers& before) {
    constexpr std::uint64_t caching = x86::cr0::cache_disable | x86::cr0::not_write_through;
    constexpr std::uint32_t code = 0x9B;  // present, execute/read, accessed
    constexpr std::uint32_t data = 0x93;  // present, read/write, accessed
    constexpr std::uint32_t local_table = 0x82;
    Registers after = before;
    after.general = {};  // RDX has the signature, which CPUID says is 0 here
    after.rip = 0xFFF0;
    after.rflags = x86::rflags::fixed_one;
    after.cr0 = (before.cr0 & caching) | x86::cr0::extension_type;
    after.cr2 = after.cr3 = after.cr4 = after.efer = 0;
    after.dr7 = x86::dr7::reset_value;
    for (Segment& segment : after.segments) segment = {0, 0, 0xFFFF, data};
    after.segment(SegmentName::cs) = {0xF000, 0xFFFF'0000, 0xFFFF, code};
    after.segment(SegmentName::ldtr) = {0, 0, 0xFFFF, local_table};
    after.segment(SegmentName::tr) = {0, 0, 0xFFFF, flat_segment::task};
    after.gdtr = after.idtr = {};
    after.interruptibility = 0;
    after.pending_debug = 0;
    after.activity = vmx::ActivityState::wait_for_sipi;
    return after;
}

}  // namespace flatback::machine
