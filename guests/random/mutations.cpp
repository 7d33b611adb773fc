#include "guests/random/mutations.hpp"

#include "guests/bare/l1/capabilities.hpp"
#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/vmx_instructions.hpp"
#include "guests/random/fields.hpp"
#include "guests/random/log.hpp"
#include "guests/random/msr_lists.hpp"
#include "guests/random/world.hpp"
#include "vmx/field_table.hpp"

namespace flatback::guests {
namespace {

// A guest-state field that may hold anything: L2 reaches nothing but its sandbox.
bool may_be_changed(std::uint32_t encoding) {
    if (vmx::kind(encoding) != vmx::FieldKind::guest_state) return false;
    for (const std::uint32_t kept : {
             field::guest_interrupt_status.encoding,
             field::pml_index.encoding,
             field::guest_ia32_perf_global_ctrl.encoding,
             field::guest_ia32_bndcfgs.encoding,
             // Drawn below, or what ends an L2 that loops.
             field::vmx_preemption_timer_value.encoding,
             field::guest_activity_state.encoding,
             field::vmcs_link_pointer.encoding,
             // The emulator takes reserved bits, and of IA32_DEBUGCTL keeps none.
             field::guest_ia32_debugctl.encoding,
             field::guest_pending_debug_exceptions.encoding,
         })
        if (encoding == kept) return false;
    return true;
}

struct Value {
    std::uint32_t encoding;
    std::uint64_t clear;
    std::uint64_t set;
    std::uint32_t primary = 0;  // the control without which nobody looks at the field
};

constexpr std::uint64_t everything = ~std::uint64_t{0};
constexpr std::uint64_t beyond = 1ULL << 46;  // of every physical-address width that the emulator has

// Controls that SDM 3C 27.2.1 refuses ("entry to SMM" is left out: the emulator refuses it too late). No set
// of controls that lets L2 go on for ever is among them: each is refused.
constexpr Value bad_controls[] = {
    {field::pin_based_vm_execution_controls.encoding, 0x16, 0},
    {field::pin_based_vm_execution_controls.encoding, 0, 1U << 31},
    {field::pin_based_vm_execution_controls.encoding, pin::nmi_exiting, pin::virtual_nmis},
    {field::primary_processor_based_vm_execution_controls.encoding, 1U << 1, 0},
    {field::primary_processor_based_vm_execution_controls.encoding, 0, 1},
    {field::secondary_processor_based_vm_execution_controls.encoding, 0, 1U << 31},
    {field::secondary_processor_based_vm_execution_controls.encoding, secondary::enable_ept,
     secondary::unrestricted_guest},
    {field::cr3_target_count.encoding, everything, 5},
    {field::cr3_target_count.encoding, everything, 0xFFFFFFFF},
    {field::address_of_io_bitmap_a.encoding, 0, 8, primary::use_io_bitmaps},
    {field::address_of_io_bitmap_b.encoding, 0, beyond, primary::use_io_bitmaps},
    {field::address_of_msr_bitmaps.encoding, 0, 0x800, primary::use_msr_bitmaps},
    {field::address_of_msr_bitmaps.encoding, 0, beyond, primary::use_msr_bitmaps},
    {field::virtual_apic_address.encoding, 0, 1, primary::use_tpr_shadow},
    {field::tpr_threshold.encoding, everything, 0x10, primary::use_tpr_shadow},
    {field::tpr_threshold.encoding, everything, 0xF, primary::use_tpr_shadow},
    {field::virtual_processor_identifier.encoding, everything, 0},
    {field::ept_pointer.encoding, 7, 1},
    {field::ept_pointer.encoding, 0x38, 0x10},
    {field::ept_pointer.encoding, 0, 0x80},
    {field::ept_pointer.encoding, 0, beyond},
    {field::vm_exit_controls.encoding, 1, 0},
    {field::vm_exit_controls.encoding, 0, 1U << 31},
    {field::vm_exit_msr_store_address.encoding, 0, 8},
    {field::vm_exit_msr_load_address.encoding, 0, beyond},
    {field::vm_entry_msr_load_address.encoding, 0, 4},
    {field::vm_entry_msr_load_address.encoding, 0, everything << 4},
    {field::vm_entry_controls.encoding, 1, 0},
    {field::vm_entry_interruption_information.encoding, everything, 0x80000101},
    {field::vm_entry_interruption_information.encoding, everything, 0x80001D00},
    {field::vm_entry_interruption_information.encoding, everything, 0x80000203},
    {field::vm_entry_interruption_information.encoding, everything, 0x80000B03},
    {field::vm_entry_interruption_information.encoding, everything, 0x80000320},
    {field::vm_entry_interruption_information.encoding, everything, 0x80000B06},
};

// Host state that SDM 3C 27.2.2 to 27.2.4 refuse.
constexpr Value bad_host[] = {
    {field::host_cr0.encoding, 1, 0},
    {field::host_cr0.encoding, 0x80000000, 0},
    {field::host_cr0.encoding, 0x20, 0},
    {field::host_cr4.encoding, 0x2000, 0},
    {field::host_cr4.encoding, 0x20, 0},
    {field::host_cr4.encoding, 0, 1ULL << 40},
    {field::host_cr3.encoding, 0, beyond},
    {field::host_ia32_sysenter_esp.encoding, everything, 0x800000000000},
    {field::host_ia32_sysenter_eip.encoding, everything, 0xFFFF7FFFFFFFFFFF},
    {field::host_ia32_pat.encoding, everything, 0x0206060606060606},
    {field::host_ia32_pat.encoding, 0, 0x08},
    {field::host_ia32_efer.encoding, 0x400, 0},
    {field::host_ia32_efer.encoding, 0, 2},
    {field::host_cs_selector.encoding, everything, 0},
    {field::host_tr_selector.encoding, everything, 0},
    {field::host_ss_selector.encoding, 0, 3},
    {field::host_ds_selector.encoding, 0, 4},
    {field::host_fs_base.encoding, everything, 0x8000000000000000},
    {field::host_gs_base.encoding, everything, 0x0000800000000000},
    {field::host_tr_base.encoding, 0, 1ULL << 60},
    {field::host_gdtr_base.encoding, 0, 1ULL << 60},
    {field::host_idtr_base.encoding, 0, 1ULL << 60},
    {field::host_rip.encoding, 0, 1ULL << 60},
    {field::vm_exit_controls.encoding, exit_control::host_address_space_size, 0},
};

// The VPID's field exists where the control does; a VMREAD of it would leave its error number behind.
bool is_there(std::uint32_t encoding) {
    return encoding != field::virtual_processor_identifier.encoding ||
           capabilities.secondary.may_set(secondary::enable_vpid);
}

bool uses_pdptes() {
    constexpr std::uint64_t pae = 0x20;
    constexpr std::uint64_t paging = 0x80000000;
    return (read(field::guest_cr4) & pae) != 0 && (read(field::guest_cr0) & paging) != 0 &&
           (read(field::vm_entry_controls) & entry_control::ia32e_mode_guest) == 0;
}

}  // namespace

void Mutations::set(std::uint32_t encoding, std::uint64_t value, Line& line) {
    if (count_ == most) return;
    const std::uint64_t before = read_raw(encoding);
    changes_[count_++] = {encoding, before};
    write_raw(encoding, value);
    world.guest_written[current_vmcs()] = true;
    line << " " << vmx::name_of(encoding);
    const std::uint64_t now = read_raw(encoding);
    const std::uint64_t page = now & (beyond - 1) & ~(page_size - 1);
    if (hidden_ == encoding && page == places.hidden)
        put(line, "hidden", now - page);
    else
        put(line, "is", now);
}

void Mutations::add(Random& random, bool alone, Line& line) {
    std::uint64_t kind = random.below(16);
    if (uses_pdptes() && has_ept() && random.one_in(3)) kind = 7;
    // Which of a bad control and a bad host is found, and told by the error number, is the processor's choice
    // (SDM 3C 27.2).
    if (kind < 5 && count_ != 0) kind = 15;
    // What the link pointer and the PDPTEs get as the exit qualification depends on the order of the checks,
    // which is the processor's (SDM 3C 27.3): there is nothing else to fail.
    const bool has_qualification = kind == 5 || kind == 7;
    if (is_complete_) return;
    if (has_qualification && (!alone || count_ != 0 || (kind == 7 && !has_ept()))) kind = 15;
    is_complete_ = kind == 5 || kind == 7;
    must_be_undone_ |= is_complete_ || kind < 5;
    if (kind < 3) return add_control(random, line);
    if (kind < 5) return add_host(random, line);
    if (kind == 5) return add_link_pointer(random, line);
    if (kind == 6) return add_activity(random, line);
    if (kind == 7) return add_pdpte(random, line);
    if (kind < 11) return add_to_segment(random, line);
    add_to_guest_state(random, line);
}

void Mutations::add_control(Random& random, Line& line) {
    const Value& value = bad_controls[random.below(std::size(bad_controls))];
    if (!is_there(value.encoding)) return;
    constexpr std::uint32_t primary = field::primary_processor_based_vm_execution_controls.encoding;
    const std::uint64_t controls = read_raw(primary);
    if ((controls & value.primary) != value.primary && capabilities.primary.may_set(value.primary))
        set(primary, controls | value.primary, line);
    set(value.encoding, (read_raw(value.encoding) & ~value.clear) | value.set, line);
}

void Mutations::add_host(Random& random, Line& line) {
    const Value& value = bad_host[random.below(std::size(bad_host))];
    set(value.encoding, (read_raw(value.encoding) & ~value.clear) | value.set, line);
}

void Mutations::add_link_pointer(Random& random, Line& line) {
    set(field::vmcs_link_pointer.encoding,
        random.number({physical(world.vmcs[2]), physical(world.vmcs[2]) | 8, beyond, physical(world.sandbox),
                       std::uint64_t{0xFFFFFFFF}}),
        line);
}

void Mutations::add_activity(Random& random, Line& line) {
    set(field::guest_activity_state.encoding, random.number({4ULL, 7ULL, 0x80000000ULL}), line);
}

void Mutations::add_pdpte(Random& random, Line& line) {
    must_be_undone_ = true;
    const std::uint64_t number = random.below(4);
    const auto encoding = static_cast<std::uint32_t>(field::guest_pdpte0.encoding + 2 * number);
    set(encoding, random.number({0x3ULL, 0x1E7ULL, beyond | 1, 0x3001ULL, 2ULL}), line);
}

// A list to be loaded, in half of the cases with an entry that fails.
void Mutations::add_to_list(Random& random, Line& line) {
    const std::uint64_t count = 1 + random.below(3);
    draw_entry_list(random, count);
    if (random.one_in(2)) {
        const std::uint64_t bad = random.below(count);
        spoil_entry_list(random, bad);
        put(line, "bad", bad);
    }
    set(field::vm_entry_msr_load_count.encoding, count, line);
}

void Mutations::add(Kind kind, Random& random, Line& line) {
    switch (kind) {
        case Kind::control:
            return add_control(random, line);
        case Kind::host:
            return add_host(random, line);
        case Kind::guest:
            return random.one_in(4) ? add_activity(random, line) : add_to_guest_state(random, line);
        case Kind::segment:
            return add_to_segment(random, line);
        case Kind::pointer:
            return uses_pdptes() && has_ept() ? add_pdpte(random, line) : add_link_pointer(random, line);
        case Kind::list:
            return add_to_list(random, line);
        case Kind::launch_state:
            if (random.one_in(3)) {
                is_behind_mov_ss_ = true;
            } else {
                has_other_launch_state_ = true;
            }
    }
}

void Mutations::add_pair(Random& random, bool alone, Line& line) {
    constexpr Kind kinds[] = {Kind::control, Kind::control, Kind::host, Kind::guest,
                              Kind::segment, Kind::pointer, Kind::list, Kind::launch_state};
    const Kind first = random.of(kinds);
    Kind second = first;
    while (second == first) second = random.of(kinds);
    const auto has = [first, second](Kind kind) { return first == kind || second == kind; };
    line << " pair";
    add(first, random, line);
    add(second, random, line);
    must_be_undone_ = true;
    is_error_number_free_ = has(Kind::control) && has(Kind::host);
    is_qualification_free_ = has(Kind::pointer) && (!alone || has(Kind::guest) || has(Kind::segment));
}

void Mutations::add_to_guest_state(Random& random, Line& line) {
    std::uint32_t encoding = 0;
    do {
        encoding = vmx::all_fields[random.below(vmx::field_count)].encoding;
        // Without EPT it would lead L2 to any of L1's memory.
        // Nor has it PDPTEs in the VMCS.
    } while (!may_be_changed(encoding) ||
             (!has_ept() && (encoding == field::guest_cr3.encoding || is_pdpte(encoding))));
    const unsigned bits = vmx::width(encoding) == vmx::FieldWidth::bits16   ? 16
                          : vmx::width(encoding) == vmx::FieldWidth::bits32 ? 32
                                                                            : 64;
    // The emulator enters at a non-canonical RIP.
    const bool is_rip = encoding == field::guest_rip.encoding;
    const std::uint64_t flipped = read_raw(encoding) ^ 1ULL << random.below(is_rip ? 20 : bits);
    if (is_rip || !random.one_in(4)) return set(encoding, flipped, line);
    set(encoding, random.number({std::uint64_t{0}, everything, 0x800000000000ULL, 0x10000ULL, random.bits()}),
        line);
}

// Segments as the rules of SDM 3C 27.3.1.2 part them: what is legal of it, L2 runs with.
void Mutations::add_to_segment(Random& random, Line& line) {
    constexpr unsigned registers = 8;  // ES, CS, SS, DS, FS, GS, LDTR, TR
    const auto number = static_cast<std::uint32_t>(2 * random.below(registers));
    const std::uint32_t limit = field::guest_es_limit.encoding + number;
    const std::uint32_t rights = field::guest_es_access_rights.encoding + number;
    const std::uint32_t base = field::guest_es_base.encoding + number;
    const std::uint64_t rights_now = read_raw(rights);
    constexpr std::uint64_t unusable = 0x10000;
    constexpr std::uint64_t granularity = 0x8000;
    switch (random.below(6)) {
        case 0:
            // With G and without it.
            set(limit,
                random.number({0xFFFULL, 0xFFFFULL, 0xFFFFFULL, 0x100FFFULL, 0x37FFFULL, 0x31000ULL, 0ULL}),
                line);
            if (random.one_in(2)) set(rights, rights_now ^ granularity, line);
            return;
        case 1:
            // Its type.
            return set(rights, (rights_now & ~0xFULL) | random.below(16), line);
        case 2:
            return set(rights, rights_now ^ random.bit_of(0xF0 | 0x6000 | 0xF00 | 0xFFFE0000), line);
        case 3:
            return set(rights, random.one_in(2) ? unusable : rights_now | unusable | random.some_of(0xFFFF),
                       line);
        case 4:
            return set(field::guest_es_selector.encoding + number,
                       read_raw(field::guest_es_selector.encoding + number) ^ random.bit_of(7), line);
        default:
            set(base,
                random.number({read_raw(base) + 0x1000, read_raw(base) ^ 0x100000000, 0x7FFFFFFFF000ULL,
                               0x800000000000ULL, 0xFFFFFFFF00000000ULL}),
                line);
    }
}

void Mutations::place_elsewhere(Random& random, Line& line) {
    struct Structure {
        std::uint32_t encoding;
        const Page* usual;
    };
    const Structure structures[] = {
        {field::address_of_io_bitmap_a.encoding, world.io_bitmap_a},
        {field::address_of_io_bitmap_b.encoding, world.io_bitmap_b},
        {field::address_of_msr_bitmaps.encoding, world.msr_bitmap},
        {field::vm_entry_msr_load_address.encoding, world.entry_load},
        {field::vm_exit_msr_store_address.encoding, world.exit_store},
        {field::virtual_apic_address.encoding, world.virtual_apic},
        {field::ept_pointer.encoding, world.ept},
    };
    constexpr std::uint64_t last_page_of_all = 0xFFFFFFF000;
    constexpr std::uint64_t display = 0xB8000;
    constexpr std::uint64_t firmware = 0xFF000;
    const Structure& structure = structures[random.below(std::size(structures))];
    const bool is_ept = structure.encoding == field::ept_pointer.encoding;
    const bool is_loaded = structure.usual == world.entry_load;
    if (is_ept && !has_ept()) return;
    // Nothing reads as ones. In a list of exits that is a VMX abort: they lie in memory, if not in this L1's.
    constexpr std::uint64_t hidden = 1;
    const std::uint64_t last_page = places.end - page_size;
    std::uint64_t place = structure.usual == world.exit_store
                              ? random.number({display, last_page})
                              : random.number({no_memory, last_page_of_all, hidden, hidden, last_page,
                                               last_page, display, display});
    // What the firmware's bytes permit or map, nobody knows; as a list or a virtual APIC they do no harm.
    if ((is_loaded || structure.usual == world.virtual_apic) && random.one_in(4)) place = firmware;
    // Of a list only the first entry is in memory.
    if (is_loaded && place == last_page) {
        place = places.end - 2 * sizeof(std::uint64_t);
        auto* const entry = reinterpret_cast<std::uint64_t*>(place);  // NOLINT(performance-no-int-to-ptr)
        for (unsigned i = 0; i < 2; ++i) entry[i] = structure.usual->words[i];
    } else if (place == display || place == last_page) {
        *reinterpret_cast<Page*>(place) = *structure.usual;  // NOLINT(performance-no-int-to-ptr)
    }
    const bool is_hidden = place == hidden;
    if (is_hidden) place = places.hidden;
    const std::uint64_t value = is_ept ? place | (read_raw(structure.encoding) & 0xFFF) : place;
    // Another structure may lie there next, and what is cached of EPT12 by that root is of an earlier one.
    must_be_undone_ = true;
    const InvalidationDescriptor everything_of_all{};
    if (is_ept) try_invept(invept_type::all_contexts, &everything_of_all);
    if (!is_hidden) return set(structure.encoding, value, line);
    // Where it is differs between the machines that are compared.
    hidden_ = structure.encoding;
    Line unseen;
    set(structure.encoding, value, unseen);
    line << " " << vmx::name_of(structure.encoding) << " hidden";
}

void Mutations::undo() {
    while (count_ > 0) {
        --count_;
        write_raw(changes_[count_].encoding, changes_[count_].before);
        world.guest_written[current_vmcs()] = true;
    }
}

}  // namespace flatback::guests
