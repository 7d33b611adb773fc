#include "watch/follower.hpp"

#include <utility>

#include "watch/vmcs_layout.hpp"

namespace flatback::watch {
namespace {

using machine::AccessKind;
namespace invalidation = machine::invalidation;

constexpr std::uint64_t region_mask = ~std::uint64_t{0xFFF};
constexpr std::uint64_t root_mask = 0x000F'FFFF'FFFF'F000;

constexpr std::uint64_t cr0_paging = std::uint64_t{1} << 31;
constexpr std::uint64_t cr0_write_protect = 1U << 16;
constexpr std::uint64_t cr4_page_global = 1U << 7;
constexpr std::uint64_t cr4_pcid = 1U << 17;
constexpr std::uint64_t primary_secondary_active = std::uint64_t{1} << 31;
constexpr std::uint64_t secondary_ept = 1U << 1;
constexpr std::uint64_t secondary_vpid = 1U << 5;
constexpr std::uint64_t entry_ia32e = 1U << 9;
constexpr std::uint64_t ept_entry_page = 1U << 7;  // in an EPT PDPTE or PDE
constexpr std::uint64_t reason_ept_violation = 48;
constexpr std::uint64_t reason_failed_entry = std::uint64_t{1} << 31;

/// Between BTS of bit 63 and the MOV to CR3 that it is for stand a jump or two.
constexpr std::uint64_t instructions_to_mov_to_cr3 = 8;

/// An address that nobody uses: what is said of "any address" below leaves all pages alone.
constexpr std::uint64_t no_address = 0x0000'7FFF'DEAD'F000;

std::string_view first_operand(std::string_view text) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return {};
    text.remove_prefix(space + 1);
    return text.substr(0, text.find_first_of(", "));
}

}  // namespace

Follower::Follower(const Options& options) : options_{options}, tlbs_{*options.geometry} {}

void Follower::take(const TraceLine& line) {
    if (line.processor != 0) return;
    switch (line.kind) {
        case TraceLine::Kind::instruction:
            take_instruction(line.instruction);
            break;
        case TraceLine::Kind::access:
            take_access(line.access);
            break;
        case TraceLine::Kind::other:
            break;
    }
}

WindowCounts Follower::end_window() {
    settle();
    count_until_here();
    WindowCounts window{.ticks = counting_ ? tick_ - counting_since_ : 0};
    for (std::size_t level = 0; level < window.levels.size(); ++level)
        window.levels[level] = counts_.levels[level] - counted_at_its_begin_[level];
    counted_at_its_begin_ = counts_.levels;
    tlbs_.reset();
    tlbs_.set_progress(std::nullopt);
    counted_until_ = {};
    known_ = modelled_ = in_guest_ = counting_ = warm_ = entering_ = false;
    root_awaited_ = flush_awaited_ = false;
    exit_ = {};
    pending_ = {};
    known_type_.reset();
    ept_way_ = {};
    l2_entries_of_window_ = instructions_of_window_ = 0;
    pcids_.clear();
    return window;
}

std::uint64_t Follower::counted_behind_warming() const {
    if (!warm_) return 0;
    std::uint64_t instructions = 0;
    for (std::size_t level = 0; level < counts_.levels.size(); ++level)
        instructions += counts_.levels[level].instructions - counted_at_its_begin_[level].instructions;
    return instructions;
}

const Counts& Follower::counts() {
    count_until_here();
    counts_.stale = tlbs_.stale();
    counts_.unexplained = tlbs_.unexplained();
    return counts_;
}

void Follower::take_instruction(const TracedInstruction& instruction) {
    settle();
    tick_ = instruction.tick;
    tlbs_.set_tick(tick_);
    ++instruction_number_;
    if (known_) ++instructions_of_window_;
    if (!warm_ && options_.warming_instructions != 0) begin_counting_when_warm();
    ++counts_.instructions;
    if (counting_) ++counts_.of(level_).instructions;
    if (usable() && instruction.in_64_bit_mode) {
        tlbs_.access(context_, instruction.instruction_pointer, instruction.physical, AccessKind::fetch);
    }
    note_bit_63(instruction.text);
    pending_ = {};
    pending_.operation = instruction.operation;
    switch (instruction.operation) {
        case Operation::vm_entry:
            if (!in_guest_) {
                entering_ = true;
                vmcs_ = {};
            }
            break;
        case Operation::mov_to_cr3: {
            std::array<char, 4> source{};
            const auto name = instruction.text.substr(sizeof "mov cr3, " - 1, 4);
            name.substr(0, name.find(' ')).copy(source.data(), source.size());
            pending_.keeps_translations = bit_63_set_at_ != 0 && source == bit_63_register_;
            bit_63_set_at_ = 0;
            break;
        }
        default:
            break;
    }
}

/// Remembers the register in which BTS has set bit 63, for as long as a MOV to CR3 may soon take it.
void Follower::note_bit_63(std::string_view text) {
    const auto name = first_operand(text);
    std::array<char, 4> destination{};
    name.substr(0, destination.size()).copy(destination.data(), destination.size());
    if (text.starts_with("bts ") && name.size() <= destination.size() && text.contains(", 0x3f")) {
        bit_63_set_at_ = instruction_number_;
        bit_63_register_ = destination;
    } else if (bit_63_set_at_ != 0 && (destination == bit_63_register_ ||
                                       instruction_number_ - bit_63_set_at_ > instructions_to_mov_to_cr3)) {
        bit_63_set_at_ = 0;
    }
}

void Follower::take_access(const TracedAccess& access) {
    switch (access.target) {
        case Target::vmcs:
            take_vmcs(access);
            return;
        case Target::page_structure:
        case Target::ept_structure:
            // A walk may be that of an access which a hidden instruction makes.
            if (pending_.operation != Operation::hidden) settle();
            take_structure(access);
            return;
        case Target::other:
            return;
        case Target::memory:
            break;
    }
    if (!access.has_linear) {
        if (access.direction == Direction::write)
            tlbs_.saw_store(access.physical, access.length, access.value);
        return;
    }
    // INVPCID's operand has 16 bytes, and nothing else says what it was.
    if (pending_.operation == Operation::hidden) pending_.accessed = access.length != 16;
    const bool descriptor =
        access.length == 16 && access.direction == Direction::read && !pending_.has_descriptor &&
        (pending_.operation == Operation::invvpid || pending_.operation == Operation::invept ||
         pending_.operation == Operation::invpcid);
    if (descriptor) {
        pending_.has_descriptor = true;
        pending_.descriptor_low = access.value[0];
        pending_.descriptor_high = access.value[1];
    } else if (pending_.operation != Operation::hidden) {
        settle();
    }
    if (usable()) {
        tlbs_.access(context_, access.linear, access.physical,
                     access.direction == Direction::read ? AccessKind::read : AccessKind::write);
    } else {
        ++counts_.unknown_context;
    }
    if (access.direction != Direction::write) return;
    tlbs_.saw_store(access.physical, access.length, access.value);
    if (access.physical == options_.progress && access.length == sizeof(std::uint64_t))
        tlbs_.set_progress(access.value[0]);
}

void Follower::take_vmcs(const TracedAccess& access) {
    namespace at = vmcs_offset;
    const std::uint64_t offset = access.physical & ~region_mask;
    const std::uint64_t value = access.value[0];
    if (access.direction == Direction::write) {
        switch (offset) {
            case at::vm_instruction_error:
                pending_.failed = true;
                entering_ = false;
                break;
            case at::exit_reason:
                // What the last instruction would have done, it has not: it exits.
                complete_entry();
                pending_ = {};
                exit_.seen = true;
                exit_.reason = value;
                break;
            case at::exit_qualification:
                exit_.qualification = value;
                break;
            case at::guest_linear_address:
                complete_entry();
                exit_.guest_linear = value;
                break;
            case at::guest_cr3:
                exit_.guest_cr3 = value;
                exit_.has_cr3 = true;
                break;
            default:
                break;
        }
        return;
    }
    if (!entering_) return;
    vmcs_.region = access.physical & region_mask;
    switch (offset) {
        case at::vpid:
            vmcs_.vpid = value;
            break;
        case at::ept_pointer:
            vmcs_.ept_pointer = value;
            break;
        case at::primary_controls:
            vmcs_.primary_controls = value;
            break;
        case at::secondary_controls:
            vmcs_.secondary_controls = value;
            break;
        case at::entry_controls:
            vmcs_.entry_controls = value;
            break;
        case at::guest_cr0:
            vmcs_.guest_cr0 = value;
            break;
        case at::guest_cr3:
            vmcs_.guest_cr3 = value;
            vmcs_.guest_read = true;
            break;
        case at::guest_cr4:
            vmcs_.guest_cr4 = value;
            break;
        case at::host_cr0:
            vmcs_.host_cr0 = value;
            break;
        case at::host_cr3:
            vmcs_.host_cr3 = value;
            break;
        case at::host_cr4:
            vmcs_.host_cr4 = value;
            break;
        default:
            break;
    }
}

void Follower::take_structure(const TracedAccess& access) {
    if (access.length != 8) return;
    const std::uint64_t entry = access.value[0];
    if (access.target == Target::page_structure && access.level == 4) {
        tlbs_.saw_root_entry(context_.vpid, access.physical, entry);
    } else {
        tlbs_.saw_structure(access.physical, entry);
    }
    const std::uint64_t index = access.physical >> 3 & 0x1FF;
    if (access.target == Target::ept_structure) {
        if (access.level == 4) ept_way_ = {};
        const unsigned shift = 3 + 9 * unsigned{access.level};
        ept_way_.guest_physical |= index << shift;
        const bool page = access.level == 1 || (access.level < 4 && (entry & ept_entry_page) != 0);
        ept_way_.shift = page ? shift : 0;
        ept_way_.host_page = entry & root_mask & ~((std::uint64_t{1} << shift) - 1);
        return;
    }
    if (access.level != 4 || !usable() || !context_.paging) return;
    // Where the walk begins is where CR3 points.
    std::uint64_t root = access.physical & region_mask;
    if (context_.ept_in_use) {
        if (ept_way_.shift == 0) return;
        root = ept_way_.guest_physical + (root - ept_way_.host_page);
    }
    if (root_awaited_ || root != context_.pml4) use_root(root);
}

void Follower::settle() {
    if (exit_.seen) {
        leave();
        return;
    }
    if (entering_) return complete_entry();
    if (pending_.operation != Operation::none) finish_operation();
}

void Follower::complete_entry() {
    if (entering_ && vmcs_.guest_read) enter();
}

void Follower::enter() {
    entering_ = false;
    known_type_.reset();
    pending_ = {};
    exit_ = {};
    const bool secondary = (vmcs_.primary_controls & primary_secondary_active) != 0;
    if (!secondary) vmcs_.secondary_controls = 0;
    if ((vmcs_.secondary_controls & secondary_vpid) == 0) vmcs_.vpid = 0;
    const bool l1 = options_.vmcs01 ? vmcs_.region == *options_.vmcs01 : vmcs_.vpid == 1;
    if (!known_) {
        known_ = true;
        counted_until_ = tlbs_.counters();
    }
    in_guest_ = true;
    if (vmcs_.vpid == 0) tlbs_.invalidate(invalidation::vm_transition_without_vpid());
    use_guest();
    set_level(l1 ? Level::l1 : Level::l2);
    if (!l1) ++l2_entries_of_window_;
    begin_counting_when_warm();
    if (counting_) ++counts_.of(level_).entries;
}

void Follower::leave() {
    const Exit exit = exit_;
    exit_ = {};
    bit_63_set_at_ = 0;
    pending_ = {};
    entering_ = false;
    if (!known_) return;
    const bool failed_entry = (exit.reason & reason_failed_entry) != 0;
    if (!failed_entry && exit.has_cr3 && in_guest_ && usable() && context_.paging) {
        if (root_awaited_ || (exit.guest_cr3 & root_mask) != context_.pml4) use_root(exit.guest_cr3);
    }
    // Qualification bit 7: the guest linear address is valid; bit 8: it was the access to its translation.
    constexpr std::uint64_t valid_and_final = 0x180;
    if (exit.reason == reason_ept_violation && usable() && in_guest_ &&
        (exit.qualification & valid_and_final) == valid_and_final) {
        const AccessKind kind = (exit.qualification & 4) != 0   ? AccessKind::fetch
                                : (exit.qualification & 2) != 0 ? AccessKind::write
                                                                : AccessKind::read;
        tlbs_.refused(context_, exit.guest_linear, kind);
    }
    if (context_.vpid == 0 && in_guest_) tlbs_.invalidate(invalidation::vm_transition_without_vpid());
    in_guest_ = false;
    root_awaited_ = flush_awaited_ = false;
    set_level(Level::l0);
    if (counting_) ++counts_.of(level_).entries;
    use_host();
}

void Follower::use_guest() {
    root_awaited_ = flush_awaited_ = false;
    context_ = {};
    context_.vpid = static_cast<std::uint16_t>(vmcs_.vpid);
    context_.ept_in_use = (vmcs_.secondary_controls & secondary_ept) != 0;
    context_.ept.eptp = context_.ept_in_use ? vmcs_.ept_pointer : 0;
    context_.paging = (vmcs_.guest_cr0 & cr0_paging) != 0;
    context_.write_protect = (vmcs_.guest_cr0 & cr0_write_protect) != 0;
    context_.page_global = (vmcs_.guest_cr4 & cr4_page_global) != 0;
    modelled_ = !context_.paging || (vmcs_.entry_controls & entry_ia32e) != 0;
    if (!context_.paging) return;
    context_.pml4 = vmcs_.guest_cr3 & root_mask;
    if ((vmcs_.guest_cr4 & cr4_pcid) != 0) context_.pcid = pcid_of(context_.pml4);
}

void Follower::use_host() {
    context_ = {};
    context_.write_protect = (vmcs_.host_cr0 & cr0_write_protect) != 0;
    context_.page_global = (vmcs_.host_cr4 & cr4_page_global) != 0;
    context_.pml4 = vmcs_.host_cr3 & root_mask;
    if ((vmcs_.host_cr4 & cr4_pcid) != 0) context_.pcid = pcid_of(context_.pml4);
    modelled_ = true;  // a host of 64 bits
}

/// The context's structures begin there.
void Follower::use_root(std::uint64_t cr3) {
    context_.pml4 = cr3 & root_mask;
    const std::uint64_t cr4 = in_guest_ ? vmcs_.guest_cr4 : vmcs_.host_cr4;
    if ((cr4 & cr4_pcid) != 0) context_.pcid = pcid_of(context_.pml4);
    if (flush_awaited_) {
        tlbs_.invalidate(invalidation::mov_cr3(context_.vpid, context_.pcid));
        count_flush();
    }
    root_awaited_ = flush_awaited_ = false;
}

machine::Invalidation Follower::invvpid(std::optional<std::uint8_t> type, const Pending& pending) {
    const auto target = static_cast<std::uint16_t>(pending.descriptor_low);
    // SDM 3C "INVVPID": individual-address, single-context, all-contexts, the same retaining globals.
    if (!type) type = target == 0 ? 2 : pending.descriptor_high != 0 ? 0 : 1;
    switch (*type) {
        case 0:
            return invalidation::invvpid_address(target, pending.descriptor_high);
        case 2:
            return invalidation::invvpid_all_contexts();
        case 3:
            return invalidation::invvpid_single_context_retaining_globals(target);
        default:
            return invalidation::invvpid_single_context(target);
    }
}

void Follower::finish_operation() {
    const Pending pending = pending_;
    pending_ = {};
    if (pending.failed) return;
    const std::uint16_t vpid = context_.vpid;
    const machine::Invalidation everything = invalidation::everything_of_vpid(vpid);
    switch (pending.operation) {
        case Operation::none:
        case Operation::vm_entry:
            break;
        case Operation::hidden:
            // One that makes no access may have been any that invalidates in its own VPID.
            if (!pending.accessed) tlbs_.invalidate({}, everything);
            break;
        case Operation::mov_to_cr0:
            // Only a MOV that clears PG invalidates, which is not seen.
            tlbs_.invalidate({}, everything);
            break;
        case Operation::mov_to_cr4:
            tlbs_.invalidate(everything);
            count_flush();
            break;
        case Operation::mov_to_cr3: {
            if (counting_) ++counts_.of(level_).mov_to_cr3;
            const bool pcids = ((in_guest_ ? vmcs_.guest_cr4 : vmcs_.host_cr4) & cr4_pcid) != 0;
            // The last one's root was never seen: whose translations it dropped is not known.
            if (flush_awaited_)
                tlbs_.invalidate({}, invalidation::invpcid_all_contexts_retaining_globals(vpid));
            root_awaited_ = true;
            flush_awaited_ = pcids && !pending.keeps_translations;
            if (!pcids) {
                tlbs_.invalidate(invalidation::mov_cr3(vpid, 0));
                count_flush();
            }
            break;
        }
        case Operation::invlpg: {
            ++counts_.invlpg;
            const machine::LinearScope all{.vpid = vpid, .pcid = context_.pcid};
            tlbs_.invalidate(invalidation::invlpg(vpid, context_.pcid, no_address), {.linear = all});
            break;
        }
        case Operation::invpcid: {
            ++counts_.invpcid;
            if (pending.has_descriptor && pending.descriptor_high != 0) {
                // Type 0. The trace's PCIDs are not ours.
                tlbs_.invalidate(invalidation::invvpid_address(vpid, pending.descriptor_high));
            } else {
                tlbs_.invalidate(everything);
                count_flush();
            }
            break;
        }
        case Operation::invvpid: {
            if (in_guest_ || !pending.has_descriptor) break;
            ++counts_.invvpid;
            tlbs_.invalidate(invvpid(std::exchange(known_type_, std::nullopt), pending));
            break;
        }
        case Operation::invept: {
            if (in_guest_ || !pending.has_descriptor) break;
            ++counts_.invept;
            constexpr std::uint8_t all_contexts = 2;
            const auto type = std::exchange(known_type_, std::nullopt);
            const bool all = type ? *type == all_contexts : pending.descriptor_low == 0;
            tlbs_.invalidate(
                all ? invalidation::invept_all_contexts()
                    : invalidation::invept_single_context(machine::ep4ta_of(pending.descriptor_low)));
            break;
        }
    }
}

/// A window that is warm by instructions may end before: until then it is counted from its first L2 entries
/// on.
void Follower::begin_counting_when_warm() {
    if (!known_ || warm_) return;
    const bool by_entries = l2_entries_of_window_ > options_.warming_l2_entries;
    warm_ = options_.warming_instructions != 0 ? instructions_of_window_ >= options_.warming_instructions
                                               : by_entries;
    if (!warm_ && (counting_ || !by_entries)) return;
    if (!counting_) ++counts_.windows;
    counting_ = true;
    counting_since_ = tick_;
    counts_.levels = counted_at_its_begin_;
    counted_until_ = tlbs_.counters();
}

void Follower::count_flush() {
    if (counting_) ++counts_.of(level_).flushes;
}

void Follower::set_level(Level level) {
    if (level == level_) return;
    count_until_here();
    level_ = level;
}

void Follower::count_until_here() {
    const machine::TlbCounters now = tlbs_.counters();
    if (counting_) counts_.of(level_).tlb += now - counted_until_;
    counted_until_ = now;
}

/// A number for the root, in the place of the PCID, which the trace does not always show: software gives a
/// root a PCID with a flush, or keeps it, so that by root or by PCID the same is cached.
std::uint16_t Follower::pcid_of(std::uint64_t root) {
    constexpr std::size_t most = 4000;
    const auto found = pcids_.find(root);
    if (found != pcids_.end()) return found->second;
    if (pcids_.size() >= most) {
        // More than there are: what was cached under them is given up.
        pcids_.clear();
        tlbs_.invalidate({.linear = machine::LinearScope{.vpids = machine::LinearScope::Vpids::every}});
    }
    const auto number = static_cast<std::uint16_t>(pcids_.size() + 1);
    pcids_.emplace(root, number);
    return number;
}

}  // namespace flatback::watch
