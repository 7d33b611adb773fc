// An EPT12: extended page tables that L1 builds in its memory.
#pragma once

#include <cstdint>

#include "tests/nested/virtual_cpu.hpp"
#include "vmx/ept.hpp"
#include "x86/paging.hpp"

namespace flatback::nested_test {

class Ept12 {
public:
    static constexpr std::uint64_t write_back = 6ULL << 3;

    // Its tables lie from `start` on, the root first.
    explicit Ept12(VirtualCpu& cpu, std::uint64_t start = layout::ept_tables)
        : cpu_(cpu), root_(start), next_(start + 0x1000) {}

    [[nodiscard]] std::uint64_t root() const { return root_; }
    [[nodiscard]] std::uint64_t eptp(bool accessed_dirty = false) const {
        return vmx::Eptp::make(root_, x86::MemoryType::write_back, accessed_dirty).value;
    }
    // A leaf at a level (1: 4 KB, 2: 2 MB, 3: 1 GB). bits: what is not the address.
    void map(std::uint64_t guest_physical, std::uint64_t l1_physical, std::uint64_t bits = 7 | write_back,
             unsigned level = 1) {
        set(guest_physical, l1_physical | bits | (level > 1 ? vmx::ept_entry::page_size : 0), level);
    }
    // Tables above are made where there are none.
    void set(std::uint64_t guest_physical, std::uint64_t entry, unsigned level = 1) {
        cpu_.port.memory.write(address_of(guest_physical, level), entry);
    }
    [[nodiscard]] std::uint64_t entry(std::uint64_t guest_physical, unsigned level = 1) {
        return cpu_.port.memory.read<std::uint64_t>(address_of(guest_physical, level));
    }

private:
    std::uint64_t address_of(std::uint64_t guest_physical, unsigned level) {
        std::uint64_t table = root_;
        for (unsigned at = 4; at > level; --at) {
            const std::uint64_t slot = table + x86::table_index(guest_physical, at) * 8;
            const auto found = cpu_.port.memory.read<std::uint64_t>(slot);
            if (!vmx::ept_entry::is_present(found) || vmx::ept_entry::is_leaf(found, at)) {
                cpu_.port.memory.write(slot, next_ | 7);
                next_ += 0x1000;
            }
            table = vmx::ept_entry::table_address(cpu_.port.memory.read<std::uint64_t>(slot));
        }
        return table + x86::table_index(guest_physical, level) * 8;
    }
    VirtualCpu& cpu_;
    std::uint64_t root_;
    std::uint64_t next_;
};

}  // namespace flatback::nested_test
