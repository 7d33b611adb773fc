#pragma once

#include <cstddef>
#include <iosfwd>
#include <optional>
#include <string>
#include <vector>

#include "judge/ledger/ledger.hpp"

namespace flatback::machine {

/// A defective L0: the engine with one thing done wrong at its seams, where a nested hypervisor is known to
/// go wrong or might.
struct Mutant {
    std::string name;
    std::optional<unsigned> ledger_row{};
    DefectMaker make;
    /// Under a random host, which wants things of L2 for itself: nobody else meets it.
    bool of_random_host = false;
    /// ... and which saves and restores nested states.
    bool of_saved_states = false;
    /// Of external interrupts.
    bool of_interrupts = false;
    /// Of an L1 with several processors: programs of such an L1 (judge/trial/several_processors.hpp) are to
    /// catch it.
    bool of_processors = false;
    /// Of fields that L0 learns.
    bool of_learned_fields = false;
    /// Of the VMX-preemption timer and the time-stamp counter.
    bool of_time = false;
    /// Of the page-modification log and TSC scaling.
    bool of_logs = false;
    /// Of INIT and start-up IPIs.
    bool of_inits = false;
    /// Of events on their way through an IDT.
    bool of_deliveries = false;
    /// Of L2s with PAE or 32-bit paging: random programs with them are to catch it.
    bool of_modes = false;
};

[[nodiscard]] const std::vector<Mutant>& mutants();

struct MutantResult {
    std::string name;
    std::optional<unsigned> ledger_row{};
    /// The name of the first test that fails under it; empty: it lives.
    std::string caught_by;
};

/// The ledger's programs in their order, then that many random ones.
[[nodiscard]] MutantResult try_mutant(const Mutant& mutant, std::size_t random_programs,
                                      const TrialLimits& limits = {});

void write_json(std::ostream& out, const std::vector<MutantResult>& results);

}  // namespace flatback::machine
