// What real VT-x gives the engine of the second VM (nested/port.hpp): memory of its own, and none of the
// machine's devices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "host/memory_type_registers.hpp"
#include "host/msr_bitmap.hpp"
#include "metal/boot/boot_result.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/l0/port.hpp"
#include "metal/l0/second_memory.hpp"
#include "nested/port.hpp"

namespace flatback::metal {

class SecondPort final {
public:
    SecondPort(GuestRegisters& registers, BootResult& boot, SecondMemory& memory);

    [[gnu::always_inline]] std::uint64_t vmread(std::uint32_t encoding) { return metal::vmread(encoding); }
    [[gnu::always_inline]] void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        metal::vmwrite(encoding, value);
    }
    void load_vmcs(x86::Hpa page) { vmptrld(page); }
    void clear_vmcs(x86::Hpa page) { vmclear(page); }
    std::uint32_t hardware_vmcs_revision() { return boot_.processor.capabilities.basic.revision(); }
    void write_host_state() { put_host_state(registers_); }
    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address) {
        ++flushes_;
        metal::invvpid(type, vmx::InvvpidDescriptor::make(tag::raw(tag), linear_address.value()));
    }
    void invept(vmx::InveptType type, vmx::Eptp eptp) {
        ++flushes_;
        metal::invept(type, {eptp.value, 0});
    }

    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        if (!memory_.contains(address.value())) return nullptr;
        return direct_map_as<std::byte>(memory_.at(address.value() & ~std::uint64_t{0xfff}));
    }
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address);

    std::optional<x86::Hpa> allocate_page();
    std::uint64_t* page(x86::Hpa address) { return direct_map_as<std::uint64_t>(address); }

    std::uint64_t& general_register(unsigned number) { return registers_.by_number[number]; }
    void set_cr2(std::uint64_t value) { asm volatile("mov %0, %%cr2" ::"r"(value)); }
    std::uint64_t debug_address(unsigned number) { return read_debug_address(number); }
    std::uint32_t protection_key_rights() { return read_protection_key_rights(); }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr);
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value);
    x86::Hpa l0_msr_bitmap() { return msr_bitmap_; }
    vmx::Eptp ept01_pointer() { return memory_.pointer(); }
    bool handle_ept01_violation(std::uint64_t) { return false; }
    // Every NMI of the machine's is the first VM's.
    void return_nmi();
    [[noreturn]] void l1_shutdown(const char* why);
    [[noreturn]] void fatal(const char* why);
    tag::Cpu cpu() { return tag::Cpu{this_processor_number()}; }
    std::uint64_t time_stamp_counter() { return read_tsc(); }

    // For host/msrs.hpp.
    void set_promise(const vmx::Capabilities* promised) { promised_ = promised; }
    [[nodiscard]] const vmx::Capabilities* promise() const { return promised_; }
    [[nodiscard]] host::MsrBitmap msr_bitmap() { return host::MsrBitmap{page(msr_bitmap_)}; }
    [[nodiscard]] host::MemoryTypeRegisters& memory_types() { return memory_type_registers_; }
    [[nodiscard]] std::optional<std::uint64_t> read_processor_msr(std::uint32_t msr) const;
    [[nodiscard]] bool write_processor_msr(std::uint32_t msr, std::uint64_t value);
    [[nodiscard]] static bool takes_debugctl(std::uint64_t value) { return MetalPort::takes_debugctl(value); }

    // What L1's time-stamp counter is ahead of the processor's.
    [[nodiscard]] std::uint64_t tsc_offset() const { return tsc_offset_; }
    void set_tsc_offset(std::uint64_t offset) { tsc_offset_ = offset; }
    [[nodiscard]] std::uint64_t flushes() const { return flushes_; }

private:
    GuestRegisters& registers_;
    BootResult& boot_;
    SecondMemory& memory_;
    const vmx::Capabilities* promised_ = nullptr;
    host::MemoryTypeRegisters memory_type_registers_;
    x86::Hpa msr_bitmap_{};
    std::uint64_t tsc_offset_ = 0;
    std::uint64_t flushes_ = 0;
};

static_assert(nested::Port<SecondPort>);

}  // namespace flatback::metal
