#include "metal/l0/apic_page.hpp"

#include <span>

#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/store_instruction.hpp"
#include "nested/l1/complete_instruction.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption.hpp"
#include "x86/paging.hpp"

namespace flatback::metal {
namespace {

CodeSize code_size() {
    const x86::AccessRights rights{get(vmx::field::guest_cs_access_rights)};
    if (x86::is_64_bit_mode(get(vmx::field::guest_ia32_efer), rights)) return CodeSize::bits_64;
    return rights.is_default_big() ? CodeSize::bits_32 : CodeSize::bits_16;
}

// At the guest's RIP; nothing is read of a page that the instruction does not reach.
std::optional<StoreInstruction> read_store(Cpu& cpu) {
    const CodeSize size = code_size();
    const std::uint64_t rip = get(vmx::field::guest_rip);
    const std::uint64_t linear =
        size == CodeSize::bits_64 ? rip : (rip + get(vmx::field::guest_cs_base)) & 0xffffffff;
    RememberedStores::Code code{};
    if (linear % x86::page_size_4k <= x86::page_size_4k - code.size()) [[likely]] {
        if (!cpu.vcpu.read_l1_code(linear, code.data(), code.size())) return std::nullopt;
        return cpu.apic_stores.decode(rip, code, size);
    }
    const auto here = static_cast<unsigned>(x86::page_size_4k - linear % x86::page_size_4k);
    if (!cpu.vcpu.read_l1_code(linear, code.data(), here)) return std::nullopt;
    if (const auto store = decode_store(std::span{code}.first(here), size)) return store;
    if (!cpu.vcpu.read_l1_code(linear + here, code.data() + here, static_cast<unsigned>(code.size()) - here))
        return std::nullopt;
    return decode_store(code, size);
}

}  // namespace

bool emulate_apic_write(Cpu& cpu, std::uint64_t guest_physical) {
    const auto offset = static_cast<std::uint32_t>(guest_physical % x86::page_size_4k);
    constexpr std::uint32_t register_alignment = 15;
    constexpr std::uint64_t by_instruction =
        vmx::EptViolation::linear_address_valid | vmx::EptViolation::of_linear_address;
    if ((offset & register_alignment) != 0 ||
        !vmx::EptViolation{get(vmx::field::exit_qualification)}.has(by_instruction) ||
        vmx::InterruptionInformation{get(vmx::field::idt_vectoring_information)}.is_valid()) {
        return false;
    }
    const auto store = read_store(cpu);
    if (!store) return false;
    constexpr std::uint8_t rsp = 4;
    std::uint64_t& source = cpu.frame.registers.by_number[store->register_number];
    const std::uint32_t value =
        store->immediate
            ? *store->immediate
            : static_cast<std::uint32_t>(store->register_number == rsp ? get(vmx::field::guest_rsp) : source);
    if (store->exchanges) {
        const std::uint32_t before = cpu.port.read_apic_page(offset);
        if (store->register_number == rsp) {
            put(vmx::field::guest_rsp, before);
        } else {
            source = before;
        }
    }
    cpu.port.local_apic().write_page(offset, value);
    // As behind every access that faults, RF is 1 in what the exit saved (SDM 3C 28.3.3).
    const std::uint64_t flags = get(vmx::field::guest_rflags);
    put(vmx::field::guest_rflags, flags & ~x86::rflags::resume);
    nested::complete_instruction(
        [&](auto what) {
            using Value = typename decltype(what)::Value;
            if (what.encoding == vmx::field::vm_exit_instruction_length.encoding)
                return static_cast<Value>(store->length);
            return static_cast<Value>(get(what));
        },
        [](auto what, auto word) { put(what, static_cast<typename decltype(what)::Value>(word)); }, flags);
    return true;
}

}  // namespace flatback::metal
