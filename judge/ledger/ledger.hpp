#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "judge/trial/nested_world.hpp"
#include "machine/program/program.hpp"

namespace flatback::machine {

/// One rule of nested VPID as a program: bare and nested must be the same in it, and where it says so L0 may
/// execute no more than so many flushes.
struct LedgerCase {
    /// The row of the ledger (docs/trial.md); 0: none of them, a rule of this project's own.
    unsigned row = 0;
    std::string name;
    NestedWorld::Options options{};
    Program program{};
    /// The most hardware flushes from step `counted_from` on. INVVPIDs of one address are not among
    /// `invvpids`. A raw INVVPID or INVEPT of all contexts reaches other VMs, and is too much in any case.
    struct Cost {
        std::size_t counted_from;
        std::size_t invvpids;
        std::size_t invepts;
        std::size_t addresses = 0;
        /// For a flush whose absence nobody could see, as another one beside it reaches as far.
        std::size_t least_invvpids = 0;
        /// How many of `invvpids` may take global translations too; by default all.
        std::size_t whole_contexts = ~std::size_t{0};
    };
    std::optional<Cost> cost{};
    /// Where every VM is destroyed after any number of the steps, no tag is left to anyone.
    bool leaves_no_tag = false;
};

[[nodiscard]] const std::vector<LedgerCase>& ledger();
/// Those about NMIs, of row 0 (nmi_cases.cpp); the ledger has them at its end.
[[nodiscard]] std::vector<LedgerCase> nmi_cases();
/// The same about external interrupts (interrupt_cases.cpp).
[[nodiscard]] std::vector<LedgerCase> interrupt_cases();
/// The same about the VMX-preemption timer and the time-stamp counter (time_cases.cpp), which the ledger does
/// not have.
[[nodiscard]] std::vector<LedgerCase> time_cases();
/// INIT and start-up IPIs (init_cases.cpp); the ledger has them not either.
[[nodiscard]] std::vector<LedgerCase> init_cases();
/// The page-modification log and TSC scaling (log_cases.cpp); the ledger has them not.
[[nodiscard]] std::vector<LedgerCase> log_cases();
/// Events on their way through an IDT (delivery_cases.cpp); the ledger has them not.
[[nodiscard]] std::vector<LedgerCase> delivery_cases();
/// Null: there is none of this name.
[[nodiscard]] const LedgerCase* find_ledger_case(const std::string& name);

/// Makes a defect in its first state.
using DefectMaker = std::function<std::unique_ptr<Defect>()>;

/// What one run of a case may take; past it `LimitReached` is thrown.
struct TrialLimits {
    std::uint64_t memory_bytes = std::uint64_t{256} << 20;
    std::size_t tlb_entries = std::size_t{1} << 20;  // of each TLB

    [[nodiscard]] NestedWorld::Options applied_to(NestedWorld::Options options) const {
        options.memory_bytes = memory_bytes;
        options.entry_limit = tlb_entries;
        options.limit_is_error = true;
        return options;
    }
};

/// Runs a case, under a defective L0 if one is given. nullopt: it holds; else what is wrong, for a correct L0
/// with the account of the shortest program.
[[nodiscard]] std::optional<std::string> judge(const LedgerCase& which, const DefectMaker& defect = {},
                                               const TrialLimits& limits = {});

}  // namespace flatback::machine
