#include "judge/trial/reach.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <utility>

#include "judge/trial/machine_port.hpp"
#include "machine/error.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/runner.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

class Counter {
public:
    explicit Counter(NestedWorld::Options options) : world_(recording(options)), runner_(world_) {}

    Reach count(const Program& program) {
        reach_.programs = 1;
        try {
            for (const Step& step : program.steps) this->step(step);
        } catch (const LimitReached&) {
            // What came so far counts.
        } catch (const L1Shutdown&) {
            // The same.
        }
        for (const auto& [vcpu, vpids] : vpids_) {
            if (vpids.size() > 1) reach_.under_two_vpids = 1;
        }
        reach_.with_ept_and_without = ept_ && no_ept_ ? 1 : 0;
        return reach_;
    }

private:
    using Vcpu = std::pair<std::uint8_t, std::uint8_t>;

    static NestedWorld::Options recording(NestedWorld::Options options) {
        options.record_flushes = true;
        return options;
    }

    void step(const Step& step) {
        const Guest guest = step.kind == StepKind::vmlaunch || step.kind == StepKind::vmresume
                                ? current_guest(step)
                                : Guest{};
        const Observation seen = runner_.step(step);
        ++reach_.steps;
        reach_.flushes += world_.take_flushes().size();
        for (const OutsideEvent& event : world_.events()) {
            if (event.kind == OutsideEvent::Kind::nmi) ++reach_.nmis;
            if (event.kind == OutsideEvent::Kind::interrupt) ++reach_.interrupts;
        }
        using Status = Observation::Status;
        if (seen.status == Status::not_running || seen.status == Status::refused) {
            ++reach_.passed_over;
            return;
        }
        count_deliveries(step, seen);
        const bool failed = seen.flags != 0;
        if (seen.status == Status::exit) ++reach_.exits;
        switch (step.kind) {
            case StepKind::vmlaunch:
            case StepKind::vmresume:
                if (seen.status != Status::entry) {
                    ++reach_.failed_entries;
                    return;
                }
                ++reach_.entries;
                (guest.ept ? ept_ : no_ept_) = true;
                if (guest.vpid != 0) vpids_[{step.vm, step.vcpu}].insert(guest.vpid);
                return;
            case StepKind::load:
            case StepKind::store:
            case StepKind::fetch:
                if (step.actor != Actor::l2) return;
                ++(seen.status == Status::done ? reach_.accesses : reach_.faults);
                if (seen.status == Status::done) count_mode(world_.registers(step.vm, step.vcpu));
                return;
            case StepKind::invvpid:
                if (seen.status == Status::done && !failed) count_invvpid(step);
                return;
            case StepKind::invept:
                if (seen.status == Status::done && !failed) ++reach_.invepts;
                return;
            case StepKind::vmptrld:
                if (seen.status == Status::done && !failed) {
                    const auto [place, is_new] =
                        loaded_by_.try_emplace({step.vm, step.operands[0]}, step.vcpu);
                    if (std::exchange(place->second, step.vcpu) != step.vcpu) ++reach_.l1s_moves;
                }
                return;
            case StepKind::vmxoff:
                vpids_[{step.vm, step.vcpu}].clear();
                return;
            case StepKind::move_vcpu:
                if (std::exchange(processors_[{step.vm, step.vcpu}], step.operands[0]) != step.operands[0])
                    ++reach_.moves;
                return;
            case StepKind::take_page:
                ++reach_.taken_pages;
                return;
            default:
                return;
        }
    }

    void count_mode(const Registers& registers) {
        if (registers.in_long_mode()) return;
        ++(registers.uses_pae() ? reach_.pae_accesses : reach_.accesses_of_32_bits);
    }
    void count_deliveries(const Step& step, const Observation& seen) {
        if (seen.status == Observation::Status::event) {
            const Registers& registers = world_.registers(step.vm, step.vcpu);
            if (registers.idtr.base != 0 && registers.in_long_mode()) ++reach_.through_idts;
        } else if (seen.status == Observation::Status::exit) {
            Step vmread = step;
            vmread.actor = Actor::l1;
            vmread.kind = StepKind::vmread;
            vmread.operands = {field::idt_vectoring_information.encoding};
            if ((runner_.step(vmread).value >> 31 & 1) != 0) ++reach_.vectored_exits;
        }
    }
    void count_invvpid(const Step& step) {
        const std::size_t type = step.operands[0] & 3;
        const auto& ran = vpids_[{step.vm, step.vcpu}];
        ++reach_.invvpids[type];
        if (type == 2 ? !ran.empty() : ran.contains(step.operands[1])) ++reach_.invvpid_hits[type];
    }

    struct Guest {
        std::uint64_t vpid = 0;
        bool ept = false;
    };
    /// Of the VMCS that L1 has current, by VMREAD.
    Guest current_guest(const Step& step) {
        const auto read = [&](auto what) {
            Step vmread = step;
            vmread.kind = StepKind::vmread;
            vmread.operands = {what.encoding};
            const Observation seen = runner_.step(vmread);
            return seen.status == Observation::Status::done && seen.flags == 0 ? seen.value : 0;
        };
        const std::uint64_t controls = read(field::secondary_processor_based_vm_execution_controls);
        const bool vpid = (controls & vmx::secondary::enable_vpid) != 0;
        return {vpid ? read(field::virtual_processor_identifier) : 0,
                (controls & vmx::secondary::enable_ept) != 0};
    }

    NestedWorld world_;
    Runner runner_;
    Reach reach_;
    std::map<Vcpu, std::set<std::uint64_t>> vpids_;
    std::map<Vcpu, std::uint64_t> processors_;
    std::map<std::pair<std::uint8_t, std::uint64_t>, std::uint8_t> loaded_by_;  // VMCSs
    bool ept_ = false;
    bool no_ept_ = false;
};

}  // namespace

Reach& Reach::operator+=(const Reach& other) {
    programs += other.programs;
    steps += other.steps;
    passed_over += other.passed_over;
    entries += other.entries;
    failed_entries += other.failed_entries;
    exits += other.exits;
    accesses += other.accesses;
    faults += other.faults;
    for (std::size_t type = 0; type < invvpids.size(); ++type) {
        invvpids[type] += other.invvpids[type];
        invvpid_hits[type] += other.invvpid_hits[type];
    }
    invepts += other.invepts;
    moves += other.moves;
    l1s_moves += other.l1s_moves;
    taken_pages += other.taken_pages;
    under_two_vpids += other.under_two_vpids;
    with_ept_and_without += other.with_ept_and_without;
    flushes += other.flushes;
    nmis += other.nmis;
    interrupts += other.interrupts;
    through_idts += other.through_idts;
    vectored_exits += other.vectored_exits;
    pae_accesses += other.pae_accesses;
    accesses_of_32_bits += other.accesses_of_32_bits;
    return *this;
}

Reach reach_of(const Program& program, const NestedWorld::Options& options) {
    return Counter(options).count(program);
}

std::string describe(const Reach& reach) {
    const auto number = [](std::size_t value) { return std::to_string(value); };
    std::string text = number(reach.programs) + " programs, " + number(reach.under_two_vpids) +
                       " under two vpid12 or more, " + number(reach.with_ept_and_without) +
                       " with EPT and without; " + number(reach.steps) + " steps, " +
                       number(reach.passed_over) + " passed over;\n" + number(reach.entries) +
                       " VM entries, " + number(reach.failed_entries) + " that fail, " + number(reach.exits) +
                       " exits, " + number(reach.accesses) + " accesses of L2s, " + number(reach.faults) +
                       " that fault or exit;\nINVVPIDs, and those of a vpid12 that ran:";
    for (std::size_t type = 0; type < reach.invvpids.size(); ++type) {
        text += " type " + number(type) + " " + number(reach.invvpids[type]) + ", " +
                number(reach.invvpid_hits[type]) + ";";
    }
    return text + " INVEPTs " + number(reach.invepts) + ";\n" + number(reach.moves) + " moves, " +
           number(reach.l1s_moves) + " by L1 of its L2s, " + number(reach.taken_pages) + " pages taken, " +
           number(reach.flushes) + " flushes by L0, " + number(reach.nmis) + " NMIs and " +
           number(reach.interrupts) + " interrupts given;\n" + number(reach.through_idts) +
           " events through IDTs, " + number(reach.vectored_exits) +
           " exits in the midst of one; accesses: " + number(reach.pae_accesses) + " with PAE paging, " +
           number(reach.accesses_of_32_bits) + " with 32-bit paging\n";
}

}  // namespace flatback::machine
