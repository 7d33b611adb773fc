// The least that a Port can be, freestanding: memory in arrays, and VMCSs that nothing ever runs under.
#pragma once

#include <flatback/nested/port.hpp>
#include <flatback/vmx/field_table.hpp>

namespace outside {

using namespace flatback;

alignas(4096) inline std::uint64_t pages[64][512];  // L0's own; host-physical addresses are offsets in here
alignas(4096) inline std::byte l1_memory[8][4096];
inline std::uint64_t vmcss[64][vmx::field_count];  // what a processor keeps behind a VMCS's address

class Port {
public:
    std::uint64_t vmread(std::uint32_t encoding) { return field_of(encoding); }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) { field_of(encoding) = value; }
    void load_vmcs(x86::Hpa page) { current_ = page.page_number(); }
    void clear_vmcs(x86::Hpa) {}
    std::uint32_t hardware_vmcs_revision() { return 1; }
    void write_host_state() {}
    void invvpid(vmx::InvvpidType, tag::TagNumber, x86::LinearAddress) {}
    void invept(vmx::InveptType, vmx::Eptp) {}
    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        return address.page_number() < 8 ? l1_memory[address.page_number()] : nullptr;
    }
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address) {
        return {x86::Hpa{address.value()}, 12, x86::MemoryType::write_back, true};
    }
    std::optional<x86::Hpa> allocate_page() {
        if (used_ == 64) return std::nullopt;
        return x86::Hpa{4096 * used_++};
    }
    std::uint64_t* page(x86::Hpa address) { return pages[address.page_number()]; }
    std::uint64_t& general_register(unsigned number) { return registers_[number]; }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr) {
        return msr == x86::msr::ia32_feature_control ? std::optional<std::uint64_t>{5} : std::nullopt;
    }
    bool write_l1_msr(std::uint32_t, std::uint64_t) { return false; }
    x86::Hpa l0_msr_bitmap() { return x86::Hpa{0}; }
    vmx::Eptp ept01_pointer() { return {0x1e}; }
    void set_cr2(std::uint64_t) {}
    bool handle_ept01_violation(std::uint64_t) { return false; }
    void return_nmi() {}
    [[noreturn]] void l1_shutdown(const char*) { __builtin_trap(); }
    [[noreturn]] void fatal(const char*) { __builtin_trap(); }
    tag::Cpu cpu() { return tag::Cpu{0}; }

    template <typename Field>
    void put(Field which, std::uint64_t value) {
        vmwrite(which.encoding, value);
    }

private:
    std::uint64_t& field_of(std::uint32_t encoding) {
        return vmcss[current_][static_cast<unsigned>(vmx::dense_index(encoding))];
    }

    std::uint64_t current_ = 1;
    std::uint64_t used_ = 1;
    std::uint64_t registers_[16]{};
};

}  // namespace outside
