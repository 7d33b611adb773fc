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

}  // namespace flatback::machine
