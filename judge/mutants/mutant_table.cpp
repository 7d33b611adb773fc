#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "judge/mutants/flush_defects.hpp"
#include "judge/mutants/handler_defects.hpp"
#include "judge/mutants/host_defects.hpp"
#include "judge/mutants/init_defects.hpp"
#include "judge/mutants/interrupt_defects.hpp"
#include "judge/mutants/log_defects.hpp"
#include "judge/mutants/mutants.hpp"
#include "judge/mutants/nmi_defects.hpp"
#include "judge/mutants/processor_defects.hpp"
#include "judge/mutants/shadow_defects.hpp"
#include "judge/mutants/state_defects.hpp"
#include "judge/trial/machine_port.hpp"
#include "vmx/controls.hpp"
#include "vmx/field_table.hpp"
#include "x86/msr.hpp"

namespace flatback::machine {

namespace {

using namespace defects;

std::uint64_t& type_of(const Defect::Handled& handled) {
    return handled.registers.general[3];
}

class Table {
public:
    Table() {
        dropped();
        misdirected();
        widened();
        tags();
        handlers();
        nmis();
        interrupts();
        time();
        logs();
        inits();
        hosts();
        states();
        shadow_vmcss();
        processors();
        learned_fields();
        deliveries();
        modes();
        demands_of_others();
    }
    std::vector<Mutant> all;

private:
    void add(const char* name, std::optional<unsigned> row, DefectMaker make) {
        all.push_back({name, row, std::move(make)});
    }
    /// Adds those that programs of their own are to catch.
    auto adds(bool Mutant::*kind) {
        return [this, kind](const char* name, DefectMaker make) {
            add(name, std::nullopt, std::move(make));
            all.back().*kind = true;
        };
    }
    void flush(const char* name, std::optional<unsigned> row, const FlushDefect::Change& change) {
        add(name, row, [change] { return std::make_unique<FlushDefect>(change); });
    }
    void handler(const char* name, std::optional<unsigned> row, const HandlerDefect::Handle& handle,
                 Opcode opcode = Opcode::invvpid) {
        add(name, row, [handle, opcode] { return std::make_unique<HandlerDefect>(opcode, handle); });
    }

    // What the host wants for itself, and how it goes on with it. Where a mutant drops a control that L1 has
    // asked for, or sets one that nobody has, the host's wishes change it all the time.
    void hosts() {
        namespace field = vmx::field;
        namespace primary = vmx::primary;
        const auto host = [this](const std::string& name, DefectMaker make) {
            all.push_back({name, std::nullopt, std::move(make), true});
        };
        const auto writes = [&](const std::string& name, auto which, L2FieldDefect::Change change) {
            host(name, [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        const auto controls = field::primary_processor_based_vm_execution_controls;
        struct Control {
            const char* name;
            std::uint32_t bit;
        };
        constexpr Control instructions[] = {{"HLT", primary::hlt_exiting},
                                            {"INVLPG", primary::invlpg_exiting},
                                            {"RDTSC", primary::rdtsc_exiting},
                                            {"CR3-load", primary::cr3_load_exiting},
                                            {"CR3-store", primary::cr3_store_exiting},
                                            {"PAUSE", primary::pause_exiting},
                                            {"unconditional I/O", primary::unconditional_io_exiting}};
        for (const auto& [name, bit] : instructions) {
            writes(std::string("composes no ") + name + " exiting", controls,
                   [bit = bit](std::uint64_t it) { return it & ~std::uint64_t{bit}; });
            // (The L1s of these programs have HLT exiting always.)
            if (bit == primary::hlt_exiting) continue;
            writes(std::string("composes always ") + name + " exiting", controls,
                   [bit = bit](std::uint64_t it) { return it | bit; });
        }
        writes("composes no TSC offsetting", controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{primary::use_tsc_offsetting}; });
        host("composes the primary controls once for all",
             [controls] { return std::make_unique<KeepsFirst<vmx::field::Bits32Control>>(controls); });
        writes("adds no TSC offset", field::tsc_offset, [](std::uint64_t) { return 0; });
        writes("leaves out the host's TSC offset", field::tsc_offset,
               [](std::uint64_t it) { return it - RandomHost::tsc_offset; });
        writes("adds the host's TSC offset twice", field::tsc_offset,
               [](std::uint64_t it) { return it + RandomHost::tsc_offset; });
        writes("leaves out L1's TSC offset", field::tsc_offset,
               [](std::uint64_t) { return RandomHost::tsc_offset; });
        constexpr std::uint64_t page_fault = 1U << 14;
        writes("composes no #PF of the exception bitmap", field::exception_bitmap,
               [](std::uint64_t it) { return it & ~page_fault; });
        writes("composes always #PF of the exception bitmap", field::exception_bitmap,
               [](std::uint64_t it) { return it | page_fault; });
        host("composes the exception bitmap once for all",
             [] { return std::make_unique<KeepsFirst<vmx::field::Bits32Control>>(field::exception_bitmap); });
        const auto leaves = [&](const char* name, auto which) {
            host(name, [which] { return std::make_unique<LeavesL1sWord>(which); });
        };
        leaves("leaves L1's exception bitmap in the place of the host's", field::exception_bitmap);
        leaves("leaves L1's mask of page faults in the place of the host's",
               field::page_fault_error_code_mask);
        leaves("leaves L1's CR3 targets where the host demands CR3 loads", field::cr3_target_count);
        leaves("leaves L1's TSC offset in the place of both", field::tsc_offset);
        leaves("leaves L1's guest/host mask of CR4 in the place of both", field::cr4_guest_host_mask);
        writes("composes no match of page faults", field::page_fault_error_code_match,
               [](std::uint64_t) { return 0; });
        using Act = Defect::HostsAct;
        const auto acts = [&](const char* name, Act act) {
            host(name, [act] { return std::make_unique<HostDefect>(HostDefect::Answers{.act = act}); });
        };
        acts("has L2 execute again what the host has done", Act::resume);
        acts("leaves out an instruction that the host has demanded", Act::behind);
        acts("faults at an instruction that the host has demanded", Act::fault);
        acts("swallows an exception that the host has demanded", Act::swallow);
        acts("keeps translations behind an INVLPG of the host's", Act::keep_tlb);
        acts("reads L2 the processor's counter", Act::plain_tsc);
        acts("reads L2 the counter of L1's", Act::l1s_tsc);
        const auto moves = [&](const char* name, HostDefect::Answers answers) {
            host(name, [answers] { return std::make_unique<HostDefect>(answers); });
        };
        moves("enters a processor and pays nothing", {.pays_on_entry = false});
        writes("injects nothing into L2", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it & 0x7FFF'FFFF; });
        writes("injects without the error code", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it & ~std::uint64_t{0x800}; });
        writes("injects another error code", field::vm_entry_exception_error_code,
               [](std::uint64_t it) { return it ^ 2; });
        writes("injects an NMI as an interrupt", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it == 0x8000'0202 ? 0x8000'0002 : it; });
        writes("opens an NMI window without virtual NMIs", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{vmx::pin::virtual_nmis}; });
    }

    // A nested state that is saved and restored.
    void states() {
        namespace field = vmx::field;
        const auto state = [this](const std::string& name, StateDefect::Change change) {
            const auto make = [change = std::move(change)] { return std::make_unique<StateDefect>(change); };
            all.push_back({name, std::nullopt, make, true, true});
        };
        const auto of_l2 = [&](const char* what, auto which) {
            state(std::string("restores no ") + what + " of the L2 that runs",
                  StateDefect::drops_of_l2(which.encoding));
        };
        of_l2("CR3", field::guest_cr3);
        of_l2("event", field::vm_entry_interruption_information);
        of_l2("RIP", field::guest_rip);
        of_l2("blocking", field::guest_interruptibility_state);
        const auto of_vmcs = [&](const char* what, auto which) {
            state(std::string("restores no ") + what + " of a VMCS",
                  StateDefect::drops_of_vmcs(which.encoding));
        };
        of_vmcs("exit reason", field::exit_reason);
        of_vmcs("exit qualification", field::exit_qualification);
        of_vmcs("guest CR3", field::guest_cr3);
        of_vmcs("VPID", field::virtual_processor_identifier);
        of_vmcs("exception bitmap", field::exception_bitmap);
        of_vmcs("instruction error", field::vm_instruction_error);
        state("loses which VMCS is current", [](StateWords& words) {
            if (!words.has_l2()) words.set(StateWords::current_at, ~std::uint64_t{0});
        });
        state("loses launch states", [](StateWords& words) {
            const auto current = words.get<std::uint64_t>(StateWords::current_at);
            words.for_each_vmcs([&](std::size_t vmcs, std::uint32_t) {
                if (!words.has_l2() || words.get<std::uint64_t>(vmcs) != current)
                    words.set(vmcs + 8, std::uint32_t{0});
            });
        });
        const auto flags = [&](const std::string& name, std::uint32_t when, std::uint32_t instead) {
            state(name, [when, instead](StateWords& words) {
                constexpr std::uint32_t how = 4 | 8;
                const auto found = words.get<std::uint32_t>(StateWords::flags_at);
                if (words.has_l2() && (found & how) == when)
                    words.set(StateWords::flags_at, (found & ~how) | instead);
            });
        };
        // Of the VM entry of L1's that is still to be made, and may fail.
        flags("forgets that the entry to be made is by VMLAUNCH", 8, 0);
        flags("takes an entry by VMLAUNCH for made", 8, 4);
        flags("takes an entry by VMRESUME for made", 0, 4);
        for (const bool l2 : {false, true}) {
            all.push_back({l2 ? "resumes L2 behind a state" : "resumes L1 behind a state", std::nullopt,
                           [l2] { return std::make_unique<ResumesBehindAState>(l2); }, true, true});
        }
        // What the other VMCSs are is in their regions, of long ago.
        state("restores half: the current VMCS alone", [](StateWords& words) { words.keep_current(); });
        all.push_back({"owes no flush for a state", std::nullopt,
                       [] { return std::make_unique<OwesNothingForAState>(); }, true, true});
    }

    // An L1 with several processors.
    void processors() {
        const auto add_one = adds(&Mutant::of_processors);
        using Request = Defect::Request;
        using Answer = Defect::Answer;
        const auto answers = [&](const char* name, Request request, Answer answer) {
            add_one(name, [=] { return std::make_unique<AnswersOtherwise>(request, answer); });
        };
        answers("loses the call to drop a page that was taken", Request::drop_taken_page, Answer::never);
        answers("drops a page that was taken behind the next entry", Request::drop_taken_page,
                Answer::behind_next_entry);
        answers("takes a page for closed that another processor is still to close", Request::close_page,
                Answer::told_but_not_yet);
        add_one("asks itself alone to close a page", [] { return std::make_unique<AsksItselfAlone>(); });
        add_one("notes another processor, too, as having closed a page",
                [] { return std::make_unique<NotesTheWrongProcessor>(); });
        add_one("does not notice a write to a page that all have closed",
                [] { return std::make_unique<NoticesNoWrite>(); });
        add_one("takes a flush that another processor has run for done",
                [] { return std::make_unique<OneMarkForAllProcessors>(); });
        add_one("tells processors apart by one bit of their number",
                [] { return std::make_unique<TellsProcessorsApartByOneBit>(); });
        add_one("runs a flush on the processor that ran one last",
                [] { return std::make_unique<FlushesWhereOneRanLast>(); });
        add_one("leaves out L1's first INVVPID for an L2 that has come from another processor",
                [] { return std::make_unique<FlushesOfAComing>(0); });
        add_one("has one VMCS for the L2s of all processors",
                [] { return std::make_unique<OneVmcsForL2sOfAll>(); });
        add_one("leaves an L2 on the processor that L1 takes it from",
                [] { return std::make_unique<LeavesItWhereItWas>(); });
        add_one("flushes twice for an L2 that has come from another processor",
                [] { return std::make_unique<FlushesOfAComing>(2); });
    }

    // Events whose delivery through an IDT an exit interrupts, and exceptions in the midst of one.
    void deliveries() {
        namespace field = vmx::field;
        const auto add_one = adds(&Mutant::of_deliveries);
        const auto writes = [&](const char* name, auto which, const L2FieldDefect::Change& change) {
            add_one(name, [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        // Of the event that is to be begun again, or is L1's.
        const auto forgets = [&](const char* name, std::uint64_t type) {
            writes(name, field::vm_entry_interruption_information,
                   [type](std::uint64_t it) { return (it >> 8 & 7) == type ? it & 0x7FFF'FFFF : it; });
        };
        forgets("forgets an interrupt whose delivery it has interrupted", 0);
        forgets("forgets an NMI whose delivery it has interrupted", 2);
        forgets("forgets an exception whose delivery it has interrupted", 3);
        forgets("forgets an INT whose delivery it has interrupted", 4);
        writes("begins an INT again as an exception", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return (it >> 8 & 7) == 4 ? it ^ 0x700 : it; });
        writes("begins an exception again without its error code", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it & ~std::uint64_t{0x800}; });
        writes("begins an exception again with another error code", field::vm_entry_exception_error_code,
               [](std::uint64_t it) { return it ^ 4; });
        writes("begins an INT again that is longer", field::vm_entry_instruction_length,
               [](std::uint64_t it) { return it + 1; });
        writes("leaves NMIs blocked where it begins an NMI again", field::guest_interruptibility_state,
               [](std::uint64_t it) { return it | 8; });
        writes("begins an exception again as the next one", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return (it >> 8 & 7) == 3 ? it + 1 : it; });
        // What becomes of two.
        writes("makes no double fault with an error code", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it == 0x8000'0B08 ? 0x8000'0308 : it; });
        writes("says of no error code that the cause is external", field::vm_entry_exception_error_code,
               [](std::uint64_t it) { return it & ~std::uint64_t{1}; });
        writes("saves no RF with an exception", field::guest_rflags,
               [](std::uint64_t it) { return it & ~x86::rflags::resume; });
        const auto shows = [&](const char* name, auto which, const L2FieldDefect::Change& change) {
            add_one(name, [which, change] {
                return std::make_unique<ShadowDefect>(
                    which, [change](std::uint64_t value, unsigned) { return std::optional{change(value)}; },
                    [](std::uint64_t value, std::uint64_t) { return value; });
            });
        };
        shows("shows L1 nothing of the event that was on its way", field::idt_vectoring_information,
              [](std::uint64_t) { return 0; });
        shows("shows L1 an event on its way without its error code", field::idt_vectoring_error_code,
              [](std::uint64_t it) { return it ^ 8; });
        shows("shows L1 an exit that says nothing of its exception", field::vm_exit_interruption_information,
              [](std::uint64_t) { return 0; });
        shows("shows L1 another length of an INT", field::vm_exit_instruction_length,
              [](std::uint64_t it) { return it + 1; });
    }

    // Demands of what only programs with handlers and modes execute.
    void demands_of_others() {
        namespace field = vmx::field;
        const auto host = [this](const char* name, DefectMaker make) {
            all.push_back({name, std::nullopt, std::move(make), true});
            all.back().of_modes = true;
        };
        const auto drops = [&](const char* name, std::uint32_t control) {
            host(name, [control] {
                return std::make_unique<L2FieldDefect>(
                    field::secondary_processor_based_vm_execution_controls,
                    [control](std::uint64_t it) { return it & ~std::uint64_t{control}; });
            });
        };
        drops("composes no WBINVD exiting", vmx::secondary::wbinvd_exiting);
        host("leaves L1's guest/host mask of CR0 in the place of both",
             [] { return std::make_unique<LeavesL1sWord>(field::cr0_guest_host_mask); });
        host("masks of CR0 what L1 does alone", [] {
            return std::make_unique<L2FieldDefect>(field::cr0_guest_host_mask,
                                                   [](std::uint64_t) { return 0; });
        });
        host("reads L2 the CR0 of long ago where the host masks it",
             [] { return std::make_unique<KeepsFirst<vmx::field::NaturalControl>>(field::cr0_read_shadow); });
        host("takes CR0.CD and NW for loaded by VM entry where the host masks them", [] {
            return std::make_unique<TakesBitsOfAnother>(
                field::cr0_read_shadow, field::guest_cr0,
                x86::cr0::cache_disable | x86::cr0::not_write_through);
        });
    }

    // L2s with PAE or 32-bit paging.
    void modes() {
        namespace field = vmx::field;
        const auto writes = [this](const char* name, auto which, const L2FieldDefect::Change& change) {
            all.push_back({name, std::nullopt,
                           [which, change] { return std::make_unique<L2FieldDefect>(which, change); }});
            all.back().of_modes = true;
        };
        writes("gives L2 no PDPTE", field::guest_pdpte1, [](std::uint64_t) { return 0; });
        writes("gives L2 another PDPTE", field::guest_pdpte1, [](std::uint64_t it) { return it ^ 0x1000; });
        writes("enters no L2 outside of IA-32e mode", field::vm_entry_controls,
               [](std::uint64_t it) { return it | vmx::entry_control::ia32e_mode_guest; });
        writes("leaves an L2 with 32-bit paging without pages of 4 MBytes", field::guest_cr4,
               [](std::uint64_t it) { return it & ~x86::cr4::page_size_extensions; });
        writes("gives every L2 PAE paging", field::guest_cr4,
               [](std::uint64_t it) { return it | x86::cr4::physical_address_extension; });
    }

    // What an L2 with VMCS shadowing reaches.
    void shadow_vmcss() {
        namespace field = vmx::field;
        const auto writes = [this](const char* name, auto which, const L2FieldDefect::Change& change) {
            add(name, std::nullopt,
                [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        writes("links no shadow VMCS", field::vmcs_link_pointer,
               [](std::uint64_t) { return ~std::uint64_t{0}; });
        add("links the first shadow VMCS for ever", std::nullopt, [] {
            return std::make_unique<L2FieldDefect>(field::vmcs_link_pointer,
                                                   [first = ~std::uint64_t{0}](std::uint64_t it) mutable {
                                                       if (first == ~std::uint64_t{0}) first = it;
                                                       return it == ~std::uint64_t{0} ? it : first;
                                                   });
        });
        constexpr std::uint64_t shadowing = vmx::secondary::vmcs_shadowing;
        writes("composes no VMCS shadowing", field::secondary_processor_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~shadowing; });
        writes("composes always VMCS shadowing", field::secondary_processor_based_vm_execution_controls,
               [](std::uint64_t it) { return it | shadowing; });
        add("has the VMREAD bitmap for VMWRITE", std::nullopt, [] {
            return std::make_unique<TakesAnotherFields<vmx::field::Bits64Control>>(
                field::vmwrite_bitmap_address, field::vmread_bitmap_address);
        });
        add("has one pair of VMREAD and VMWRITE bitmaps for all", std::nullopt, [] {
            return std::make_unique<KeepsFirst<vmx::field::Bits64Control>>(field::vmread_bitmap_address);
        });
        const auto state = [this](const char* name, const StateDefect::Change& change) {
            const auto make = [change] { return std::make_unique<StateDefect>(change); };
            all.push_back({name, std::nullopt, make, true, true});
        };
        state("restores no field of a shadow VMCS", [](StateWords& words) {
            words.for_each_vmcs([&](std::size_t vmcs, std::uint32_t fields) {
                if ((words.get<std::uint32_t>(vmcs + 8) & 2) == 0) return;
                for (std::uint32_t i = 0; i < fields; ++i)
                    words.set(vmcs + StateWords::vmcs_header + StateWords::field * i + 4, std::uint64_t{0});
            });
        });
        state("restores a shadow VMCS as an ordinary one", [](StateWords& words) {
            if (words.has_l2()) return;
            words.for_each_vmcs([&](std::size_t vmcs, std::uint32_t) {
                words.set(vmcs + 8, words.get<std::uint32_t>(vmcs + 8) & 1);
            });
        });
    }

    // What L1 comes to reach without an exit because it uses it often.
    void learned_fields() {
        namespace field = vmx::field;
        const auto learned = [this](std::string name, DefectMaker make) {
            all.push_back({.name = std::move(name), .make = std::move(make), .of_learned_fields = true});
        };
        const auto shadow = [&](const std::string& name, auto which, const ShadowDefect::Write& write,
                                const ShadowDefect::Read& read) {
            learned(name, [=] { return std::make_unique<ShadowDefect>(which, write, read); });
        };
        const auto as_it_is = [](std::uint64_t value, unsigned) { return std::optional{value}; };
        const auto what_it_finds = [](std::uint64_t value, std::uint64_t) { return value; };
        shadow(
            "puts no learned field into the shadow VMCS", field::guest_cr3,
            [](std::uint64_t, unsigned) { return std::optional<std::uint64_t>{}; }, what_it_finds);
        shadow(
            "leaves a learned field as it was when it was learned", field::guest_cr3,
            [](std::uint64_t value, unsigned count) {
                return count == 0 ? std::optional{value} : std::nullopt;
            },
            what_it_finds);
        for (const auto which : {field::guest_cr3, field::guest_fs_base}) {
            shadow("loses what L1 wrote to a learned " + std::string(vmx::name_of(which.encoding)), which,
                   as_it_is, [](std::uint64_t, std::uint64_t written) { return written; });
        }
        shadow("takes for a learned field what another VMCS had", field::guest_cr3, as_it_is,
               [last = std::uint64_t{0}](std::uint64_t value, std::uint64_t) mutable {
                   return std::exchange(last, value);
               });
        learned("has what L1 reads of one VMCS without an exit for all",
                [] { return std::make_unique<KeepsSecond>(vmx::field::vmread_bitmap_address); });
        learned("has what L1 writes of one VMCS without an exit for all",
                [] { return std::make_unique<KeepsSecond>(vmx::field::vmwrite_bitmap_address); });
    }

    void dropped() {
        const auto drops = [this](const char* name, std::optional<unsigned> row, auto&& which) {
            flush(name, row, [which](const HardwareFlush& it, std::uint16_t, const Run& run) {
                if (!which(it)) run(it);
            });
        };
        drops("drops every INVVPID", std::nullopt, [](const HardwareFlush& it) { return !it.invept; });
        drops("drops every INVEPT", std::nullopt, [](const HardwareFlush& it) { return it.invept; });
        drops("drops INVVPID of an address", std::nullopt,
              [](const HardwareFlush& it) { return !it.invept && it.type == 0; });
        drops("drops INVVPID of a context", std::nullopt,
              [](const HardwareFlush& it) { return !it.invept && it.type == 1; });
        drops("drops INVVPID that retains globals", std::nullopt,
              [](const HardwareFlush& it) { return !it.invept && it.type == 3; });
        drops("drops flushes of vpid01", 14,
              [](const HardwareFlush& it) { return !it.invept && it.vpid == 1; });
        drops("drops flushes on processor 1", std::nullopt,
              [](const HardwareFlush& it) { return it.processor == 1; });
        // Each flush that L0 owes, by its reason (docs/tags.md), but for two that nobody can see the absence
        // of here: no root of EPT02 is used twice, and the flags that a context sets in EPT12 are not
        // compared.
        for (unsigned number = 1; number < tag::flush_cause_names.size(); ++number) {
            const auto cause = static_cast<tag::FlushCause>(number);
            if (cause == tag::FlushCause::ept_contexts_new ||
                cause == tag::FlushCause::ept_context_flags_changed)
                continue;
            const std::string name = "leaves out: " + std::string(tag::name_of(cause));
            drops(name.c_str(), std::nullopt,
                  [cause](const HardwareFlush& it) { return it.cause.value == cause; });
        }
        drops("drops flushes of high-half addresses", std::nullopt,
              [](const HardwareFlush& it) { return !it.invept && it.type == 0 && it.operand >> 63 != 0; });
        add("drops every second INVVPID", std::nullopt, [] {
            return std::make_unique<FlushDefect>(
                [odd = false](const HardwareFlush& it, std::uint16_t, const Run& run) mutable {
                    if (it.invept || !std::exchange(odd, !odd)) run(it);
                });
        });
        add("drops every second INVEPT", std::nullopt, [] {
            return std::make_unique<FlushDefect>(
                [odd = false](const HardwareFlush& it, std::uint16_t, const Run& run) mutable {
                    if (!it.invept || !std::exchange(odd, !odd)) run(it);
                });
        });
        add("loses the flush that a move makes due", std::nullopt,
            [] { return std::make_unique<LosesFlushOfAMove>(); });
        add("takes a flush like the last one for done", std::nullopt,
            [] { return std::make_unique<RunsNoFlushAgain>(); });
        add("runs each INVVPID one flush late", std::nullopt,
            [] { return std::make_unique<OneFlushLate>(); });
        flush("takes a hardware INVVPID that fails for done", 33,
              [](HardwareFlush it, std::uint16_t, const Run& run) {
                  if (!it.invept) it.vpid = 0;
                  try {
                      run(it);
                  } catch (const EngineFailure&) {
                      // ... as success
                  }
              });
        add("gives L2's context what L1's is owed", 23, [] { return std::make_unique<ConsumedInL2>(); });
        flush("takes a flush that was raised elsewhere for done", std::nullopt,
              [](const HardwareFlush& it, std::uint16_t current, const Run& run) {
                  if (it.invept || it.vpid == current) run(it);
              });
        add("loses the flushes of a failed entry", 29,
            [] { return std::make_unique<LostWithAFailedEntry>(); });
        add("marks a tag valid and flushes it after the entry", std::nullopt,
            [] { return std::make_unique<LateFlush>(false); });
        add("runs INVEPT after the entry", std::nullopt, [] { return std::make_unique<LateFlush>(true); });
    }

    void misdirected() {
        const auto changes = [this](const char* name, std::optional<unsigned> row, auto&& change) {
            flush(name, row, [change](HardwareFlush it, std::uint16_t current, const Run& run) {
                change(it, current);
                run(it);
            });
        };
        add("flushes the tag that ran last", 15, [] { return std::make_unique<FlushesWhatRanLast>(); });
        changes("flushes the tag that is current", std::nullopt,
                [](HardwareFlush& it, std::uint16_t current) {
                    if (!it.invept && current != 0) it.vpid = current;
                });
        changes("flushes vpid01 always", 22, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) it.vpid = 1;
        });
        changes("flushes the next tag", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) ++it.vpid;
        });
        changes("runs INVVPID on processor 0", 28, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept) it.processor = 0;
        });
        changes("runs INVEPT on processor 0", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (it.invept) it.processor = 0;
        });
        changes("flushes the tag before", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.vpid > 1) --it.vpid;
        });
        changes("takes one root of several", 19, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 1) it.only_pcid = 0;
        });
        changes("takes an address in PCID 0 only", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 0) it.only_pcid = 0;
        });
        add("takes one EPT context of several", 35, [] { return std::make_unique<OneEptContext>(); });
        changes("takes the low half of an address", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 0) it.operand &= 0xFFFF'FFFF;
        });
        changes("flushes an address instead of a context", std::nullopt,
                [](HardwareFlush& it, std::uint16_t) {
                    if (!it.invept && it.type == 1) it.type = 0;
                });
        changes("retains globals always", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 1) it.type = 3;
        });
        changes("flushes the neighbour of an address", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (!it.invept && it.type == 0) it.operand ^= 0x1000;
        });
        changes("runs INVEPT of the next table", std::nullopt, [](HardwareFlush& it, std::uint16_t) {
            if (it.invept && it.type == 1) it.operand += 0x1000;
        });
        flush("runs INVEPT where INVVPID is due", 13, [](HardwareFlush it, std::uint16_t, const Run& run) {
            if (!it.invept) it = {true, 2, 0, 0, it.processor};
            run(it);
        });
    }

    void widened() {
        const auto widens = [this](const char* name, std::optional<unsigned> row, auto&& change) {
            flush(name, row, [change](HardwareFlush it, std::uint16_t, const Run& run) {
                change(it);
                run(it);
            });
        };
        widens("widens an address to its context", 11, [](HardwareFlush& it) {
            if (!it.invept && it.type == 0) it.type = 1;
        });
        widens("takes globals that may stay", std::nullopt, [](HardwareFlush& it) {
            if (!it.invept && it.type == 3) it.type = 1;
        });
        widens("runs raw INVVPID of all contexts", 33, [](HardwareFlush& it) {
            if (!it.invept) it.type = 2;
        });
        widens("runs raw INVEPT of all contexts", std::nullopt, [](HardwareFlush& it) {
            if (it.invept) it.type = 2;
        });
        flush("flushes twice", std::nullopt, [](const HardwareFlush& it, std::uint16_t, const Run& run) {
            run(it);
            run(it);
        });
        flush("runs INVEPT beside each INVVPID", std::nullopt,
              [](const HardwareFlush& it, std::uint16_t, const Run& run) {
                  run(it);
                  if (!it.invept) run({true, 2, 0, 0, it.processor});
              });
        flush("flushes every tag there is", std::nullopt,
              [](HardwareFlush it, std::uint16_t, const Run& run) {
                  const bool whole = !it.invept && it.type == 1;
                  for (std::uint16_t tag = 1; whole && tag < 8; ++tag) {
                      HardwareFlush other = it;
                      other.vpid = tag;
                      run(other);
                  }
                  run(it);
              });
        add("believes to have moved at every look", std::nullopt,
            [] { return std::make_unique<BelievesToHaveMoved>(); });
        using When = FlushAtTransition::When;
        const auto at = [this](const char* name, std::optional<unsigned> row, When when, bool invept) {
            add(name, row, [when, invept] {
                return std::make_unique<FlushAtTransition>(when,
                                                           HardwareFlush{invept, invept ? 2U : 1U, 0, 0, 0});
            });
        };
        at("flushes at every entry of L2", 20, When::entry_of_l2, false);
        at("flushes at every exit of L2", 16, When::exit_of_l2, false);
        at("flushes vpid01 at every entry of L1", std::nullopt, When::entry_of_l1, false);
        at("runs INVEPT at every entry of L2", std::nullopt, When::entry_of_l2, true);
        at("runs INVEPT at every exit of L2", std::nullopt, When::exit_of_l2, true);
    }

    void tags() {
        const auto same = [](std::uint16_t tag) { return tag; };
        const auto tag = [this](const char* name, std::optional<unsigned> row,
                                const TagDefect::Change& written, const TagDefect::Change& flushed) {
            add(name, row, [written, flushed] { return std::make_unique<TagDefect>(written, flushed); });
        };
        const auto one_for_all = [](std::uint16_t it) { return static_cast<std::uint16_t>(it == 0 ? 0 : 1); };
        const auto two = [](std::uint16_t it) { return static_cast<std::uint16_t>(it > 2 ? 2 : it); };
        tag("gives every guest one tag", 2, one_for_all, one_for_all);
        tag("gives every second owner the tag of the first", 2, two, two);
        tag("runs L2 under vpid01 and flushes its own tag", 25, one_for_all, same);
        tag(
            "reuses a tag at once", std::nullopt,
            [](std::uint16_t it) { return static_cast<std::uint16_t>(it > 3 ? 3 : it); }, same);
        tag("keeps the last tag for a new vpid12", 24, two, same);
        const auto swapped = [](std::uint16_t it) {
            return static_cast<std::uint16_t>(it == 2 || it == 3 ? it ^ 1 : it);
        };
        tag("runs L2 under another tag than it flushes", std::nullopt, swapped, same);
        tag(
            "runs L2 under the tag that L1 named", 32,
            [](std::uint16_t it) { return static_cast<std::uint16_t>(it > 1 ? it - 1 : it); }, same);
        add("sets enable VPID without a tag", 30, [] { return std::make_unique<AlwaysEnablesVpid>(); });
        add("keeps the tags of a VM that is destroyed", std::nullopt,
            [] { return std::make_unique<KeepsWhatWasDestroyed>(false); });
        add("keeps the tags of a VM that is destroyed in L2", 10,
            [] { return std::make_unique<KeepsWhatWasDestroyed>(true); });
        add("takes a tag that comes back for what it was", 27,
            [] { return std::make_unique<KeepsMarksAcrossVmxoff>(); });
        add("counts moves per virtual CPU", 37, [] { return std::make_unique<CountsMovesPerVirtualCpu>(); });
        add("believes to be on processor 0", std::nullopt,
            [] { return std::make_unique<BelievesProcessor0>(); });
        add("does not tell of a taken page", 17, [] { return std::make_unique<KeepsTakenPages>(); });
    }

    void nmis() {
        const auto answers = [this](const char* name, NmiDefect::Answers wrong) {
            add(name, std::nullopt, [wrong] { return std::make_unique<NmiDefect>(wrong); });
        };
        answers("forgets an NMI that meets it", {.keeps = false});
        answers("gives an NMI twice", {.gave = false});
        answers("loses the NMI of an entry that fails", {.takes_back = false});
        answers("injects NMIs whatever blocks them", {.asks_the_engine = false});
        add("leaves an NMI in the entry field", std::nullopt,
            [] { return std::make_unique<LeavesNmiInTheEntryField>(); });
        const auto writes = [this](const char* name, auto which, FieldDefect::Change change) {
            add(name, std::nullopt, [which, change] { return std::make_unique<FieldDefect>(which, change); });
        };
        namespace field = vmx::field;
        constexpr std::uint64_t blocking = vmx::interruptibility::blocking_by_nmi;
        writes("unblocks NMIs where one was the exit", field::guest_interruptibility_state,
               [](std::uint64_t it) { return it & ~blocking; });
        writes("blocks NMIs at every exit", field::guest_interruptibility_state,
               [](std::uint64_t it) { return it == 0 ? blocking : it; });
        writes("gives an NMI as an exception", field::vm_entry_interruption_information,
               [](std::uint64_t it) { return it == 0x8000'0202 ? 0x8000'0302 : it; });
        writes("lets no NMI exit", field::pin_based_vm_execution_controls, [](std::uint64_t it) {
            return it & ~std::uint64_t{vmx::pin::nmi_exiting | vmx::pin::virtual_nmis};
        });
        writes("takes virtual NMIs for NMIs", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{vmx::pin::virtual_nmis}; });
        writes("lets every NMI exit", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it | vmx::pin::nmi_exiting; });
        writes("does not say that an IRET unblocked NMIs", field::exit_qualification,
               [](std::uint64_t it) { return it & ~(std::uint64_t{1} << 12); });
    }

    void interrupts() {
        namespace field = vmx::field;
        using Vector = OffersAnother::Vector;
        const auto event = adds(&Mutant::of_interrupts);
        const auto answers = [&](const char* name, InterruptDefect::Answers wrong) {
            event(name, [wrong] { return std::make_unique<InterruptDefect>(wrong); });
        };
        const auto offers = [&](const char* name, const OffersAnother::Change& change) {
            event(name, [change] { return std::make_unique<OffersAnother>(change); });
        };
        const auto injects = [&](const char* name, const InjectsItself::When& when) {
            event(name, [when] { return std::make_unique<InjectsItself>(when); });
        };
        const auto writes = [&](const char* name, auto which, const L2FieldDefect::Change& change) {
            event(name, [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        writes("enters a halted L2 as one that runs", field::guest_activity_state,
               [](std::uint64_t it) { return it == 1 ? 0 : it; });
        answers("acknowledges an interrupt that it only shows L1", {.shown_is_acknowledged = true});
        answers("does not acknowledge an interrupt that it gives", {.given_is_acknowledged = false});
        answers("loses the interrupt of an entry that fails", {.takes_back = false});
        answers("gives L1 an interrupt of its own", {.knows_its_own = false});
        answers("gives an interrupt before an NMI", {.nmis_first = false});
        offers("forgets an interrupt that meets it", [](Vector) { return Vector{}; });
        offers("gives an interrupt of another vector", [](Vector it) {
            if (it) ++*it;
            return it;
        });
        event("gives an interrupt twice", [] {
            return std::make_unique<OffersAnother>([last = Vector{}](Vector it) mutable {
                return it ? last = it : std::exchange(last, std::nullopt);
            });
        });
        event("gives an interrupt one entry late", [] {
            return std::make_unique<OffersAnother>([last = Vector{}](Vector it) mutable {
                return std::exchange(last, it) == it ? it : Vector{};
            });
        });
        using Gate = Defect::Gate;
        injects("injects interrupts whatever blocks them", [](const Gate&) { return true; });
        injects("injects interrupts without RFLAGS.IF", [](const Gate& gate) {
            return !gate.interrupts_on && !gate.by_sti && !gate.by_mov_ss && !gate.waiting;
        });
        injects("injects interrupts under blocking by STI", [](const Gate& gate) { return gate.by_sti; });
        injects("injects interrupts under blocking by MOV SS",
                [](const Gate& gate) { return gate.by_mov_ss && gate.interrupts_on; });
        injects("puts an interrupt in the place of L1's event",
                [](const Gate& gate) { return gate.waiting && gate.interrupts_on; });
        injects("injects into L2 the interrupt that L1 wants as an exit", [](const Gate& gate) {
            return gate.in_l2 && gate.interrupts_on && !gate.by_sti && !gate.by_mov_ss && !gate.waiting;
        });
        constexpr std::uint64_t window = vmx::primary::interrupt_window_exiting;
        event("opens no interrupt window", [] {
            return std::make_unique<FieldDefect>(field::primary_processor_based_vm_execution_controls,
                                                 [](std::uint64_t it) { return it & ~window; });
        });
        event("leaves an interrupt window open", [] { return std::make_unique<LeavesWindowOpen>(); });
        event("gives an interrupt as an exception", [] {
            return std::make_unique<FieldDefect>(
                field::vm_entry_interruption_information,
                [](std::uint64_t it) { return it >> 8 == 0x80'0000 ? it | 0x300 : it; });
        });
        writes("lets no interrupt exit", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{vmx::pin::external_interrupt_exiting}; });
        writes("acknowledges interrupts at every exit", field::vm_exit_controls,
               [](std::uint64_t it) { return it | vmx::exit_control::acknowledge_interrupt_on_exit; });
        writes("acknowledges interrupts at no exit", field::vm_exit_controls, [](std::uint64_t it) {
            return it & ~std::uint64_t{vmx::exit_control::acknowledge_interrupt_on_exit};
        });
        writes("enters an L2 that is halted as one that is not", field::guest_activity_state,
               [](std::uint64_t) { return 0; });
        writes("leaves an L2 halted", field::guest_activity_state,
               [](std::uint64_t) { return std::uint64_t{1}; });
        all.push_back(
            {"does not hand on what waits to another L0", std::nullopt,
             [] { return std::make_unique<InterruptDefect>(InterruptDefect::Answers{.hands_on = false}); },
             true, true, true});
    }

    void time() {
        namespace field = vmx::field;
        const auto timed = adds(&Mutant::of_time);
        const auto writes = [&](const char* name, auto which, const L2FieldDefect::Change& change) {
            timed(name, [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        const auto reads = [&](const char* name, const ReadsAnotherClock::Change& change) {
            timed(name, [change] { return std::make_unique<ReadsAnotherClock>(change); });
        };
        const auto value = field::vmx_preemption_timer_value;
        writes("loads a timer that never ends", value, [](std::uint64_t) { return 0xFFFF'FFFF; });
        writes("loads a timer that has ended", value, [](std::uint64_t) { return 0; });
        writes("loads a timer that ends one unit early", value,
               [](std::uint64_t it) { return it - (it != 0 ? 1 : 0); });
        writes("loads a timer that ends one unit late", value,
               [](std::uint64_t it) { return it + (it != 0xFFFF'FFFF ? 1 : 0); });
        writes("keeps 4 bits of the timer", value, [](std::uint64_t it) { return it & 0xF; });
        timed("loads the timer once for all",
              [value] { return std::make_unique<KeepsFirst<std::remove_const_t<decltype(value)>>>(value); });
        writes("composes no VMX-preemption timer", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{vmx::pin::activate_vmx_preemption_timer}; });
        writes("composes always the VMX-preemption timer", field::pin_based_vm_execution_controls,
               [](std::uint64_t it) { return it | vmx::pin::activate_vmx_preemption_timer; });
        reads("reads a clock that stands", [first = std::uint64_t{0}](std::uint64_t now) mutable {
            return first = first != 0 ? first : now;
        });
        reads("reads a clock that goes at half the rate", [](std::uint64_t now) {
            return static_cast<std::uint64_t>(static_cast<std::int64_t>(now) / 2);
        });
        reads("reads a clock that goes twice as fast", [](std::uint64_t now) { return now * 2; });
        reads("reads a clock that goes back", [](std::uint64_t now) { return ~now; });
        reads("reads the low 6 bits of the clock", [](std::uint64_t now) { return now % 64; });
        reads("reads a clock that is ahead of the processor's", [](std::uint64_t now) { return now + 40; });
        reads("reads a clock that is behind the processor's", [](std::uint64_t now) { return now - 40; });
        timed("shows L1 the ends of its own turns", [] { return std::make_unique<ShowsItsTurns>(); });
        timed("gives L1 the processor's counter", [] {
            return std::make_unique<FieldDefect>(
                field::tsc_offset, [](std::uint64_t it) { return it == RandomHost::tsc_offset ? 0 : it; });
        });
        timed("gives L1 a counter that is a tick behind", [] {
            return std::make_unique<FieldDefect>(field::tsc_offset, [](std::uint64_t it) { return it - 1; });
        });
    }

    void logs() {
        namespace field = vmx::field;
        const auto of_logs = adds(&Mutant::of_logs);
        const auto tells = [&](const char* name, auto which, const ToldDefect::Change& change) {
            of_logs(name, [which, change] { return std::make_unique<ToldDefect>(which, change); });
        };
        const auto writes = [&](const char* name, auto which, const L2FieldDefect::Change& change) {
            of_logs(name, [which, change] { return std::make_unique<L2FieldDefect>(which, change); });
        };
        of_logs("leaves the index of L1's log as it is", [] { return std::make_unique<KeepsTheIndex>(); });
        tells("lets the index of L1's log begin again behind 0", field::pml_index,
              [](std::uint64_t it) { return it == 0xFFFF ? 511 : it; });
        tells("gives L1's log an index of 9 bits", field::pml_index,
              [](std::uint64_t it) { return it & 0x1FF; });
        tells("shows L1 a full log as an EPT violation", field::exit_reason,
              [](std::uint64_t it) { return it == 62 ? 48 : it; });
        of_logs("notes the whole address in L1's log",
                [] { return std::make_unique<NotesTheWholeAddress>(); });
        of_logs("fills L1's log from its beginning",
                [] { return std::make_unique<FillsFromTheBeginning>(); });
        of_logs("notes a write whose dirty flag is set in L1's log",
                [] { return std::make_unique<NotesWithoutAFlag>(true); });
        of_logs("notes a read in L1's log", [] { return std::make_unique<NotesWithoutAFlag>(false); });
        of_logs("lets L2 write past a full log", [] { return std::make_unique<WritesPastAFullLog>(); });
        writes("leaves out L1's TSC multiplier", field::tsc_multiplier,
               [](std::uint64_t) { return log_program::same_rate; });
        writes("composes no TSC scaling", field::secondary_processor_based_vm_execution_controls,
               [](std::uint64_t it) { return it & ~std::uint64_t{vmx::secondary::use_tsc_scaling}; });
        writes("keeps 32 bits of the TSC multiplier", field::tsc_multiplier,
               [](std::uint64_t it) { return it & 0xFFFF'FFFF'0000'0000; });
        of_logs("leaves out the host's TSC multiplier",
                [] { return std::make_unique<LeavesOutTheHostsMultiplier>(); });
        of_logs("adds the host's TSC offset behind L1's multiplier",
                [] { return std::make_unique<AddsOffsetsInAnotherOrder>(false); });
        of_logs("multiplies L1's TSC offset too",
                [] { return std::make_unique<AddsOffsetsInAnotherOrder>(true); });
    }

    void inits() {
        namespace field = vmx::field;
        using Inits = Defect::Inits;
        const auto of_inits = adds(&Mutant::of_inits);
        const auto answers = [&](const char* name, Inits wrong) {
            of_inits(name, [wrong] { return std::make_unique<InitDefect>(wrong); });
        };
        const auto writes = [&](const char* name, auto which, const FieldDefect::Change& change) {
            of_inits(name, [which, change] { return std::make_unique<FieldDefect>(which, change); });
        };
        answers("forgets an INIT that meets it", {.keeps = false});
        answers("gives an INIT twice", {.gave = false});
        answers("resets L1 and not what the engine has of it", {.resets_engine = false});
        answers("resets what the engine has of L1 alone", {.resets_registers = false});
        answers("keeps L1's local APIC behind an INIT", {.resets_local_apic = false});
        answers("resets an L1 that is in VMX operation", {.asks_the_engine = false});
        answers("starts no L1 that waits for it", {.starts_who_waits = false});
        answers("starts an L1 that does not wait", {.knows_who_waits = false});
        answers("starts L1 at another page", {.knows_the_page = false});
        of_inits("keeps the tags of L1's guests behind an INIT",
                 [] { return std::make_unique<KeepsTagsBehindAnInit>(); });
        writes("lets L1 run behind an INIT", field::guest_activity_state,
               [](std::uint64_t it) { return it == 3 ? 0 : it; });
        writes("halts L1 behind an INIT", field::guest_activity_state,
               [](std::uint64_t it) { return it == 3 ? 1 : it; });
        writes("keeps what L1 had in CR4 behind an INIT", field::cr4_read_shadow,
               [last = std::uint64_t{0}](std::uint64_t it) mutable { return it == 0 ? last : last = it; });
        writes("starts L1 with the segment that INIT leaves", field::guest_cs_base,
               [](std::uint64_t it) { return it < 0x10'0000 && it != 0 ? 0xFFFF'0000 : it; });
        writes("enters an L2 that waits for a start-up IPI as one that does not", field::guest_activity_state,
               [](std::uint64_t it) { return it == 3 ? 2 : it; });
    }

    void handlers() {
        handler("does not advance RIP at a bad type", 4, [](const Defect::Handled& it) {
            return type_of(it) > 3 ? Handling::stay : Handling::engine;
        });
        handler("offers type 2 only", 5, [](const Defect::Handled& it) {
            return type_of(it) == 2 ? Handling::engine : Handling::fail_28;
        });
        handler("looks at some bits of the type", std::nullopt, [](const Defect::Handled& it) {
            type_of(it) &= 0xFFFF'FFFF;
            return Handling::engine;
        });
        handler("takes the type modulo 64", 6, [](const Defect::Handled& it) {
            type_of(it) &= 63;
            return Handling::engine;
        });
        handler("accepts VPID 0", 7, [](const Defect::Handled& it) {
            return it.operand[0] == 0 && type_of(it) < 4 ? Handling::succeed : Handling::engine;
        });
        handler("ignores the descriptor's reserved bits", 9, [](const Defect::Handled& it) {
            it.operand[0] &= 0xFFFF;
            return Handling::engine;
        });
        handler("reads four bytes of the descriptor", 9, [](const Defect::Handled& it) {
            it.operand[0] &= 0xFFFF'FFFF;
            return Handling::engine;
        });
        handler("succeeds where INVVPID is not offered", 1,
                [](const Defect::Handled&) { return Handling::succeed; });
        handler("refuses type 3", 31, [](const Defect::Handled& it) {
            return type_of(it) == 3 ? Handling::fail_28 : Handling::engine;
        });
        handler("flushes nothing for type 2 with VPID 0", 34, [](const Defect::Handled& it) {
            return type_of(it) == 2 && it.operand[0] == 0 ? Handling::succeed : Handling::engine;
        });
        handler("takes type 2 for the named VPID", 34, [](const Defect::Handled& it) {
            if (type_of(it) == 2 && it.operand[0] != 0) type_of(it) = 1;
            return Handling::engine;
        });
        handler("untags LAM addresses", 26, [](const Defect::Handled& it) {
            constexpr std::uint64_t lam = 0x7E00'0000'0000'0000;
            it.operand[1] = it.operand[1] >> 63 != 0 ? it.operand[1] | lam : it.operand[1] & ~lam;
            return Handling::engine;
        });
        handler("refuses high-half addresses", 32, [](const Defect::Handled& it) {
            return type_of(it) == 0 && it.operand[1] >> 63 != 0 ? Handling::fail_28 : Handling::engine;
        });
        handler("does not look at bit 47", 33, [](const Defect::Handled& it) {
            const std::uint64_t above = it.operand[1] >> 48;
            if (type_of(it) == 0 && (above == 0 || above == 0xFFFF)) it.operand[1] = 0x4000'0000;
            return Handling::engine;
        });
        const auto tells = [this](const char* name, std::optional<unsigned> row, std::uint32_t msr,
                                  std::uint64_t set, std::uint64_t clear) {
            add(name, row, [=] { return std::make_unique<Tells>(msr, set, clear); });
        };
        constexpr std::uint64_t allowed_vpid = std::uint64_t{vmx::secondary::enable_vpid} << 32;
        constexpr std::uint64_t invvpid_types = 0xF01ULL << 32;  // SDM 3D A.10
        tells("offers the control without tags", 8, x86::msr::ia32_vmx_procbased_ctls2, allowed_vpid, 0);
        tells("offers INVVPID without tags", 8, x86::msr::ia32_vmx_ept_vpid_cap, invvpid_types, 0);
        tells("hides the control that it has", std::nullopt, x86::msr::ia32_vmx_procbased_ctls2, 0,
              allowed_vpid);
        tells("hides the INVVPID that it has", std::nullopt, x86::msr::ia32_vmx_ept_vpid_cap, 0,
              invvpid_types);
        const auto misreads = [this](const char* name, std::optional<unsigned> row,
                                     const MisreadsVpid12::Change& change) {
            add(name, row, [change] { return std::make_unique<MisreadsVpid12>(change); });
        };
        misreads("accepts vpid12 = 0", 12, [](std::uint64_t it) { return it == 0 ? 1 : it; });
        misreads("keeps eight bits of vpid12", std::nullopt, [](std::uint64_t it) { return it & 0xFF; });
        add("takes all contexts for the last one", 36,
            [] { return std::make_unique<AllContextsAreTheLast>(); });
        add("wants a current VMCS", 3, [] { return std::make_unique<WantsCurrentVmcs>(); });
        handler(
            "ignores INVEPT of one context", 18,
            [](const Defect::Handled& it) { return type_of(it) == 1 ? Handling::succeed : Handling::engine; },
            Opcode::invept);
        handler(
            "ignores INVEPT of all contexts", std::nullopt,
            [](const Defect::Handled& it) { return type_of(it) == 2 ? Handling::succeed : Handling::engine; },
            Opcode::invept);
        add("compares EPTP, not EP4TA", 21, [] { return std::make_unique<ComparesWholeEptp>(); });
    }
};

}  // namespace

const std::vector<Mutant>& mutants() {
    static const Table table;
    return table.all;
}

}  // namespace flatback::machine
