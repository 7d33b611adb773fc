#include "machine/cpu/vmcs.hpp"

namespace flatback::machine {

void Vmcs::write(std::uint64_t encoding, std::uint64_t value) {
    std::uint64_t& stored = values_[place(encoding)];
    switch (vmx::width(encoding)) {
        case vmx::FieldWidth::bits16:
            stored = value & 0xFFFF;
            break;
        case vmx::FieldWidth::bits32:
            stored = value & 0xFFFF'FFFF;
            break;
        case vmx::FieldWidth::natural:
            stored = value;
            break;
        case vmx::FieldWidth::bits64:
            stored = vmx::is_high(encoding) ? (stored & 0xFFFF'FFFF) | value << 32 : value;
            break;
    }
}

}  // namespace flatback::machine
