// Nested VMX of one virtual CPU of L1: its VMX operation, its VMCSs, and the way in and out of its guests.
//
// It owns no memory but what it asks of the Port, runs on the virtual CPU's own physical CPU with interrupts
// disabled, and shares nothing with other virtual CPUs but the VpidPool. It does not run guests by itself:
// the host hypervisor calls it with an exit of L1 caused by a VMX instruction, or with any exit of L2, and
// then enters the guest again, whichever is current then.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "../../tag/vpid12_map.hpp"
#include "../../vmx/exit_qualification.hpp"
#include "../../vmx/exit_reason.hpp"
#include "../../vmx/instruction_error.hpp"
#include "../../vmx/instruction_information.hpp"
#include "../../vmx/interruption.hpp"
#include "../../x86/control_registers.hpp"
#include "../../x86/expected.hpp"
#include "../../x86/segment.hpp"
#include "../../x86/words.hpp"
#include "../capabilities.hpp"
#include "../demands.hpp"
#include "../entry/checks.hpp"
#include "../entry/compose.hpp"
#include "../entry/io_bitmaps.hpp"
#include "../entry/msr_bitmap.hpp"
#include "../entry/msr_list.hpp"
#include "../entry/vmcs_bitmaps.hpp"
#include "../ept/ept02.hpp"
#include "../event_gate.hpp"
#include "../events.hpp"
#include "../exit/routing.hpp"
#include "../fault.hpp"
#include "../l1/walked_page.hpp"
#include "../notice.hpp"
#include "../pending_events.hpp"
#include "../port.hpp"
#include "../state/format.hpp"
#include "../vmcs/current_vmcs.hpp"
#include "../vmcs/learned_fields.hpp"
#include "../vmcs/newest.hpp"
#include "../vmcs/shadow_fields.hpp"
#include "../vmcs/vmcs12.hpp"
#include "slot.hpp"

namespace flatback::nested {

struct L2Access;  // nested/vcpu/l2_string_io.hpp

// How the host must enter the guest that is current after a call.
//
// the_hosts: not yet. An exit of L2's that the host demanded (nested/demands.hpp), and sees first; it goes on
// by one of NestedVcpu::resume(), resume_behind_instruction() and resume_with_fault(). A host without demands
// does not meet it.
enum class Entry : std::uint8_t { vmresume = 0, vmlaunch = 1, the_hosts = 2 };

// What became of an event of the host's (NestedVcpu::deliver).
enum class Delivery : std::uint8_t {
    given,      // it is the guest's: through its IDT, or as L1's exit out of L2
    shown,      // L1 has its exit, and the interrupt, which that did not acknowledge, is still the host's
    waits,      // it is still the host's
    discarded,  // a start-up IPI that no processor waits for
    reset,      // INIT, or a start-up IPI, outside of VMX operation: the host resets or starts the processor
};

enum class Reset : std::uint8_t { power_on, init };

// What of all its events the host does itself, behind NestedVcpu::deliver().
struct HostsPart {
    bool reset = false;                      // INIT
    std::optional<std::uint8_t> start_up{};  // a start-up IPI, to this page
};

struct L1PagingState;

namespace detail {
template <typename P>
concept HasTimeStampCounter = requires(P& port) {
    { port.time_stamp_counter() } -> std::same_as<std::uint64_t>;
};
template <typename P>
concept EndsInterrupts = requires(P& port, std::uint8_t vector) {
    {port.end_interrupt(vector)};
};
}  // namespace detail

struct Configuration {
    tag::Policy tags = tag::Policy::mapped;
    bool shadow_vmcs = true;  // used only where the processor has it
    LearningRule learning{};  // with it: when a field that L1 uses often joins those that it reaches so
    // Every NMI exits to the host, which gives the guest those that are its own by deliver(): for a host that
    // calls its other processors by NMIs. vmcs01 then has NMI exiting and virtual NMIs.
    bool host_takes_nmis = false;
};

template <Port P>
class NestedVcpu final : private CountedVmcs<P> {
public:
    // One VMCS of L1's that it made active (SDM 3C 25.1), with the hardware VMCSs that stand for it. L1 may
    // have more active: the least recently loaded one is then written back to its region, and returns by
    // VMPTRLD.
    static constexpr unsigned vmcs_slots = 32;
    static constexpr unsigned tag_slots = 32;

    // vmcs01: the hardware VMCS under which L1 runs; it is current whenever L1 is. The port, the capabilities
    // and the pool must outlive this.
    NestedVcpu(P& port, const Capabilities& capabilities, tag::VpidPool& pool, x86::Hpa vmcs01,
               const Configuration& configuration);
    NestedVcpu(P& port, const Capabilities&& capabilities, tag::VpidPool& pool, x86::Hpa vmcs01,
               const Configuration& configuration) = delete;
    NestedVcpu(const NestedVcpu&) = delete;
    NestedVcpu& operator=(const NestedVcpu&) = delete;

    [[nodiscard]] bool in_vmx_operation() const { return in_vmx_operation_; }
    [[nodiscard]] bool in_l2() const { return in_l2_; }
    [[nodiscard]] const Capabilities& capabilities() const { return capabilities_; }
    [[nodiscard]] Counters& counters() { return counters_; }
    [[nodiscard]] tag::TagNumber vpid01() const { return vpid01_.number(); }

    // For a trace.
    [[nodiscard]] Running running() const {
        if (!in_l2_) return {.tag = vpid01()};
        const Slot& slot = *current_;
        return {slot.vmcs02.tag, slot.l1_uses_vpid ? vpid12_of(slot) : tag::Vpid12::none, slot.region};
    }

    [[nodiscard]] bool shadows_vmcs() const {
        return configuration_.shadow_vmcs && capabilities_.vmcs_shadowing;
    }
    [[nodiscard]] bool offers_invvpid() const {
        return capabilities_.promised.ept_vpid.has(vmx::EptVpidCapability::invvpid);
    }
    // To L1, for its guests.
    [[nodiscard]] bool offers_vmcs_shadowing() const {
        return capabilities_.promised.secondary_processor_based.may_set(vmx::secondary::vmcs_shadowing);
    }
    [[nodiscard]] std::size_t tag_capacity() const { return tags_.capacity(); }
    struct Statistics {
        tag::MapStatistics tags;
        std::uint64_t hardware_invepts;
        std::uint64_t ept02_leaves_filled;
        std::uint64_t ept02_pages;
    };
    [[nodiscard]] Statistics statistics() const {
        return {tags_.statistics(), ept02_.hardware_invepts() + counters_.hardware_invepts,
                ept02_.leaves_filled(), ept02_.pages_in_use()};
    }

    // An exit of L1's with one of the VMX instructions' reasons.
    Entry handle_vmx_instruction(vmx::ExitReason reason);
    // Any exit of L2. Entry::the_hosts only for one that the demands of now ask for.
    Entry handle_l2_exit(std::uint32_t exit_reason);

    // What the host wants of L2 from now on, whichever guest is current; with no argument of its own,
    // nothing. Called between an exit and the entry that follows it, or before the first one. False: this
    // processor or Port cannot do it, and all is as before.
    [[nodiscard]] bool set_demands(const Demands& demands);
    [[nodiscard]] const Demands& demands() const { return demands_; }
    // After Entry::the_hosts, with L2's VMCS current and the exit's fields in it, as the processor left them:
    // whether L1 asked for this exit too. Then it is shown to L1 by whichever of the three calls follows, and
    // the host does nothing in L2's place.
    [[nodiscard]] bool l1_wants_hosts_exit() const { return hosts_exit_.l1_wants; }
    // The host has seen its exit, with L2's VMCS current. Where L1 does not want it, L2 goes on as if it had
    // not exited: an exception is delivered to it, an interrupted delivery begins again; an instruction is
    // executed again (and exits again, unless the host has changed its demands).
    Entry resume();
    // The same where the host has done the instruction in L2's place: L2 goes on behind it.
    Entry resume_behind_instruction();
    // The same where the instruction, done in L2's place, has faulted. L1 sees the fault as an exit where it
    // asked for that exception. Not #PF, nor #DB.
    Entry resume_with_fault(const Fault& fault);
    // The host did for L2, which is current, what drops its translations (a MOV to CR3).
    void l2_translations_changed();
    // The hardware's VMLAUNCH or VMRESUME of vmcs02 failed (VMfail): how L1 is to be entered. nullopt where
    // L1 was current: that is L0's bug.
    [[nodiscard]] std::optional<Entry> handle_failed_entry(std::uint32_t vm_instruction_error);

    // Before the very first entry, with vmcs01 current: pays what vpid01 owes.
    void prepare_first_entry() { enter_l1_tag(); }
    // The host took its processor away from the guest that is current, and gives it another turn, here or on
    // another processor: right before the entry, with that guest's VMCS current.
    void prepare_reentry();
    // The virtual CPU leaves its processor, at any point between an exit and an entry, in L1 or in L2, also
    // before the host has gone on with an exit of its own: every VMCS that the engine or the host made active
    // there is cleared, vmcs01 too (at most 65 VMCLEARs), and none is current. Then it may enter any
    // processor, or be destroyed. Until it enters one, of the calls above set_demands() alone is allowed, and
    // ept01_changed().
    void leave_processor();
    // It enters the processor that Port::cpu() says: instead of prepare_reentry(), or before the host goes on
    // with an exit of its own, whose answer then counts. The VMCS of the guest is current, with this
    // processor's host state, and what the guest's tag owes here is paid. Always VMLAUNCH.
    [[nodiscard]] Entry enter_processor();
    // The virtual CPU begins anew: outside of VMX operation, with no VMCS of L1's active, no tag of L2's, no
    // translation, and no event on its way. vmcs01 is current, for the host to fill (host/vmcs01.hpp);
    // demands stay. L1 is then entered by VMLAUNCH. False, and nothing is done: INIT, which VMX operation
    // blocks (SDM 3C 24.8).
    [[nodiscard]] bool reset(Reset kind);
    // L1's EPTP for the L2 that is current. nullopt: none is, or L1 uses no EPT for it.
    [[nodiscard]] std::optional<vmx::Eptp> l1_ept_pointer() const {
        if (!in_l2_ || !current_->l1_uses_ept) return std::nullopt;
        return ept_pointer12_of(*current_);
    }
    // L0 did for L1 what drops L1's own translations (a MOV to CR0 or CR4 that it emulated).
    void l1_translations_changed() {
        vpid01_.invalidate();
        enter_l1_tag();
    }
    // The MSRs of the guest that is current: some live in its VMCS. nullopt, false: #GP(0).
    [[nodiscard]] std::optional<std::uint64_t> read_guest_msr(std::uint32_t msr);
    [[nodiscard]] bool write_guest_msr(std::uint32_t msr, std::uint64_t value);
    // L1 changed an MSR that lives in vmcs01 (EFER, PAT, SYSENTER_*).
    void l1_msr_changed() { l1_state_known_ = false; }
    // What came for this virtual CPU while no guest ran, as if it had come at the very entry. Called right
    // before the entry, which it may change: an exit of L2's, which makes L1 current. An entry that succeeds
    // uses the event up; one that fails gives it back (Port::return_nmi, return_interrupt,
    // return_machine_check). What waits stays the host's, which calls this again before each entry: the guest
    // exits, where some exit can tell it, as soon as it can take the event. Of L1 the host gets that exit:
    // interrupt_window, nmi_window, or exception_or_nmi for an NMI that came meanwhile, which is the same one
    // for the host (the processor keeps one). It calls close_window(), and this again. The host's own
    // pin-based controls of vmcs01 have no NMI exiting, but with Configuration::host_takes_nmis.
    //
    // Several that wait come in the order of EventKind.
    [[nodiscard]] Delivery deliver(const Event& event, Entry& entry);
    // The same of all that waits, in that order. Each entry of the guest's comes behind it as long as there
    // is something.
    [[nodiscard]] HostsPart deliver(PendingEvents& events, Entry& entry);
    // For an event that the host no longer has, or one whose window has opened in L1.
    void close_window();
    // L0 changed what EPT01 says: nothing that the engine made of it may be used any longer (rule 6 of
    // docs/tags.md). What the processor has cached of EPT01 itself is the host's to drop: it executes INVEPT
    // of ept01_pointer() after the change and before any guest runs. Called with the VMCS of the guest that
    // is current; before that guest runs again comes prepare_reentry().
    void ept01_changed();
    // Raises a fault in L1, whose VMCS is current, at its instruction or in the delivery of an event that its
    // exit interrupted: then it may be a double fault, or end L1 (Port::l1_shutdown).
    void inject(const Fault& fault);
    // The bytes of L1's, whose VMCS is current, at a linear address that it has just executed code at: for a
    // host that does an instruction in its place. False: they are not to be had any more.
    [[nodiscard]] bool read_l1_code(std::uint64_t linear, void* buffer, unsigned size);
    // L1, whose VMCS is current, has exited by INS or OUTS at ports that the host keeps (Port::input,
    // output). One element is done, or L1 gets its fault. False: nothing was done, since the processor does
    // not tell which segment and address size the instruction has, or the port has no such functions.
    [[nodiscard]] bool string_io();
    // An exception that the guest which is current met and that the host alone had asked for (its exit's
    // fields are as the processor left them): the guest gets it as if it had not exited.
    [[nodiscard]] Entry pass_exception_on();
    // The write that Port::let_write_vanish() let through is over: EPT02 is as before it.
    void write_vanished() { ept02_.close_unwritable(); }
    // L1 is about to write to a page for which Port::keep_unwritten() was asked, and was let do so.
    void l1_writes_noticed_page() { msr_bitmaps_.note_written_somewhere(); }
    // For a host whose other processors run the same L1, and have the engine make copies of a page of it:
    // writes to it by this processor's engine are to count in written_by_l0(), which any processor may ask.
    void notice_writes_to(const std::byte* page) { msr_bitmaps_.notice_writes_to(page); }
    [[nodiscard]] std::uint64_t written_by_l0() const { return msr_bitmaps_.written_by_l0(); }
    // L1, whose VMCS is current, goes on where an EPT violation under EPT01 stopped it, whose cause the host
    // has removed: an event that was being delivered is delivered again, and NMIs stay blocked behind an IRET
    // that did not complete.
    void retry_l1();

    // The nested state, to be had again by restore(): VMX operation, every active VMCS, the L2 that runs with
    // what is to be delivered to it (docs/state.md). Between an exit and the next entry, with the VMCS of the
    // guest that is current. Its size in bytes, which is at most most_state_bytes. Neither tags nor what is
    // made of L1's memory are in it, nor what the host has: L1's memory, vmcs01, the registers that no VMCS
    // holds, the demands, an NMI that waits.
    static constexpr std::size_t most_state_bytes =
        state::header_size + vmcs_slots * (state::vmcs_header_size + vmx::field_count * state::field_size) +
        state::l2_header_size + vmx::field_count * state::field_size;
    [[nodiscard]] Expected<std::size_t, StateError> save(std::span<std::byte> into);
    // What save() wrote, in place of all that this virtual CPU had: of this or another virtual CPU, processor
    // and pool, whose L1 was promised no more than this one's. L1's memory is there already, and vmcs01 has
    // L1's state, with the host's own masks. The bytes are the host's, where no guest writes.
    //
    // How the guest that is current is to be entered, after prepare_reentry(): by VMLAUNCH, whether vmcs01
    // was launched before or not. An error: all is as it was.
    [[nodiscard]] Expected<Entry, StateError> restore(std::span<const std::byte> from);
    // As after the constructor: no VMX operation, and no VMCS of L1's, whose regions are left as they are.
    // vmcs01 is current, its guest state as L1 last had it; L1 is then entered by VMLAUNCH. The host's
    // demands stay.
    void reset();

private:
    using Current = CountedVmcs<P>;
    using Row = typename Current::Row;
    using Current::counters_;
    using Current::get;
    using Current::get_one;
    using Current::get_raw;
    using Current::load;
    using Current::port_;
    using Current::put;
    using Current::put_one;
    using Current::put_raw;
    using Current::while_loaded;

    // nullopt reason: VMfail with error 7, for controls.
    struct EntryFailure {
        std::optional<vmx::ExitReason> reason;
        std::uint64_t qualification;
    };
    struct Inherited {
        std::uint64_t dr7 = 0;
        std::uint64_t debugctl = 0;
        std::uint64_t pat = 0;
        std::uint64_t efer = 0;
    };
    struct LoadedMsrs {
        std::uint64_t pat = 0;
        std::uint64_t efer = 0;
        friend bool operator==(const LoadedMsrs&, const LoadedMsrs&) = default;
    };
    using Checked = Expected<void, Fault>;
    static constexpr std::uint64_t cr0_fixed_in_vmx_operation =
        x86::cr0::protection_enable | x86::cr0::numeric_error | x86::cr0::paging;
    // What VM entries and exits leave as it is: these and the reserved bits (SDM 3C 27.3.2.1).
    static constexpr std::uint64_t cr0_kept_by_entries =
        x86::cr0::extension_type | x86::cr0::cache_disable | x86::cr0::not_write_through | 0x1ffa'ffc0;
    static constexpr std::uint32_t flat_data_rights =
        0xc093;  // present, writable, accessed, DPL 0, big, 4 KB units
    static constexpr std::uint32_t flat_code_rights_32 =
        0xc09b;  // present, execute and read, accessed, DPL 0
    static constexpr std::uint32_t flat_code_rights_64 = 0xa09b;
    static constexpr std::uint32_t busy_task_rights = 0x8b;

    // nested/vcpu/instructions.hpp: the thirteen instructions.
    // Whether it may be the VMXON region's or a VMCS's (SDM 3C 31.3).
    [[nodiscard, gnu::always_inline]] bool is_region(x86::Gpa<x86::L1> region) const {
        return region.is_aligned() &&
               x86::fits_physical_width(region.value(), capabilities_.physical_address_width);
    }
    Entry vmxon();
    Entry vmxoff();
    Entry vmclear();
    Entry vmptrld();
    Entry vmptrst();
    Entry vmread();
    Entry vmwrite();
    Entry invept();
    Entry invvpid();
    void begin_vmx_operation(std::uint64_t vmxon_region);
    void leave_vmx_operation();
    static constexpr unsigned slots_written_by_one_vmxoff = 4;
    Entry judge_vmx_instruction(vmx::ExitReason reason);
    Entry execute_vmx_instruction(vmx::ExitReason reason);
    Entry vmentry(bool launch);
    Entry refuse(const Fault& fault);
    void advance(std::uint64_t rflags);
    Entry finish(std::uint64_t flags);
    Entry succeed();
    Entry fail_invalid();
    Entry fail_valid(vmx::InstructionError error);
    Entry fail(vmx::InstructionError error);
    [[nodiscard]] std::uint64_t l1_register(unsigned number);
    [[nodiscard]] std::uint64_t l1_operand(unsigned number, std::uint32_t most);
    void set_l1_register(unsigned number, std::uint64_t value);
    // IA-32e mode. While it executes a VMX instruction other than VMCALL that is 64-bit mode: those exit in
    // no compatibility mode.
    [[nodiscard]] bool l1_is_64_bit() {
        return (get_one(vmx::field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    }
    [[nodiscard]] std::uint64_t l1_cr0() {
        return l1_control_register(vmx::field::guest_cr0, vmx::field::cr0_guest_host_mask,
                                   vmx::field::cr0_read_shadow);
    }
    [[nodiscard]] std::uint64_t l1_control_register(vmx::field::NaturalGuest real,
                                                    vmx::field::NaturalControl mask,
                                                    vmx::field::NaturalControl shadow);
    [[nodiscard]] Expected<std::uint64_t, Fault> memory_operand(vmx::InstructionInformation information,
                                                                bool long_mode, unsigned bytes, bool write);
    [[nodiscard]] Expected<std::uint64_t, Fault> segmented_address(x86::SegmentRegister segment,
                                                                   std::uint64_t offset, bool long_mode,
                                                                   unsigned bytes, bool write);
    [[nodiscard]] bool walk_plain_page(WalkedPage& page, std::uint64_t linear_page, std::uint64_t cr3,
                                       bool write);
    static constexpr std::uint64_t user_rules =
        x86::cr4::smap_enable | x86::cr4::protection_key_enable;  // in CR4
    [[nodiscard]] bool rule_holds(const WalkedPage& page);
    [[nodiscard]] bool both_rules_hold(const WalkedPage& page);
    void set_rule(WalkedPage& page, bool user, bool execute_disable);
    void forget_walks() {
        for (WalkedPage& page : walked_pages_) page.linear_page = WalkedPage::no_page;
    }
    [[nodiscard]] std::byte* plain_page(std::uint64_t linear, bool write);
    [[nodiscard]] std::byte* plain_operand(vmx::InstructionInformation information, unsigned bytes,
                                           bool write);
    template <std::size_t Words>
    [[nodiscard]] bool read_operand(vmx::InstructionInformation information,
                                    std::array<std::uint64_t, Words>& into, unsigned narrow_bytes);
    [[nodiscard]] bool read_any_operand(vmx::InstructionInformation information, void* into, unsigned bytes,
                                        unsigned narrow_bytes);
    [[nodiscard]] bool write_operand(vmx::InstructionInformation information, std::uint64_t value,
                                     unsigned narrow_bytes);
    [[nodiscard]] bool write_any_operand(vmx::InstructionInformation information, std::uint64_t value,
                                         unsigned narrow_bytes);
    [[nodiscard]] bool read_pointer_operand(std::uint64_t& pointer);
    [[nodiscard]] Checked access_l1(std::uint64_t linear, void* buffer, unsigned size, bool write);
    // Where an access's bytes are; nullptr: there is no memory.
    struct Located {
        std::byte* where[2] = {};
        unsigned first = 0;  // bytes at the first
    };
    [[nodiscard]] Expected<Located, Fault> locate_l1(const L1PagingState& state, std::uint64_t linear,
                                                     unsigned size, bool write);
    static void copy_l1(const Located& found, void* buffer, unsigned size, bool write);
    [[nodiscard]] L1PagingState l1_paging_state();
    [[nodiscard]] std::uint32_t protection_key_rights();
    // nested/vcpu/l1_string_io.hpp
    template <typename Locate>
    [[nodiscard]] Checked string_step(Locate&& locate);
    template <typename Locate>
    [[nodiscard]] Checked string_element(vmx::IoAccess access, x86::SegmentRegister segment,
                                         std::uint64_t offset, std::uint64_t rflags, Locate&& locate);
    void finish_string(std::uint64_t rflags, bool last);
    void note_breakpoints(std::uint64_t linear, unsigned size, bool write);

    // nested/vcpu/active.hpp: which of L1's VMCSs are active and current.
    [[nodiscard]] Slot* find(x86::Gpa<x86::L1> region);
    [[nodiscard]] Slot* activate(x86::Gpa<x86::L1> region, Activity as, Slot* found);
    [[nodiscard]] bool give_pages(Slot& slot);
    void begin_slot(Slot& slot, x86::Gpa<x86::L1> region, Activity as);
    using LeftByExits = std::array<std::optional<std::uint64_t>, 4>;
    [[nodiscard]] static LeftByExits left_by_exits(const Slot& slot);
    static void keep_information(Slot& slot, const LeftByExits& left);
    void write_back(Slot& slot);
    void make_current(Slot* slot);
    void fetch(Slot& slot, std::size_t index);
    void fetch_bits(Slot& slot, std::size_t index, std::uint64_t bits);
    void fetch_for_l1(Slot& slot, std::size_t index);
    [[nodiscard]] std::uint64_t read_field(Slot& slot, std::size_t index, bool shadows);
    void write_field(Slot& slot, std::size_t index, std::uint64_t value);
    void fill_shadow(Slot& slot);
    template <bool Whole>
    void collect_shadow(Slot& slot);
    void collect_all(Slot& slot);

    // nested/vcpu/l1s_shadow.hpp: L1's shadow VMCSs, current and linked.
    void fill_l1s_shadow(Slot& slot);
    void collect_l1s_shadow(Slot& slot);
    Entry load_l1s_shadow(x86::Gpa<x86::L1> region, std::uint32_t revision);
    void make_l1s_shadow_current(Slot& slot);
    Entry fail_without_ordinary_vmcs(vmx::InstructionError error);
    Entry access_l1s_shadow(bool write);
    void put_vmcs_bitmaps(Slot& slot);
    void merge_vmcs_bitmaps(Slot& slot);
    void put_link_pointer(Slot& slot);
    [[nodiscard]] bool link_shadow(Slot& slot);
    [[nodiscard]] std::uint64_t l2_vmcs_encoding();
    [[nodiscard]] bool is_emulated_field(std::uint64_t encoding) const;
    [[nodiscard]] bool l1_wants_vmcs_access(const Slot& slot, bool write);
    Entry fail_vmcs_access_of_l2(Slot& slot, std::size_t basic_reason);

    // nested/vcpu/learn.hpp: fields that L1 comes to reach without an exit.
    Entry note_vmread(std::size_t index);
    Entry note_vmwrite(std::size_t index);
    void learn_by_use(Slot& slot, std::size_t index, bool written);
    void let_l1_reach(const Slot& slot, std::size_t index, bool reads, bool writes);
    void link_bitmaps_of(const Slot* slot);
    void forget_learned(Slot& slot);
    void forget_learned(Slot& slot, std::size_t index);
    void collect_learned(Slot& slot);
    void try_learned(Slot& slot);
    [[nodiscard]] FieldSet bring_learned(Slot& slot);

    // nested/vcpu/entry.hpp
    [[nodiscard]] static std::uint32_t work_of(const Slot& slot);
    void remember_l1_state(const Slot& slot);
    void pass_on_l2_state(const Slot& slot);
    [[nodiscard]] static bool names_linked_vmcs(const Slot& slot) {
        return slot.vmcs12.get(vmx::field::vmcs_link_pointer) != ~std::uint64_t{0};
    }
    void look_for_unpromised(Slot& slot);
    [[nodiscard]] std::uint64_t unpromised_bits(std::size_t index) const;
    // controls: of that guest.
    [[nodiscard]] bool activity_state_is_offered(std::uint32_t state, const Vmcs12& controls) const;
    void prepare_vmcs02(Slot& slot);
    void compose_controls(Slot& slot);
    void put_rare_controls(Slot& slot, std::uint32_t before);
    void put_page_addresses(Slot& slot);
    [[nodiscard]] std::optional<EntryFailure> do_entry_work(Slot& slot);
    void keep_l1_word(Slot& slot, std::uint32_t encoding);
    void take_back_overwritten(Slot& slot);
    [[nodiscard, gnu::noinline]] bool load_pdptes(std::uint64_t cr3);
    // L1's VMCS for the checks of controls and host state, while vmcs01 or the shadow VMCS is current.
    struct NewestView {
        NestedVcpu& vcpu;
        Slot& slot;
        template <vmx::FieldWidth W, vmx::FieldKind K>
        [[gnu::always_inline]] vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
            const auto index = static_cast<std::size_t>(vmx::dense_index(field.encoding));
            if (detail::stored_by_exits[index] != 0) vcpu.fetch_for_l1(slot, index);
            return slot.vmcs12.get(field);
        }
    };
    // The same for the checks of guest state, once vmcs02 is current and has all of it.
    struct GuestView {
        NestedVcpu& vcpu;
        Slot& slot;
        template <vmx::FieldWidth W, vmx::FieldKind K>
        vmx::field_value_t<W> get(vmx::Field<W, K> field) const {
            const auto index = static_cast<std::size_t>(vmx::dense_index(field.encoding));
            if (K == vmx::FieldKind::guest_state && vcpu.copied_to_vmcs02_.contains(index))
                return vcpu.get(field);
            vcpu.fetch(slot, index);
            return slot.vmcs12.get(field);
        }
    };
    // L1's memory, for the checks that read it; ones where there is none.
    struct L1Physical {
        P& port;
        template <typename T>
        [[nodiscard]] T read(std::uint64_t physical) const {
            const x86::Gpa<x86::L1> address{physical};
            const auto* page = port.l1_page(address);
            if (page == nullptr) return static_cast<T>(~T{0});
            return x86::read_word<T>(page + address.page_offset());
        }
    };
    [[nodiscard]] std::optional<EntryFailure> judge_entry(Slot& slot, bool pdptes_are_good);
    [[nodiscard]] bool guest_state_is_valid(Slot& slot) { return !judge_entry(slot, true); }
    Entry fail_hardware_entry(Slot& slot);
    [[nodiscard]] static tag::Vpid12 vpid12_of(const Slot& slot) {
        return tag::Vpid12{slot.vmcs12.get(vmx::field::virtual_processor_identifier)};
    }
    [[nodiscard]] static vmx::Eptp ept_pointer12_of(const Slot& slot) {
        return vmx::Eptp{slot.vmcs12.get(vmx::field::ept_pointer)};
    }
    // What is done by EPT12 for a guest of L1's, with the page-modification log where L1 keeps one. vmcs02 is
    // current.
    template <typename Action>
    [[gnu::always_inline]] auto with_log(Slot& slot, Action&& action) {
        PageModificationLog<P>* const none = nullptr;
        if (!slot.l1_logs_writes) [[likely]]
            return action(none);
        const std::uint16_t before = slot.vmcs12.get(vmx::field::pml_index);
        PageModificationLog<P> log{port_, x86::Gpa<x86::L1>{slot.vmcs12.get(vmx::field::pml_address)},
                                   before};
        auto result = action(&log);
        if (log.index() != before) note_log_index(slot, log.index());
        return result;
    }
    void note_log_index(Slot& slot, std::uint16_t index);
    void put_io_bitmaps(Slot& slot);
    [[nodiscard]] x86::Hpa page_for_vmcs02(const char* what);
    void select_ept(Slot& slot);
    void select_tag(Slot& slot);
    // The MSRs of the guest whose VMCS is current, for a list of L1's.
    struct MsrListOwner {
        NestedVcpu& vcpu;
        std::byte* l1_page(x86::Gpa<x86::L1> address) { return vcpu.port_.l1_page(address); }
        std::optional<std::uint64_t> read_msr(std::uint32_t msr) { return vcpu.read_guest_msr(msr); }
        bool write_msr(std::uint32_t msr, std::uint64_t value) { return vcpu.write_guest_msr(msr, value); }
        void note_written(const std::byte* where) { vcpu.msr_bitmaps_.note_written(where); }
    };
    [[nodiscard]] Expected<void, RefusedMsr> load_msrs(std::uint64_t list, std::uint32_t count);
    [[nodiscard]] Expected<void, RefusedMsr> store_msrs(std::uint64_t list, std::uint32_t count);

    // nested/vcpu/save.hpp
    using FieldWords = std::array<std::uint64_t, vmx::field_count>;
    void newest_words(const Slot& slot, FieldWords& words);
    void running_words(const Slot& slot, FieldWords& words);
    // nested/vcpu/restore.hpp
    [[nodiscard]] Expected<void, StateError> read_fields(state::Reader& in, std::uint32_t count,
                                                         const FieldSet& permitted, Vmcs12& words) const;
    [[nodiscard]] Expected<void, StateError> judge_state(state::Reader in);
    [[nodiscard]] bool may_run(Vmcs12 vmcs12, const Vmcs12& running, bool has_run);
    void restore_running_l2(Slot& slot, const Vmcs12& running);

    // nested/vcpu/moving.hpp
    Entry exit_after_move(vmx::ExitReasonField field);
    [[nodiscard]] Entry launched_anew(Entry entry);
    void set_all_routes();

    // nested/vcpu/hosts_exit.hpp
    [[nodiscard]] bool is_the_hosts(const Slot& slot, vmx::ExitReason reason);
    [[nodiscard]] bool l1_asked_for(Slot& slot, vmx::ExitReason reason);
    [[nodiscard]] bool l1_asked_for_exception(const Slot& slot, vmx::InterruptionInformation event);
    [[nodiscard]] bool l1_asked_for_cr3_load(const Slot& slot, vmx::ControlRegisterAccess access);
    [[nodiscard]] std::uint64_t l2_value(vmx::ControlRegisterAccess access);
    [[nodiscard]] bool l1_asked_for_io(const Slot& slot, vmx::IoAccess access);
    Entry offer_to_host(Slot& slot, std::uint32_t exit_reason);
    Entry go_on(Slot& slot);
    void set_route(vmx::ExitReason reason, Route route);
    [[nodiscard]] HostControls host_controls() const;
    void put_demanded_controls(Slot& slot);
    void demand_of_running_l2(Slot& slot);
    void put_demanded_fields(Slot& slot);
    void put_demanded_masks(const Slot& slot);
    [[nodiscard]] std::uint64_t l2_cr0(const Slot& slot);
    [[nodiscard]] bool host_takes_nmis() const { return configuration_.host_takes_nmis || demands_.nmis; }
    // The VMX-preemption timer, which L1's own and the end of the host's turn may share. In its units.
    [[nodiscard]] std::uint64_t timer_now();
    [[nodiscard]] std::uint64_t host_timer_ends() const;
    [[nodiscard]] std::uint32_t l1_timer_left();
    [[nodiscard]] static bool l1_uses_timer(const Slot& slot) {
        return (slot.vmcs12.get(vmx::field::pin_based_vm_execution_controls) &
                vmx::pin::activate_vmx_preemption_timer) != 0;
    }
    void start_timer(Slot& slot);
    void begin_l1_timer(std::uint32_t left);
    void put_timer(const Slot& slot);
    void put_timer_beneath();
    Entry handle_end_of_turn(Slot& slot, std::uint32_t exit_reason);

    // nested/vcpu/exit.hpp
    Entry handle_l0s_exit(Slot& slot, vmx::ExitReasonField field);
    Entry handle_entry_failure(Slot& slot, vmx::ExitReasonField field);
    [[nodiscard]] bool tells_of_nmi_unblocking();
    Entry handle_ept_exit(Slot& slot, std::uint32_t exit_reason);
    [[nodiscard]] bool let_write_vanish();
    [[nodiscard]] bool is_l0s_own_cr4_exit(const Slot& slot, std::uint64_t qualification);
    [[nodiscard]] bool l1_wants_msr(Slot& slot, std::uint32_t msr, bool write);
    [[nodiscard]] bool l1_wants_io(const Slot& slot, vmx::IoAccess access);
    Entry handle_io_exit(Slot& slot, std::uint32_t exit_reason);
    // nested/vcpu/l2_string_io.hpp
    [[nodiscard]] std::optional<Entry> l2_string_io(Slot& slot);
    [[nodiscard]] Expected<Located, Fault> locate_l2(const Slot& slot, const L1PagingState& state,
                                                     std::uint64_t linear, unsigned size, bool write,
                                                     PageModificationLog<P>* log,
                                                     std::optional<L2Access>& met);
    [[nodiscard]] static std::uint64_t apic_access_page_of(const Slot& slot);
    Entry raise_page_fault_in_l2(Slot& slot, std::size_t basic_reason, const Fault& fault);
    Entry reflect_access(Slot& slot, const L2Access& access);
    [[nodiscard]] bool handle_msr_for_l2(bool write);
    Entry reenter_l2(Slot& slot, std::size_t basic_reason);
    Entry reflect(Slot& slot, std::uint32_t exit_reason, std::uint64_t qualification);
    Entry reflect_failed_entry(Slot& slot, vmx::ExitReason reason, std::uint64_t qualification);
    Entry enter_l1(Slot& slot, std::uint32_t interruptibility);
    Entry reflect_failed_reentry(Slot& slot);
    void enter_l1_tag();
    void abort_l1(std::uint32_t indicator);
    void abort_l1_by_msr(std::uint32_t indicator, const RefusedMsr& refused);
    [[nodiscard]] LoadedMsrs l1_msrs_after(const Slot& slot, bool long_mode) const;
    bool loads_what_is_loaded(const Slot& slot);
    void load_l1_state(Slot& slot);
    template <std::uint32_t Number>
    void load_l1_data_segment(Row& row, const Vmcs12& vmcs12, bool known, std::uint64_t base);
    void load_l1_rare_state(Slot& slot, bool long_mode);

    // nested/vcpu/events.hpp
    [[nodiscard]] bool give_fault(const Fault& fault);
    Entry raise_in_l2(Slot& slot, std::size_t basic_reason, const Fault& fault);
    [[nodiscard]] vmx::InterruptionInformation exception_for(const Fault& fault);
    [[nodiscard]] static Fault with_external_bit(Fault fault, vmx::InterruptionInformation delivering);
    void repeat_access(std::uint64_t qualification);
    void requeue_vectoring_event();
    void drop_single_step();
    Entry reflect_made(Slot& slot, vmx::ExitReason reason, vmx::InterruptionInformation event,
                       std::uint32_t error_code, vmx::InterruptionInformation vectoring,
                       std::uint64_t qualification = 0);

    // nested/vcpu/posted_interrupts.hpp
    [[nodiscard]] bool take_posted_interrupts(const Slot& slot, vmx::InterruptionInformation interrupt);
    [[nodiscard]] vmx::InterruptionInformation virtual_interrupt_instead(const Slot& slot,
                                                                         vmx::InterruptionInformation told);

    // nested/vcpu/deliver.hpp
    [[nodiscard]] EventGate event_gate();
    Delivery deliver_as_exit(const Event& event, const EventGate& gate, Entry& entry);
    [[nodiscard]] vmx::InterruptionInformation information_of(const Event& event);
    void want_window(EventKind kind, Window window);
    [[nodiscard]] bool is_l0s_own_window_exit(const Slot& slot, vmx::ExitReason reason);
    [[nodiscard]] x86::Hpa current_vmcs() const { return in_l2_ ? current_->vmcs02.page : vmcs01_; }
    void take_back_hosts_event(Slot& slot);
    void return_interrupt(std::uint8_t vector);
    bool return_machine_check();

    [[nodiscard]] EntryRules rules() const {
        return {.promised = capabilities_.promised,
                .physical_address_width = capabilities_.physical_address_width};
    }
    // A field of an event to be injected. Where L0 injects into L2 by itself, vmcs02 then has another word
    // than L1's VMCS: L1's goes there again at its next entry.
    template <vmx::FieldWidth W, vmx::FieldKind K>
    void put_event_field(vmx::Field<W, K> field, std::type_identity_t<vmx::field_value_t<W>> value) {
        put(field, value);
        if (in_l2_)
            current_->vmcs02.pending.insert(static_cast<std::size_t>(vmx::dense_index(field.encoding)));
    }
    void notice(Notice what, std::uint64_t detail) {
        if constexpr (requires { port_.notice(what, detail); }) port_.notice(what, detail);
    }
    void notice(Notice what, const RefusedMsr& refused) {
        if constexpr (requires { port_.notice(what, refused); }) {
            port_.notice(what, refused);
        } else {
            notice(what, refused.number);
        }
    }
    // Of a rule of VM entry, to a port that wants the values of its fields too.
    void notice(EntryCheck check, const Vmcs12& vmcs12) {
        if constexpr (requires { port_.notice(check, vmcs12); }) {
            port_.notice(check, vmcs12);
        } else {
            notice(Notice::entry_check_failed, static_cast<std::uint64_t>(check));
        }
    }
    void run(tag::OwedFlush&& flush);
    void run_here(tag::OwedFlush&& flush);
    void flush_ept_contexts(tag::FlushCause cause);
    void pay(std::optional<tag::OwedFlush>&& owed) {
        if (owed) [[unlikely]]
            run(std::move(*owed));
    }

    const Capabilities& capabilities_;
    Configuration configuration_;
    x86::Hpa vmcs01_;

    bool in_vmx_operation_ = false;
    bool in_l2_ = false;
    bool entering_by_launch_ = false;
    bool reentering_ = false;  // L0 resumed L2 by itself
    bool on_processor_ = true;
    bool vmcs01_is_clear_ = false;  // L2 has moved, and no exit has led to L1 since
    bool demands_wait_ = false;     // they came while L2 was on no processor
    // Where L0 waits for the moment to give an event, for which kinds of them (bit n) by which exit, and the
    // controls of that VMCS as they are without it.
    struct {
        bool open = false;
        std::uint8_t for_interrupts = 0;
        std::uint8_t for_nmis = 0;
        std::uint8_t for_boundary = 0;
        std::uint32_t pin_based = 0;
        std::uint32_t primary = 0;
        x86::Hpa vmcs{};
    } window_;
    // As the SDM's list has them, but for window_exits and what the host demands. routes_beneath_:
    // without the demands.
    std::array<Route, exit_reason_count> routes_ = routes;
    std::array<Route, exit_reason_count> routes_beneath_ = routes;
    Demands demands_;
    bool has_demands_ = false;
    std::uint32_t demanded_work_ = 0;  // detail::Work, of every L2
    struct {
        std::uint32_t exit_reason = 0;
        bool pending = false;
        bool l1_wants = false;
    } hosts_exit_;
    std::uint64_t l1_timer_ends_ = 0;    // of the L2 that runs, in units of the timer since the TSC was 0
    bool l1_state_known_ = false;        // vmcs01's rarely changing guest state equals ...
    const Slot* l1_state_of_ = nullptr;  // ... this VMCS's host state
    bool shadowing_ = false;             // VMCS shadowing is in use for L1 ...
    // ... with what in vmcs01's bitmaps: of an ordinary VMCS the fields that L0 has chosen for all, or with
    // those that it has learned of this one; or all of a shadow VMCS.
    enum class L1Link : std::uint8_t { none, shadowed_fields, learned_fields, every_field };
    L1Link l1_link_ = L1Link::none;
    std::uint64_t vmxon_region_ = 0;
    std::uint64_t cr0_bits_taken_ = 0;  // what VMX operation added to vmcs01's CR0 guest/host mask
    const FieldSet supported_;          // the fields that L1 has
    const FieldSet in_hardware_;        // of these, what the processor's VMCSs have too
    const FieldSet copied_to_vmcs02_;   // of these, what goes to vmcs02 as it is
    // Of each field, what a VMREAD or VMWRITE of L1's has to ask.
    static constexpr std::uint8_t not_promised = 1;
    static constexpr std::uint8_t read_only = 2;
    static constexpr std::uint8_t shadowed = 4;
    static constexpr std::uint8_t perhaps_unpromised = 8;
    static constexpr std::uint8_t learned_by_reads = 16;
    static constexpr std::uint8_t learned_by_writes = 32;
    static constexpr std::uint8_t in_shadow = shadowed | learned_by_reads | learned_by_writes;  // perhaps
    const std::array<std::uint8_t, vmx::field_count> field_traits_;
    const std::uint32_t invvpid_types_;        // bit n: L1 was promised type n
    vmx::Eptp valid_eptp_{~std::uint64_t{0}};  // the EPTP that INVEPT last found valid
    std::uint64_t use_clock_ = 0;
    Slot* current_ = nullptr;         // L1's current VMCS, where it is an ordinary one ...
    Slot* current_shadow_ = nullptr;  // ... or where it is a shadow VMCS
    unsigned slots_used_ = 0;         // of slots_, from the front; the others are not active
    std::array<Slot, vmcs_slots> slots_;
    std::array<WalkedPage, 8> walked_pages_;

    tag::Vpid01 vpid01_;
    tag::Vpid12Map<tag_slots> tags_;
    MsrBitmaps<P> msr_bitmaps_;
    IoBitmaps<P> io_bitmaps_;
    VmcsBitmaps<P> vmcs_bitmaps_;
    Ept02<P> ept02_;

    x86::Hpa vmread_bitmap_{};
    x86::Hpa vmwrite_bitmap_{};
    x86::Hpa every_field_bitmap_{};
    Inherited inherited_;
    LoadedMsrs loaded_l1_msrs_;  // by the last exit that loaded all of L1's state
    x86::Hpa no_virtual_apic_{};
};

}  // namespace flatback::nested
