#include "metal/l0/apic_page.hpp"

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

enum class Sizes : std::uint8_t { bits_32, all };

template <Sizes Wanted>
[[gnu::always_inline]] inline std::optional<StoreInstruction> decode(Cpu& cpu, std::uint64_t rip,
                                                                     const RememberedStores::Code& code,
                                                                     CodeSize size) {
    if constexpr (Wanted == Sizes::bits_32) return cpu.apic_stores.decode(rip, code, size);
    return decode_store(code, size);
}

// Where the longest instruction would reach the next page, which is read only if this one does.
template <Sizes Wanted>
[[gnu::noinline]] std::optional<StoreInstruction> read_store_at_end_of_page(Cpu& cpu, std::uint64_t rip,
                                                                            std::uint64_t linear,
                                                                            CodeSize size) {
    RememberedStores::Code code{};
    const auto here = static_cast<unsigned>(x86::page_size_4k - linear % x86::page_size_4k);
    if (!cpu.vcpu.read_l1_code(linear, code.data(), here)) return std::nullopt;
    // Zeros follow: of an instruction that ends before them they say nothing.
    if (const auto store = decode<Wanted>(cpu, rip, code, size); store && store->length <= here) return store;
    if (!cpu.vcpu.read_l1_code(linear + here, code.data() + here, static_cast<unsigned>(code.size()) - here))
        return std::nullopt;
    return decode<Wanted>(cpu, rip, code, size);
}

// At the guest's RIP.
template <Sizes Wanted>
std::optional<StoreInstruction> read_store(Cpu& cpu) {
    const CodeSize size = code_size();
    const std::uint64_t rip = get(vmx::field::guest_rip);
    const std::uint64_t linear =
        size == CodeSize::bits_64 ? rip : (rip + get(vmx::field::guest_cs_base)) & 0xffffffff;
    RememberedStores::Code code{};
    if (linear % x86::page_size_4k > x86::page_size_4k - code.size()) [[unlikely]]
        return read_store_at_end_of_page<Wanted>(cpu, rip, linear, size);
    if (!cpu.vcpu.read_l1_code(linear, code.data(), code.size())) return std::nullopt;
    return decode<Wanted>(cpu, rip, code, size);
}

// The exit was caused by the write that an instruction names.
bool is_an_instructions_own() {
    constexpr std::uint64_t by_instruction = vmx::EptViolation::write |
                                             vmx::EptViolation::linear_address_valid |
                                             vmx::EptViolation::of_linear_address;
    return vmx::EptViolation{get(vmx::field::exit_qualification)}.has(by_instruction) &&
           !vmx::InterruptionInformation{get(vmx::field::idt_vectoring_information)}.is_valid();
}

void complete_store(const StoreInstruction& store) {
    // As behind every access that faults, RF is 1 in what the exit saved (SDM 3C 28.3.3).
    const std::uint64_t flags = get(vmx::field::guest_rflags);
    put(vmx::field::guest_rflags, flags & ~x86::rflags::resume);
    nested::complete_instruction(
        [&](auto what) {
            using Value = typename decltype(what)::Value;
            if (what.encoding == vmx::field::vm_exit_instruction_length.encoding)
                return static_cast<Value>(store.length);
            return static_cast<Value>(get(what));
        },
        [](auto what, auto word) { put(what, static_cast<typename decltype(what)::Value>(word)); }, flags);
}

constexpr std::uint8_t rsp = 4;

std::uint64_t read_register(Cpu& cpu, std::uint8_t number) {
    return number == rsp ? get(vmx::field::guest_rsp) : cpu.frame.registers.by_number[number];
}
void write_register(Cpu& cpu, std::uint8_t number, std::uint64_t value) {
    if (number == rsp) {
        put(vmx::field::guest_rsp, value);
    } else {
        cpu.frame.registers.by_number[number] = value;
    }
}

}  // namespace

bool emulate_apic_write(Cpu& cpu, std::uint64_t guest_physical) {
    const auto offset = static_cast<std::uint32_t>(guest_physical % x86::page_size_4k);
    constexpr std::uint32_t register_alignment = 15;
    if ((offset & register_alignment) != 0 || !is_an_instructions_own()) return false;
    const auto store = read_store<Sizes::bits_32>(cpu);
    if (!store) return false;
    const auto value = static_cast<std::uint32_t>(
        store->immediate ? *store->immediate : read_register(cpu, store->register_number));
    if (store->exchanges) write_register(cpu, store->register_number, cpu.port.read_apic_page(offset));
    cpu.port.local_apic().write_page(offset, value);
    complete_store(*store);
    return true;
}

bool emulate_register_write(Cpu& cpu, std::uint64_t guest_physical) {
    if (!is_an_instructions_own()) return false;
    const auto store = read_store<Sizes::all>(cpu);
    // At the page's first byte it may have begun on the page before.
    const std::uint64_t offset = guest_physical % x86::page_size_4k;
    if (!store || (offset == 0 && store->size > 1) || offset > x86::page_size_4k - store->size) return false;
    const std::uint64_t all = ~std::uint64_t{0} >> (64 - 8 * store->size);
    const unsigned shift = store->high_byte ? 8 : 0;
    const std::uint64_t source = read_register(cpu, store->register_number);
    const std::uint64_t value = (store->immediate ? *store->immediate : source >> shift) & all;
    if (store->exchanges) {
        const std::uint64_t before = KeptPages::read(guest_physical, store->size);
        // A write of 32 bits clears the others (SDM 1 3.4.1.1).
        const std::uint64_t kept = store->size == 4 ? 0 : source & ~(all << shift);
        write_register(cpu, store->register_number, kept | before << shift);
    }
    cpu.port.write_kept_register({guest_physical, store->size, value});
    complete_store(*store);
    return true;
}

}  // namespace flatback::metal
