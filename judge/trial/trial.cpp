#include "judge/trial/trial.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "judge/trial/machine_port.hpp"
#include "machine/error.hpp"
#include "machine/program/bare_world.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "machine/program/text.hpp"
#include "machine/rules/address.hpp"
#include "vmx/controls.hpp"
#include "vmx/ept.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::uint64_t page_mask = ~std::uint64_t{0xFFF};

/// In the place of a step that is not made, so that the numbers stay.
constexpr Step no_step{.kind = StepKind::nop, .actor = Actor::edit};

/// The access that a step makes at an address of the program's choice.
struct StepAccess {
    std::uint64_t linear_address;
    Access access;
};

std::optional<StepAccess> access_of(const Step& step) {
    const auto& operands = step.operands;
    switch (step.kind) {
        case StepKind::load:
            return StepAccess{operands[0] & ~std::uint64_t{7}, {AccessKind::read, operands[1] != 0}};
        case StepKind::fetch:
            return StepAccess{operands[0] & ~std::uint64_t{7}, {AccessKind::fetch, operands[1] != 0}};
        case StepKind::store:
            return StepAccess{operands[0] & ~std::uint64_t{7}, {AccessKind::write, operands[2] != 0}};
        case StepKind::iret:
            return StepAccess{operands[0], {}};
        case StepKind::invept_at:
        case StepKind::invvpid_at:
            return StepAccess{operands[1], {}};
        case StepKind::invpcid:
            return StepAccess{layout::scratch(step.vcpu), {}};
        default:
            return std::nullopt;
    }
}

bool is_canonical_access(const StepAccess& made) {
    return rules::is_canonical(made.linear_address);
}

/// The bare run.
class BareSide {
public:
    BareSide(const Program& program, const NestedWorld::Options& options)
        : world_({.vcpus = options.vcpus, .machine = machine_options(options)}), runner_(world_) {
        for (const Step& step : program.steps) {
            if (step.kind == StepKind::ept_map) guest_pages_.insert(step.operands[1] & page_mask);
        }
    }

    [[nodiscard]] bool runs(const Step& step) const {
        return step.actor != Actor::l0 && step.actor != Actor::edit &&
               step.vcpu < world_.vcpu_count(step.vm) && world_.running(step.vm, step.vcpu) == step.actor;
    }
    /// What the processor may have fetched on its own: all that the EPT in use maps.
    void speculate(const Step& step) {
        if (step.actor != Actor::l2 || !runs(step)) return;
        Machine& machine = world_.machine(step.vm);
        TranslationContext context = machine.translation_context(step.vcpu);
        if (!context.ept_in_use) return;
        // Guest-physical mappings belong to no VPID; the combined ones that come with them go to one that
        // nobody uses.
        context.paging = false;
        context.vpid = 0xFFFF;
        context.pcid = 0xFFF;
        context.ept.eptp &= ~std::uint64_t{1U << 6};
        for (const std::uint64_t page : guest_pages_) {
            machine.retentive_tlb(step.vcpu).prefetch(machine.memory(), context, page, {});
        }
    }
    [[nodiscard]] PermittedOutcomes permitted(const Step& step, const StepAccess& made) {
        return world_.permitted(step.vm, step.vcpu, made.linear_address, made.access);
    }
    Observation step(const Step& step) { return runner_.step(step); }
    /// The SDM leaves undefined what the step does: it takes a VMCS that is active on another processor (SDM
    /// 3C 25.11.1), or enters with a list of MSRs that is longer than the processor's (SDM 3D A.6).
    [[nodiscard]] bool is_undefined(const Step& step) {
        if ((step.kind == StepKind::vmlaunch || step.kind == StepKind::vmresume) && runs(step))
            return has_long_msr_list(step);
        const bool takes = step.kind == StepKind::vmclear || step.kind == StepKind::vmptrld ||
                           step.kind == StepKind::prepare;
        if (!takes || !runs(step)) return false;
        const Vmcs* vmcs = world_.machine(step.vm).find_vmcs(step.operands[0]);
        return vmcs != nullptr && vmcs->active_on != Vmcs::inactive && vmcs->active_on != step.vcpu;
    }
    [[nodiscard]] bool has_long_msr_list(const Step& step) {
        const Vmcs* vmcs = world_.machine(step.vm).current_vmcs(step.vcpu);
        if (vmcs == nullptr) return false;
        // Whether an NMI that is injected under blocking by STI is refused before the list is loaded, or not
        // at all, the SDM leaves to the processor (27.3.1.5), and L0 leaves it to its own.
        const bool nmi_under_sti =
            (vmcs->get(field::vm_entry_interruption_information) & 0x8000'0700) == 0x8000'0200 &&
            (vmcs->get(field::guest_interruptibility_state) & 1) != 0;
        if (nmi_under_sti && vmcs->get(field::vm_entry_msr_load_count) != 0) return true;
        const std::uint32_t longest = world_.model().vmx.msr_list_entries();
        return vmcs->get(field::vm_entry_msr_load_count) > longest ||
               vmcs->get(field::vm_exit_msr_load_count) > longest ||
               vmcs->get(field::vm_exit_msr_store_count) > longest;
    }
    /// Behind a MOV SS of L2's, or as L1 enters it so, an interrupt is an exit although RFLAGS.IF is 0, where
    /// NMIs exit too, or are blocked: no window tells L0 of that moment, which has the next exit. So it is
    /// behind STI or MOV SS where the next instruction, or the delivery of its exception, clears the flag;
    /// and where L2 was about to exit for an interrupt window of L1's, and an NMI went in before.
    void note_missed_window(const Step& step, bool has_taken_nmi) {
        const std::pair who{step.vm, step.vcpu};
        Machine& machine = world_.machine(step.vm);
        const Cpu& cpu = machine.cpu(step.vcpu);
        const bool was_in_shadow = in_shadow_.erase(who) != 0;
        if (!cpu.in_non_root()) {
            missed_windows_.erase(who);
            return;
        }
        const Vmcs& vmcs = *machine.current_vmcs(step.vcpu);
        const bool nmis_exit =
            (vmcs.get(field::pin_based_vm_execution_controls) & vmx::pin::nmi_exiting) != 0;
        const bool waits_for_window = (vmcs.get(field::primary_processor_based_vm_execution_controls) &
                                       vmx::primary::interrupt_window_exiting) != 0;
        const std::uint32_t blocking = cpu.registers.interruptibility;
        const bool nmis_blocked = (blocking & vmx::interruptibility::blocking_by_nmi) != 0;
        const bool behind_mov_ss =
            (nmis_exit || nmis_blocked) && (blocking & vmx::interruptibility::blocking_by_mov_ss) != 0;
        const bool behind_nmi = has_taken_nmi && nmis_blocked && waits_for_window;
        const bool interrupts_on = (cpu.registers.rflags & x86::rflags::interrupt_enable) != 0;
        constexpr std::uint32_t shadows =
            vmx::interruptibility::blocking_by_sti | vmx::interruptibility::blocking_by_mov_ss;
        if (interrupts_on && (blocking & shadows) != 0) in_shadow_.insert(who);
        if ((behind_mov_ss || was_in_shadow || behind_nmi) && !interrupts_on) missed_windows_.insert(who);
    }
    [[nodiscard]] bool may_miss_interrupt(const Step& step) const {
        return missed_windows_.contains({step.vm, step.vcpu});
    }
    void pass() { runner_.step(no_step); }
    [[nodiscard]] BareWorld& world() { return world_; }

private:
    static Machine::Options machine_options(const NestedWorld::Options& options) {
        Machine::Options machine;
        machine.model = NestedWorld::l1_model(options);
        machine.memory.limit_bytes = options.memory_bytes;
        machine.retentive.entry_limit = options.entry_limit;
        return machine;
    }

    BareWorld world_;
    Runner runner_;
    std::set<std::uint64_t> guest_pages_;
    std::set<std::pair<unsigned, unsigned>> missed_windows_;  // virtual CPUs
    std::set<std::pair<unsigned, unsigned>> in_shadow_;       // ... of STI or MOV SS, with RFLAGS.IF
};

std::string name_of(const PermittedOutcomes& outcomes) {
    std::string text;
    for (const PermittedOutcome& each : outcomes) {
        if (!text.empty()) text += "; ";
        text += describe(each);
    }
    return text.empty() ? "nothing" : text;
}

/// Null, or the name of a register that differs.
const char* differing(const Registers& a, const Registers& b) {
    if (a.general[4] != b.general[4]) return "RSP";
    if (a.general != b.general) return "a general register";
    if (a.rip != b.rip) return "RIP";
    if (a.rflags != b.rflags) return "RFLAGS";
    if (a.cr0 != b.cr0) return "CR0";
    if (a.cr2 != b.cr2) return "CR2";
    if (a.cr3 != b.cr3) return "CR3";
    if (a.cr4 != b.cr4) return "CR4";
    if (a.dr7 != b.dr7) return "DR7";
    if (a.efer != b.efer) return "IA32_EFER";
    if (a.pat != b.pat) return "IA32_PAT";
    if (a.debugctl != b.debugctl) return "IA32_DEBUGCTL";
    if (a.sysenter_cs != b.sysenter_cs || a.sysenter_esp != b.sysenter_esp ||
        a.sysenter_eip != b.sysenter_eip) {
        return "IA32_SYSENTER_*";
    }
    for (std::size_t index = 0; index < a.segments.size(); ++index) {
        // No instruction shows a register's AVL, only the descriptor's in memory: L0 may use it.
        const auto seen = [](Segment segment) {
            segment.access_rights &= ~x86::AccessRights::available_bit;
            return segment;
        };
        const Segment x = seen(a.segments[index]);
        const Segment y = seen(b.segments[index]);
        // Of an unusable segment only the selector can be seen, and the bases that have MSRs.
        if (x.selector != y.selector) return "a segment selector";
        if ((x.access_rights & y.access_rights & x86::AccessRights::unusable_bit) == 0 && !(x == y)) {
            return "a segment register";
        }
    }
    if (!(a.gdtr == b.gdtr) || !(a.idtr == b.idtr)) return "GDTR or IDTR";
    if (a.interruptibility != b.interruptibility) return "the interruptibility state";
    if (a.activity != b.activity) return "the activity state";
    if (a.star != b.star || a.lstar != b.lstar || a.fmask != b.fmask ||
        a.kernel_gs_base != b.kernel_gs_base || a.tsc_aux != b.tsc_aux) {
        return "an MSR";
    }
    return nullptr;
}

std::string hex(std::uint64_t value) {
    char text[24];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

/// Pages whose bytes are the processor's own affair: VMCS and VMXON regions (SDM 3C 25.2).
std::set<std::uint64_t> regions_of(const Program& program) {
    std::set<std::uint64_t> pages;
    for (const Step& step : program.steps) {
        switch (step.kind) {
            case StepKind::vmxon:
            case StepKind::vmclear:
            case StepKind::vmptrld:
            case StepKind::prepare:
                pages.insert(step.operands[0] & page_mask);
                break;
            case StepKind::vmwrite:
                // A shadow VMCS becomes active by the entry that links it.
                if (step.operands[0] == vmx::field::vmcs_link_pointer.encoding &&
                    step.operands[1] - layout::vmcs_region(0) < layout::vmcss * x86::page_size_4k)
                    pages.insert(step.operands[1] & page_mask);
                break;
            default:
                break;
        }
    }
    return pages;
}

/// Accessed and dirty flags of EPT12: a processor may set them for walks that come to nothing, and this
/// machine does not.
std::uint64_t flags_at(std::uint64_t address) {
    const bool of_ept = address - layout::ept_tables < layout::ept_hierarchies * layout::hierarchy_bytes;
    return of_ept ? vmx::ept_entry::accessed | vmx::ept_entry::dirty : 0;
}

class Comparison {
public:
    Comparison(const Program& program, const NestedWorld::Options& options)
        : program_(program),
          bare_(program, options),
          nested_(options),
          nested_runner_(nested_),
          limit_is_error_(options.limit_is_error) {}

    std::optional<Difference> run() {
        std::size_t number = 0;
        try {
            for (; number < program_.steps.size(); ++number) {
                if (auto difference = step(number)) return difference;
                if (undefined_) return std::nullopt;  // or L1 is shut down
            }
            return memory();
        } catch (const LimitReached&) {
            if (limit_is_error_) throw;
            return std::nullopt;
        } catch (const EngineFailure& failure) {
            return Difference{.kind = Difference::Kind::stopped, .step = number, .text = failure.what()};
        }
    }

private:
    std::optional<Difference> step(std::size_t number) {
        const Step& step = program_.steps[number];
        bare_.speculate(step);
        // A hint: what comes of it is the processor's affair.
        if (step.kind == StepKind::prefetch) return pass();
        if (const auto made = access_of(step); made && is_canonical_access(*made) && bare_.runs(step)) {
            if (nested_.running(step.vm, step.vcpu) != step.actor) {
                return Difference{.step = number, .text = "bare and nested differ in who runs"};
            }
            const PermittedOutcomes bare = bare_.permitted(step, *made);
            for (const PermittedOutcome& each :
                 nested_.permitted(step.vm, step.vcpu, made->linear_address, made->access)) {
                const auto is_it = [&](const PermittedOutcome& other) {
                    return other.outcome == each.outcome;
                };
                if (std::ranges::any_of(bare, is_it)) continue;
                return Difference{
                    .kind = Difference::Kind::permitted,
                    .step = number,
                    .text = "nested permits " + describe(each) + "; bare permits only " + name_of(bare),
                    .outcome = each};
            }
            if (bare.size() > 1) return pass();
        }
        undefined_ = bare_.is_undefined(step);
        if (undefined_) return std::nullopt;
        // When an NMI or an interrupt comes is not the program's to say: the bare machine has it where the
        // nested one had it.
        const Observation nested = [&] {
            try {
                return nested_runner_.step(step);
            } catch (const L1Shutdown&) {
                if (!shuts_down(step)) throw;
                undefined_ = true;  // nothing is to be compared any longer
                return Observation{};
            }
        }();
        if (undefined_) return std::nullopt;
        bare_.world().drive(nested_.events(), nested_.times());
        const Observation bare = bare_.step(step);
        if (bare_.world().vcpu_count(step.vm) != 0) bare_.world().end_step(step.vm, nested_.l1_time());
        if (!bare_.world().driven_events_were_permitted()) {
            return Difference{.step = number,
                              .text = "nested delivers an event that a bare processor could not take there"};
        }
        if (nested_.gave_unsent_nmi())
            return Difference{.step = number, .text = "nested delivers an NMI that nobody sent"};
        if (!same_view(bare, nested)) {
            return Difference{.step = number,
                              .text = "bare: " + describe(bare) + "; nested: " + describe(nested)};
        }
        if (step.vcpu >= bare_.world().vcpu_count(step.vm) ||
            (step.actor == Actor::l0 && !is_event_step(step.kind)))
            return std::nullopt;
        bare_.note_missed_window(step, bare.nmi || step.kind == StepKind::nmi);
        if (nested_.withheld_nmi() && bare_.world().machine(step.vm).can_take_nmi(step.vcpu))
            return Difference{.step = number, .text = "nested withholds an NMI that could be taken"};
        if (nested_.withholds_interrupt(step.vm, step.vcpu) &&
            bare_.world().could_take_interrupt(step.vm, step.vcpu) && !bare_.may_miss_interrupt(step)) {
            return Difference{.step = number, .text = "nested withholds an interrupt that could be taken"};
        }
        if (bare_.world().could_take_init(step.vm, step.vcpu) && nested_.withholds_init(step.vm, step.vcpu))
            return Difference{.step = number, .text = "nested withholds an INIT that could be taken"};
        if (!(bare_.world().local_apic(step.vm, step.vcpu) == nested_.local_apic(step.vm, step.vcpu)))
            return Difference{
                .kind = Difference::Kind::registers, .step = number, .text = "the local APIC differs"};
        if (bare_.world().running(step.vm, step.vcpu) != nested_.running(step.vm, step.vcpu)) {
            return Difference{.step = number, .text = "bare and nested differ in who runs"};
        }
        const Registers& expected = bare_.world().registers(step.vm, step.vcpu);
        const Registers seen = nested_.visible_registers(step.vm, step.vcpu);
        if (const char* what = differing(expected, seen)) {
            return Difference{
                .kind = Difference::Kind::registers, .step = number, .text = std::string(what) + " differs"};
        }
        return std::nullopt;
    }

    /// The nested run's L1 is shut down: is the bare one?
    [[nodiscard]] bool shuts_down(const Step& step) {
        bare_.world().drive(nested_.events(), nested_.times());
        bare_.step(step);
        return bare_.world().vcpu_count(step.vm) > step.vcpu &&
               bare_.world().registers(step.vm, step.vcpu).activity == vmx::ActivityState::shutdown;
    }
    /// The step is made in neither run.
    std::optional<Difference> pass() {
        bare_.pass();
        nested_runner_.step(no_step);
        return std::nullopt;
    }

    std::optional<Difference> memory() {
        const std::set<std::uint64_t> regions = regions_of(program_);
        for (unsigned vm = 0; vm < program_vm_limit; ++vm) {
            if (bare_.world().vcpu_count(vm) == 0) continue;
            const PhysicalMemory& bare = bare_.world().machine(vm).memory();
            for (const std::uint64_t frame : bare.frames_in_use()) {
                if (regions.contains(frame << 12)) continue;
                for (std::uint64_t address = frame << 12; address < (frame + 1) << 12; address += 8) {
                    const std::uint64_t expected = bare.read(address);
                    const std::uint64_t seen = nested_.read(vm, address);
                    if (((expected ^ seen) & ~flags_at(address)) == 0) continue;
                    return Difference{.kind = Difference::Kind::memory,
                                      .step = program_.steps.size(),
                                      .text = "memory at " + hex(address) + ": bare has " + hex(expected) +
                                              ", nested " + hex(seen)};
                }
            }
        }
        return std::nullopt;
    }

    const Program& program_;
    BareSide bare_;
    NestedWorld nested_;
    Runner nested_runner_;
    bool undefined_ = false;
    bool limit_is_error_;
};

/// The step at which the bare machine dropped what an access had made it cache; nullopt: it never had it.
std::optional<std::size_t> dropped_at(const Program& program, const NestedWorld::Options& options,
                                      const Difference& difference) {
    const Step& last = program.steps[difference.step];
    const auto made = access_of(last);
    const std::size_t made_at = difference.outcome.provenance.made_at;
    if (!made || made_at >= difference.step) return std::nullopt;
    const std::string at_step = "made at step " + std::to_string(made_at);
    const std::string of_page = "mapping " + hex(made->linear_address & page_mask) + " ->";
    BareSide bare(program, options);
    bool had_it = false;
    for (std::size_t number = 0; number < difference.step; ++number) {
        const Step& step = program.steps[number];
        bare.speculate(step);
        const auto access = access_of(step);
        const bool open = access && is_canonical_access(*access) && bare.runs(step) &&
                          bare.permitted(step, *access).size() > 1;
        if (open || step.kind == StepKind::prefetch) {
            bare.pass();
        } else {
            bare.step(step);
        }
        if (number < made_at || last.vcpu >= bare.world().vcpu_count(last.vm)) continue;
        const std::vector<std::string> entries =
            bare.world().machine(last.vm).retentive_tlb(last.vcpu).describe_entries();
        const bool has_it = std::ranges::any_of(entries, [&](const std::string& line) {
            return line.ends_with(at_step) && line.find(of_page) != std::string::npos;
        });
        if (had_it && !has_it) return number;
        had_it = has_it;
    }
    return std::nullopt;
}

}  // namespace

std::optional<Difference> compare(const Program& program, const NestedWorld::Options& options) {
    try {
        return Comparison(program, options).run();
    } catch (const EngineFailure& failure) {  // before the first step
        return Difference{.kind = Difference::Kind::stopped, .text = failure.what()};
    }
}

Program shorten(const Program& program, const NestedWorld::Options& options, Difference::Kind kind) {
    Program shortest = program;
    if (const auto difference = compare(shortest, options); difference && difference->kind == kind) {
        shortest.steps.resize(std::min(shortest.steps.size(), difference->step + 1));
    }
    for (std::size_t length = std::max<std::size_t>(shortest.steps.size() / 2, 1);; length /= 2) {
        bool left_out = true;
        while (left_out) {
            left_out = false;
            for (std::size_t first = 0; first < shortest.steps.size();) {
                Program candidate = shortest;
                const auto begin = candidate.steps.begin() + static_cast<std::ptrdiff_t>(first);
                const std::size_t count = std::min(length, candidate.steps.size() - first);
                candidate.steps.erase(begin, begin + static_cast<std::ptrdiff_t>(count));
                const auto difference = compare(candidate, options);
                if (difference && difference->kind == kind) {
                    shortest = std::move(candidate);
                    left_out = true;
                } else {
                    first += count;
                }
            }
            if (length > 1) break;
        }
        if (length == 1) return shortest;
    }
}

std::string account(const Program& program, const NestedWorld::Options& options) {
    const auto found = compare(program, options);
    if (!found) return "bare and nested are the same";
    const Program shortest = shorten(program, options, found->kind);
    const auto difference = compare(shortest, options);
    if (!difference) return "a difference that does not come again";
    std::string text;
    for (std::size_t number = 0; number < shortest.steps.size(); ++number) {
        text += std::to_string(number) + "  " + write_step(shortest.steps[number]) + "\n";
    }
    text += "At step " + std::to_string(difference->step) + ": " + difference->text + "\n";
    if (difference->kind != Difference::Kind::permitted) return text;
    const std::size_t made_at = difference->outcome.provenance.made_at;
    if (made_at < shortest.steps.size() &&
        difference->outcome.provenance.source != Provenance::Source::memory) {
        text += "The entry was made at step " + std::to_string(made_at) + " (" +
                write_step(shortest.steps[made_at]) + ") under hardware VPID " +
                std::to_string(difference->outcome.provenance.vpid);
        if (const auto gone = dropped_at(shortest, options, *difference)) {
            text += ", and should have gone at step " + std::to_string(*gone) + " (" +
                    write_step(shortest.steps[*gone]) + ")";
        }
        text += ".\n";
    }
    return text;
}

}  // namespace flatback::machine
