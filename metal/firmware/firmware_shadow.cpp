#include "metal/firmware/firmware_shadow.hpp"

#include "metal/ground/pci.hpp"

namespace flatback::metal {
namespace {

// PAM0: its bits 5:4 are the attributes of F0000H to FFFFFH (Intel 290549 "440FX PCIset", 3.2.18; 316966 "3
// Series", 5.1.25).
struct HostBridge {
    std::uint32_t identifier;  // device and vendor, as at offset 0
    std::uint32_t attributes;
};
constexpr HostBridge known_bridges[] = {{0x12378086, 0x59}, {0x29C08086, 0x90}};
constexpr std::uint8_t read_enable = 1 << 4;
constexpr std::uint8_t write_enable = 1 << 5;
constexpr pci::Function bridge{};

}  // namespace

// Only where memory is read there already: elsewhere what is written would not be what L1 reads.
WritableFirmwareShadow::WritableFirmwareShadow() {
    const std::uint32_t identifier = pci::read_32(bridge, 0);
    for (const HostBridge& known : known_bridges) {
        if (known.identifier != identifier) continue;
        before_ = pci::read_8(bridge, known.attributes);
        if ((before_ & (read_enable | write_enable)) != read_enable) return;
        attribute_register_ = known.attributes;
        pci::write_8(bridge, attribute_register_, before_ | write_enable);
    }
}

WritableFirmwareShadow::~WritableFirmwareShadow() {
    if (attribute_register_ != 0) pci::write_8(bridge, attribute_register_, before_);
}

}  // namespace flatback::metal
