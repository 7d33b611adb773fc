#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "machine/cpu/machine.hpp"
#include "machine/error.hpp"
#include "machine/rules/address.hpp"
#include "machine/translation/page_walk.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

namespace field = vmx::field;
using vmx::ExitReason;

Completion Machine::memory_access(unsigned number, const Instruction& instruction) {
    Cpu& cpu = cpus_[number];
    if (instruction.opcode == Opcode::prefetch) {
        if (auto* retentive = dynamic_cast<RetentiveTlb*>(cpu.tlb.get());
            retentive != nullptr && rules::is_canonical(instruction.address)) {
            retentive->prefetch(memory_, context(number), instruction.address,
                                {AccessKind::read, instruction.user});
        }
        return {};
    }
    Access access{AccessKind::read, instruction.user || cpu.registers.privilege_level() == 3};
    if (instruction.opcode == Opcode::store) access.kind = AccessKind::write;
    if (instruction.opcode == Opcode::fetch) access.kind = AccessKind::fetch;
    const std::uint64_t address = instruction.address & ~std::uint64_t{7};
    if (!rules::is_canonical(address)) return raise_general_protection(number);
    std::uint64_t host_physical = 0;
    if (auto fault = translate(number, address, access, host_physical)) return *fault;
    std::uint64_t& datum = cpu.registers.general[instruction.a];
    if (instruction.opcode == Opcode::store) {
        memory_.write(host_physical, datum);
    } else {
        datum = memory_.read(host_physical);
    }
    return done(cpu, instruction.opcode);
}

std::optional<Completion> Machine::translate(unsigned number, std::uint64_t linear_address, Access access,
                                             std::uint64_t& host_physical) {
    const TranslationContext& now = context(number);
    if (!now.paging && !now.ept_in_use) {
        // Without paging an address has at most 32 bits.
        host_physical = linear_address & 0xFFFF'FFFF;
        return std::nullopt;
    }
    const std::uint64_t translated = linear_in(now, linear_address);
    if (auto full = log_writes(number, now, translated, access)) return full;
    const Outcome outcome = cpus_[number].tlb->access(memory_, now, translated, access);
    if (outcome.is_translated()) {
        host_physical = outcome.physical;
        return std::nullopt;
    }
    return outcome_to_completion(number, translated, outcome);
}

namespace {

/// Flags of EPT entries that one guest-physical access has to set (SDM 3C 29.3.5), as memory is now.
struct MissingFlags {
    bool any = false;
    bool dirty = false;
};

MissingFlags missing_flags(const PhysicalMemory& memory, const EptWalk& walk, bool write) {
    constexpr std::uint64_t accessed_flag = 1U << 8;
    constexpr std::uint64_t dirty_flag = 1U << 9;
    MissingFlags missing;
    for (unsigned index = 0; index < walk.reads; ++index) {
        const std::uint64_t entry = memory.read(walk.entry_addresses[index]);
        if ((entry & accessed_flag) == 0) missing.any = true;
        if (write && index + 1 == walk.reads && (entry & dirty_flag) == 0) missing.any = missing.dirty = true;
    }
    return missing;
}

}  // namespace

/// With a log, a walk's accesses happen one by one, each with its flags, whatever comes of those behind it:
/// those to paging structures are writes (SDM 3C 29.3.5). What a cached translation would have spared is not
/// asked: software that changes flags invalidates before it looks at the log.
std::optional<Completion> Machine::log_writes(unsigned number, const TranslationContext& now,
                                              std::uint64_t linear_address, Access access) {
    const Cpu& cpu = cpus_[number];
    if (!cpu.in_non_root() || !now.ept_in_use || !now.ept.accessed_and_dirty()) return std::nullopt;
    Vmcs& vmcs = current(cpus_[number]);
    if ((secondary_controls(vmcs) & vmx::secondary::enable_pml) == 0) return std::nullopt;
    PageWalk walk;
    walk_pages(memory_, now, linear_address, access, walk);
    const auto meets_full_log = [&](const EptWalk& ept, std::uint64_t guest_physical, bool write) {
        const MissingFlags missing = missing_flags(memory_, ept, write);
        if (!missing.any) return false;
        constexpr std::uint16_t entries = 512;
        const std::uint16_t index = vmcs.get(field::pml_index);
        if (index >= entries) return true;
        EptWalk as_it_is = ept;
        for (unsigned read = 0; read < ept.reads; ++read)
            as_it_is.entries[read] = memory_.read(ept.entry_addresses[read]);
        set_ept_flags(memory_, now.ept, as_it_is, write);
        if (!missing.dirty) return false;
        memory_.write(vmcs.get(field::pml_address) + 8 * std::uint64_t{index},
                      guest_physical & ~(std::uint64_t{x86::page_size_4k} - 1));
        vmcs.set(field::pml_index, static_cast<std::uint16_t>(index - 1));
        return false;
    };
    bool full = false;
    for (unsigned index = 0; index < walk.reads && !full; ++index)
        full = meets_full_log(walk.steps[index].ept, walk.steps[index].table, true);
    if (!full && walk.final_ept_walked && walk.outcome.is_translated())
        full = meets_full_log(walk.final_ept, walk.mapping.physical, access.kind == AccessKind::write);
    if (!full) return std::nullopt;
    return vm_exit(number, {.reason = ExitReason::page_modification_log_full,
                            .qualification = cpu.iret_unblocks_nmis ? violation::nmi_unblocking_by_iret : 0});
}

Completion Machine::outcome_to_completion(unsigned number, std::uint64_t linear_address,
                                          const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::page_fault:
            return raise_page_fault(number, linear_address, outcome.error_code);
        case Outcome::Kind::ept_violation:
            return vm_exit(
                number,
                {.reason = ExitReason::ept_violation,
                 .qualification = outcome.exit_qualification |
                                  (cpus_[number].iret_unblocks_nmis ? violation::nmi_unblocking_by_iret : 0),
                 .guest_linear_address = linear_address,
                 .guest_physical_address = outcome.physical});
        case Outcome::Kind::ept_misconfiguration:
            return vm_exit(number, {.reason = ExitReason::ept_misconfiguration,
                                    .guest_physical_address = outcome.physical});
        case Outcome::Kind::translated:
            break;
    }
    return {};
}

std::optional<Completion> Machine::access_linear(unsigned number, std::uint64_t linear_address, Access access,
                                                 std::span<std::byte> bytes) {
    if (bytes.empty()) return std::nullopt;
    if (!rules::is_canonical(linear_address) || !rules::is_canonical(linear_address + bytes.size() - 1)) {
        return raise_general_protection(number);
    }
    // Both pages are translated before a byte moves.
    const std::uint64_t last = linear_address + bytes.size() - 1;
    std::array<std::uint64_t, 2> host_pages{};
    if (auto fault = translate(number, linear_address, access, host_pages[0])) return fault;
    const bool crosses = (linear_address ^ last) >> 12 != 0;
    if (crosses) {
        if (auto fault = translate(number, last & ~std::uint64_t{0xFFF}, access, host_pages[1])) return fault;
    }
    const std::size_t in_first = crosses ? x86::page_size_4k - (linear_address & 0xFFF) : bytes.size();
    if (access.kind == AccessKind::write) {
        memory_.write_bytes(host_pages[0], bytes.first(in_first));
        memory_.write_bytes(host_pages[1], bytes.subspan(in_first));
    } else {
        memory_.read_bytes(host_pages[0], bytes.first(in_first));
        memory_.read_bytes(host_pages[1], bytes.subspan(in_first));
    }
    return std::nullopt;
}

std::optional<Completion> Machine::read_linear(unsigned number, std::uint64_t linear_address,
                                               std::span<std::byte> bytes) {
    return access_linear(number, linear_address, own_access(number, AccessKind::read), bytes);
}

std::optional<Completion> Machine::write_linear(unsigned number, std::uint64_t linear_address,
                                                std::span<const std::byte> bytes) {
    std::array<std::byte, 16> copy{};
    std::ranges::copy(bytes, copy.begin());
    return access_linear(number, linear_address, own_access(number, AccessKind::write),
                         std::span(copy).first(bytes.size()));
}

std::optional<Completion> Machine::read_quadword(unsigned number, std::uint64_t linear_address,
                                                 std::uint64_t& value) {
    std::array<std::byte, 8> bytes{};
    if (auto fault = read_linear(number, linear_address, bytes)) return fault;
    std::memcpy(&value, bytes.data(), bytes.size());
    return std::nullopt;
}

}  // namespace flatback::machine
