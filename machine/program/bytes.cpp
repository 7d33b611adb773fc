#include "machine/program/bytes.hpp"

#include <array>

#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"
#include "vmx/field_table.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

namespace {

/// One of a set, by a byte.
template <std::size_t Count>
std::uint64_t choose(const std::array<std::uint64_t, Count>& set, std::uint8_t byte) {
    return set[byte % Count];
}

constexpr std::array<std::uint64_t, 8> linear_addresses = {
    0x4000'0000,      0x4000'1000,           0x4020'0000,      0x4000'0FF8,
    0x8000'0000'0000, 0xFFFF'8000'0000'0000, 0x7FFF'FFFF'F000, layout::scratch(0)};
constexpr std::array<std::uint64_t, 4> data_pages = {layout::data_page(0), layout::data_page(1),
                                                     layout::data_page(2), layout::data_page(3)};
constexpr std::array<std::uint64_t, 8> vpids = {1, 2, 3, 0, 0xFFFF, 0x1'0001, std::uint64_t{1} << 63, 4};
constexpr std::array<std::uint64_t, 8> interrupt_vectors = {0x30, 0x31, 0x41, 0x52, 0x10, 0x0F, 0xFF, 0xE0};
constexpr std::array<std::uint64_t, 8> types = {1, 0, 2, 3, 4, 64, ~std::uint64_t{0}, std::uint64_t{1} << 63};
constexpr std::array<std::uint64_t, 6> eptps = {layout::eptp(0),           layout::eptp(1),
                                                layout::eptp(0) | 1U << 6, layout::eptp(0) | 1U << 8,
                                                layout::eptp(2),           0};
constexpr std::array<std::uint64_t, 8> page_flags = {7,   0x107, 1, 0x67, 5, std::uint64_t{1} << 63 | 7,
                                                     0x3, 0};
constexpr std::array<std::uint64_t, 8> ept_flags = {0x37, 0x31, 0x35, 0x34, 0x32, 0x30, 0x337, 0x17};
constexpr std::uint64_t cr4_base =
    x86::cr4::physical_address_extension | x86::cr4::vmx_enable | x86::cr4::page_global_enable;
constexpr std::array<std::uint64_t, 6> cr4_values = {cr4_base,
                                                     cr4_base & ~x86::cr4::page_global_enable,
                                                     cr4_base | x86::cr4::pcid_enable,
                                                     cr4_base | x86::cr4::smep_enable,
                                                     cr4_base | x86::cr4::smap_enable,
                                                     cr4_base & ~x86::cr4::vmx_enable};
constexpr std::uint64_t cr0_base = x86::cr0::protection_enable | x86::cr0::extension_type |
                                   x86::cr0::numeric_error | x86::cr0::write_protect | x86::cr0::paging;
constexpr std::array<std::uint64_t, 4> cr0_values = {cr0_base, cr0_base & ~x86::cr0::write_protect,
                                                     cr0_base & ~x86::cr0::paging,
                                                     cr0_base | x86::cr0::task_switched};

std::uint64_t pointer(std::uint8_t byte) {
    switch (byte % 8) {
        case 5:
            return layout::vmxon_region(0);
        case 6:
            return layout::vmcs_region(0) + 8;
        case 7:
            return layout::data_page(0);
        default:
            return layout::vmcs_region(byte % 5);
    }
}

std::uint64_t cr3_value(std::uint8_t a, std::uint8_t b) {
    std::uint64_t value = layout::page_root(a % 3);
    if ((b & 1) != 0) value |= 1 + (b >> 1 & 1);
    if ((b & 4) != 0) value |= std::uint64_t{1} << 63;
    return value;
}

/// Fields that steer an entry, and values near what is good.
std::pair<std::uint64_t, std::uint64_t> field_and_value(std::uint8_t a, std::uint8_t b) {
    namespace field = vmx::field;
    switch (a % 8) {
        case 0:
            return {field::virtual_processor_identifier.encoding, choose(vpids, b)};
        case 1:
            return {field::ept_pointer.encoding, choose(eptps, b)};
        case 2:
            return {field::guest_cr3.encoding,
                    cr3_value(b, static_cast<std::uint8_t>(b >> 3)) & ~(std::uint64_t{1} << 63)};
        case 3:
            return {field::secondary_processor_based_vm_execution_controls.encoding, (b & 0x7FU) | (b & 0x80U)
                                                                                                       << 5};
        case 4:
            return {field::exception_bitmap.encoding, b == 0 ? 0 : std::uint64_t{1} << (b % 32)};
        case 5:
            return {field::guest_cr4.encoding, choose(cr4_values, b)};
        default:
            return {vmx::all_fields[(a * 8U + b) % vmx::field_count].encoding, b * 0x0101'0101'0101'0101ULL};
    }
}

Step decode(std::uint8_t what, std::uint8_t who, std::uint8_t a, std::uint8_t b) {
    Step step;
    step.kind = static_cast<StepKind>(what % step_kind_count);
    step.vcpu = static_cast<std::uint8_t>(who >> 1 & 1);
    step.vm = static_cast<std::uint8_t>((who & 0xC0) == 0xC0 ? 1 : 0);
    step.actor = (who & 1) != 0 ? Actor::l2 : Actor::l1;
    if (step.kind >= StepKind::map) step.actor = Actor::edit;
    if (step.kind >= StepKind::create_vm) step.actor = Actor::l0;
    auto& operands = step.operands;
    const std::uint64_t ordinary_address = linear_addresses[a % 3];
    switch (step.kind) {
        case StepKind::load:
        case StepKind::fetch:
            operands = {choose(linear_addresses, a), b & 1U};
            break;
        case StepKind::store:
            operands = {choose(linear_addresses, a), b, b / 128U};
            break;
        case StepKind::prefetch:
        case StepKind::invlpg:
            operands = {choose(linear_addresses, a)};
            break;
        case StepKind::mov_to_cr0:
            operands = {choose(cr0_values, a)};
            break;
        case StepKind::mov_to_cr3:
            operands = {cr3_value(a, b)};
            break;
        case StepKind::mov_to_cr4:
            operands = {choose(cr4_values, a)};
            break;
        case StepKind::invpcid:
            operands = {choose(types, a), b % 3U, linear_addresses[b / 3U % 8]};
            break;
        case StepKind::rdmsr:
            operands = {0xC000'0080 + a % 5U};
            break;
        case StepKind::wrmsr:
            operands = {0xC000'0080 + a % 5U, b};
            break;
        case StepKind::out:
            operands = {a * 256ULL + b};
            break;
        case StepKind::vmxon:
            operands = {(a & 7) == 7 ? pointer(b) : layout::vmxon_region(step.vcpu)};
            break;
        case StepKind::vmclear:
        case StepKind::vmptrld:
            operands = {pointer(a)};
            break;
        case StepKind::vmread:
            operands = {field_and_value(a, b).first};
            break;
        case StepKind::vmwrite: {
            const auto [encoding, value] = field_and_value(a, b);
            operands = {encoding, value};
            break;
        }
        case StepKind::vmfunc:
            operands = {a % 2U, b};
            break;
        case StepKind::invept:
            operands = {choose(types, a), choose(eptps, b)};
            break;
        case StepKind::invvpid:
            operands = {choose(types, a), choose(vpids, b), linear_addresses[b / 8U % 8]};
            break;
        case StepKind::invept_at:
        case StepKind::invvpid_at:
            operands = {choose(types, a), choose(linear_addresses, b)};
            break;
        case StepKind::prepare:
            operands = {layout::vmcs_region(a % 4U), b % 4U, b / 4U % 3, a / 4U % 2 + 1};
            break;
        case StepKind::map:
            operands = {a % 3U, linear_addresses[a / 3U % 3], data_pages[b % 4], page_flags[b / 4U % 8],
                        b / 128U};
            break;
        case StepKind::unmap:
            operands = {a % 3U, ordinary_address, 0};
            break;
        case StepKind::ept_map:
            operands = {a % 2U, data_pages[a / 2U % 4], data_pages[b % 4], ept_flags[b / 4U % 8], b / 128U};
            break;
        case StepKind::ept_unmap:
            operands = {a % 2U, data_pages[b % 4], 0};
            break;
        case StepKind::poke:
            operands = {data_pages[a % 4] + 8U * (b % 8U), b};
            break;
        case StepKind::create_vm:
            operands = {1U + a % 2U};
            break;
        case StepKind::move_vcpu:
            operands = {a % 2U};
            break;
        case StepKind::take_page:
            operands = {data_pages[a % 4]};
            break;
        case StepKind::iret:
            operands = {ordinary_address};
            break;
        case StepKind::int_n:
            operands = {a};
            break;
        case StepKind::lidt:
            operands = {choose(linear_addresses, a) & ~std::uint64_t{0xFFF}, b * 16U};
            break;
        case StepKind::nmi:
        case StepKind::init:
            operands = {a % 2U};
            break;
        case StepKind::interrupt:
            operands = {choose(interrupt_vectors, a), b % 2U};
            break;
        case StepKind::tpr:
            operands = {a % 16U * 16U};
            break;
        case StepKind::start_up:
            operands = {a};
            break;
        default:
            break;
    }
    return step;
}

}  // namespace

Result<Program, std::string> program_from_bytes(std::span<const std::uint8_t> bytes, std::size_t limit) {
    Program program;
    const std::size_t count = (bytes.size() + 3) / 4;
    if (count > limit) {
        return Refused("byte " + std::to_string(4 * limit) + ": a program has at most " +
                       std::to_string(limit) + " steps");
    }
    program.steps.reserve(count);
    for (std::size_t index = 0; index < count; ++index) {
        const auto byte = [&](std::size_t offset) {
            const std::size_t place = 4 * index + offset;
            return place < bytes.size() ? bytes[place] : std::uint8_t{0};
        };
        program.steps.push_back(decode(byte(0), byte(1), byte(2), byte(3)));
    }
    return program;
}

}  // namespace flatback::machine
