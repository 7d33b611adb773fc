// The memory of the second VM: a piece of L0's own region, seen from address 0 on, and its EPT01.
#pragma once

#include <cstdint>

#include "metal/ground/memory_map.hpp"
#include "vmx/ept.hpp"
#include "x86/address.hpp"

namespace flatback::metal {

class PagePool;

class SecondMemory final {
public:
    // place: physical, 2 MB-aligned, of at most 1 GB.
    SecondMemory(PagePool& pages, PhysicalRange place);
    SecondMemory(const SecondMemory&) = delete;
    SecondMemory& operator=(const SecondMemory&) = delete;

    [[nodiscard]] vmx::Eptp pointer() const { return pointer_; }
    [[nodiscard]] std::uint64_t size() const { return place_.size(); }
    [[nodiscard]] bool contains(std::uint64_t guest_physical) const { return guest_physical < size(); }
    // guest_physical: contained.
    [[nodiscard]] x86::Hpa at(std::uint64_t guest_physical) const {
        return x86::Hpa{place_.start + guest_physical};
    }
    // What stands wherever else the guest looks: a page of its own, made ones again by forget_writes().
    [[nodiscard]] x86::Hpa nothing() const { return nothing_; }
    void forget_writes();

private:
    PhysicalRange place_;
    vmx::Eptp pointer_{};
    x86::Hpa nothing_{};
};

}  // namespace flatback::metal
