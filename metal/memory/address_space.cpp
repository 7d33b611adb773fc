#include "metal/memory/address_space.hpp"

#include "metal/ground/panic.hpp"

extern "C" const char image_start[], image_end[];

namespace flatback::metal {
namespace {

constinit AddressSpace space{};

std::uint64_t address_of(const void* symbol) {
    return reinterpret_cast<std::uint64_t>(symbol);
}

}  // namespace

void take_address_space(const AddressSpace& seen) {
    space = seen;
}

void* direct_map(x86::Hpa address) {
    if (address.value() >= space.direct_size) {
        panic("physical address ", log::hex(address), " lies beyond what L0 maps, ",
              log::hex(space.direct_size));
    }
    return reinterpret_cast<void*>(space.direct_base + address.value());
}

std::uint64_t direct_map_size() {
    return space.direct_size;
}

x86::Hpa physical_of(const void* object) {
    const std::uint64_t linear = address_of(object);
    if (linear >= address_of(image_start) && linear < address_of(image_end)) {
        return x86::Hpa{linear - space.image_offset};
    }
    if (linear - space.direct_base >= space.direct_size) {
        panic("address ", log::hex(linear), " is neither of L0's image nor of the direct map");
    }
    return x86::Hpa{linear - space.direct_base};
}

}  // namespace flatback::metal
