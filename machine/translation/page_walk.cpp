#include "machine/translation/page_walk.hpp"

#include "machine/rules/address.hpp"
#include "x86/paging_bits.hpp"

namespace flatback::machine {

namespace {

using namespace x86::page_entry;

constexpr std::uint64_t reserved_address_bits(unsigned physical_address_bits) {
    return physical_address_bits >= 52 ? 0
                                       : address_mask & ~((std::uint64_t{1} << physical_address_bits) - 1);
}

}  // namespace

namespace {

/// SDM 3A tables 4-4 to 4-6: of a page of 4 MBytes bit 21 is reserved, and of 20:13 what is beyond the
/// physical-address width, which counts for 40 bits at most.
PageEntryKind classify_entry_of_32_bits(const TranslationContext& context, unsigned level,
                                        std::uint64_t entry) noexcept {
    if (level == 1) return PageEntryKind::page;
    if ((entry & page_size) == 0 || !context.page_size_extensions) return PageEntryKind::table;
    const unsigned width = context.physical_address_bits < 40 ? context.physical_address_bits : 40;
    const std::uint64_t beyond = width <= 32 ? 0xFF : 0xFFU & ~((1U << (width - 32)) - 1);
    const std::uint64_t reserved = 1U << 21 | beyond << 13;
    return (entry & reserved) != 0 ? PageEntryKind::reserved_bit : PageEntryKind::page;
}

}  // namespace

PageEntryKind classify_page_entry(const TranslationContext& context, unsigned level,
                                  std::uint64_t entry) noexcept {
    if ((entry & present) == 0) return PageEntryKind::not_present;
    if (context.mode != PagingMode::four_level) [[unlikely]] {
        if (context.mode == PagingMode::bits_32) return classify_entry_of_32_bits(context, level, entry);
        // PAE paging ignores no bit of 62:52 (SDM 3A tables 4-9 to 4-11).
        constexpr std::uint64_t ignored_else = std::uint64_t{0x7FF} << 52;
        if ((entry & ignored_else) != 0) return PageEntryKind::reserved_bit;
    }
    if ((entry & reserved_address_bits(context.physical_address_bits)) != 0)
        return PageEntryKind::reserved_bit;
    if ((entry & execute_disable) != 0 && !context.execute_disable) return PageEntryKind::reserved_bit;
    const bool large = (entry & page_size) != 0;
    if (level == 4) return large ? PageEntryKind::reserved_bit : PageEntryKind::table;
    if (level == 1) return PageEntryKind::page;
    if (!large) return PageEntryKind::table;
    if (level == 3 && !context.pages_of_1g_supported) return PageEntryKind::reserved_bit;
    // Bit 12 is PAT; the address bits between it and the page are reserved.
    const std::uint64_t aligned = level == 3 ? address_mask_1g : address_mask_2m;
    const std::uint64_t reserved = address_mask & ~aligned & ~pat_large;
    return (entry & reserved) != 0 ? PageEntryKind::reserved_bit : PageEntryKind::page;
}

std::uint32_t page_fault_error(const TranslationContext& context, Access access, bool is_present,
                               bool reserved_bit) noexcept {
    std::uint32_t code = 0;
    if (is_present) code |= x86::page_fault::present;
    if (access.kind == AccessKind::write) code |= x86::page_fault::write;
    if (access.user) code |= x86::page_fault::user;
    if (reserved_bit) code |= x86::page_fault::reserved_bit;
    // The I/D bit is given where fetches can be told apart at all (SDM 3A 4.7).
    if (access.kind == AccessKind::fetch && (context.execute_disable || context.supervisor_no_execute_user)) {
        code |= x86::page_fault::instruction_fetch;
    }
    return code;
}

std::uint64_t final_violation(const TranslationContext& context, AccessKind kind, EptRights rights,
                              GuestRights guest_rights) noexcept {
    std::uint64_t qualification = violation::linear_address_valid | violation::final_translation |
                                  (std::uint64_t{rights} << violation::rights_shift);
    switch (kind) {
        case AccessKind::read:
            qualification |= violation::data_read;
            break;
        case AccessKind::write:
            qualification |= violation::data_write;
            break;
        case AccessKind::fetch:
            qualification |= violation::instruction_fetch;
            break;
    }
    if (context.ept.advanced_exit_information) {
        if (guest_rights.user) qualification |= violation::user_mode_address;
        if (guest_rights.writable) qualification |= violation::writable_address;
        if (guest_rights.execute_disable) qualification |= violation::execute_disable_address;
    }
    return qualification;
}

std::uint64_t structure_violation(const TranslationContext& context, EptRights rights, bool write) noexcept {
    std::uint64_t qualification =
        violation::linear_address_valid | (std::uint64_t{rights} << violation::rights_shift);
    if (context.ept.accessed_and_dirty()) {
        // Every access to a guest paging-structure entry counts as a write, and both bits are set (SDM 3C
        // table 28-7).
        qualification |= violation::data_read | violation::data_write;
    } else {
        qualification |= write ? violation::data_write : violation::data_read;
    }
    return qualification;
}

namespace {

/// The EPT walk of a table's address for reading an entry. False: the walk's outcome is an EPT event.
bool walk_table_ept(const PhysicalMemory& memory, const TranslationContext& context, PageWalk& walk,
                    PageWalkStep& step) {
    const PageWalkStep::EptKey key = {&memory, memory.structure_version(), step.table, context.ept,
                                      context.physical_address_bits};
    if (!(step.ept_of == key)) {
        walk_ept(memory, context.ept, context.physical_address_bits, step.table, ept_start(context.ept),
                 step.ept);
        step.ept_of = key;
    }
    if (step.ept.result == EptWalk::Result::misconfigured) {
        walk.outcome = Outcome::ept_misconfiguration(step.entry_address);
        return false;
    }
    const EptRights needed = context.ept.accessed_and_dirty() ? ept_read | ept_write : ept_read;
    if ((step.ept.rights & needed) != needed) {
        walk.outcome =
            Outcome::ept_violation(step.entry_address, structure_violation(context, step.ept.rights, false));
        return false;
    }
    step.position.table_host = step.ept.host_physical;
    return true;
}

/// With EPT, setting a flag in a paging-structure entry is a write to guest-physical memory.
bool flags_writable(const TranslationContext& context, PageWalk& walk, bool set_dirty) {
    for (unsigned index = 0; index < walk.reads; ++index) {
        const PageWalkStep& step = walk.steps[index];
        std::uint64_t flags = accessed;
        if (set_dirty && index + 1 == walk.reads) flags |= dirty;
        if ((step.entry & flags) == flags || (step.ept.rights & ept_write) != 0) continue;
        walk.outcome = Outcome::ept_violation(step.table + (step.entry_address & 0xFFF),
                                              structure_violation(context, step.ept.rights, true));
        return false;
    }
    return true;
}

void finish(const PhysicalMemory& memory, const TranslationContext& context, Access access, PageWalk& walk) {
    const PageMapping& mapping = walk.mapping;
    if (context.paging) {
        if (!permits(context, mapping.rights, access)) {
            walk.outcome = Outcome::page_fault(page_fault_error(context, access, true, false));
            return;
        }
    }
    if (!context.ept_in_use) {
        walk.outcome = Outcome::translated(mapping.physical);
        return;
    }
    if (context.paging && !flags_writable(context, walk, access.kind == AccessKind::write)) return;
    walk_ept(memory, context.ept, context.physical_address_bits, mapping.physical, ept_start(context.ept),
             walk.final_ept);
    walk.final_ept_walked = true;
    if (walk.final_ept.result == EptWalk::Result::misconfigured) {
        walk.outcome = Outcome::ept_misconfiguration(mapping.physical);
    } else if ((walk.final_ept.rights & needed_rights(access.kind)) == 0) {
        walk.outcome = Outcome::ept_violation(
            mapping.physical, final_violation(context, access.kind, walk.final_ept.rights, mapping.rights));
    } else {
        walk.outcome = Outcome::translated(walk.final_ept.host_physical);
    }
}

}  // namespace

void walk_pages(const PhysicalMemory& memory, const TranslationContext& context, std::uint64_t linear_address,
                Access access, PageWalk& walk) {
    walk.reads = 0;
    walk.accessed = true;
    walk.mapped = false;
    walk.final_ept_walked = false;
    if (!context.paging) {
        walk.mapped = true;
        walk.mapping = {linear_address, PageSize::size_4k, {}, false, true};
        finish(memory, context, access, walk);
        return;
    }
    std::uint64_t table = context.pml4;
    if (context.mode == PagingMode::pae) [[unlikely]] {
        const std::uint64_t pdpte = context.pdptes[linear_address >> 30 & 3];
        if ((pdpte & present) == 0) {
            walk.outcome = Outcome::page_fault(page_fault_error(context, access, false, false));
            return;
        }
        table = pdpte & address_mask;
    }
    GuestRights rights;
    for (unsigned level = context.top_level();; --level) {
        PageWalkStep& step = walk.steps[walk.reads];
        const std::uint64_t offset = page_entry_offset(context, linear_address, level);
        step.table = table;
        step.position = {table, level, rights};
        step.entry_address = table + offset;  // guest-physical until EPT has translated the table
        if (context.ept_in_use && !walk_table_ept(memory, context, walk, step)) return;
        step.entry_address = step.position.table_host + offset;
        step.entry = page_entry_of(context, step.entry_address, memory.read_structure(step.entry_address));
        ++walk.reads;
        walk.accessed = walk.accessed && (step.entry & accessed) != 0;
        switch (classify_page_entry(context, level, step.entry)) {
            case PageEntryKind::not_present:
                walk.outcome = Outcome::page_fault(page_fault_error(context, access, false, false));
                return;
            case PageEntryKind::reserved_bit:
                walk.outcome = Outcome::page_fault(page_fault_error(context, access, true, true));
                return;
            case PageEntryKind::table:
                rights = accumulate(rights, step.entry);
                table = step.entry & address_mask;
                break;
            case PageEntryKind::page:
                walk.mapped = true;
                walk.mapping = page_mapping(context, level, step.entry, rights, linear_address);
                finish(memory, context, access, walk);
                return;
        }
    }
}

void set_page_flags(PhysicalMemory& memory, const TranslationContext& context, const PageWalk& walk,
                    Access access) {
    const bool write = access.kind == AccessKind::write;
    for (unsigned index = 0; index < walk.reads; ++index) {
        const PageWalkStep& step = walk.steps[index];
        std::uint64_t flags = accessed;
        if (write && index + 1 == walk.reads) flags |= dirty;
        const bool changes = (step.entry & flags) != flags;
        if (context.ept_in_use) {
            set_ept_flags(memory, context.ept, step.ept, context.ept.accessed_and_dirty() || changes);
        }
        // An entry of four bytes may be the upper half of its quadword.
        if (changes) {
            const unsigned shift = 8 * (step.entry_address & 4);
            memory.write(step.entry_address, memory.read(step.entry_address) | flags << shift);
        }
    }
    if (context.ept_in_use && walk.final_ept_walked) {
        set_ept_flags(memory, context.ept, walk.final_ept, write);
    }
}

}  // namespace flatback::machine
