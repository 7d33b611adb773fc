#include "judge/mutants/mutants.hpp"

#include <cstdio>
#include <ostream>
#include <random>
#include <span>

#include "judge/mutants/field_use.hpp"
#include "judge/trial/random_program.hpp"
#include "judge/trial/several_processors.hpp"
#include "judge/trial/trial.hpp"
#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

namespace {

std::string test_name(const LedgerCase& which) {
    char suite[24] = "LedgerOwnRules";
    if (which.row != 0) std::snprintf(suite, sizeof suite, "LedgerRow%02u", which.row);
    return std::string(suite) + "." + which.name;
}

/// VM entries that the processor refuses, behind all that L0 does for them, each with the right one after it.
/// Random programs have few, and where a state is saved right there is chance too.
const Program& refused_entries() {
    static const Program program = [] {
        namespace field = vmx::field;
        Scenario say;
        say.edit().map(1, 0x4000'0000, layout::data_page(0)).l1().vmxon();
        for (unsigned n = 0; n < 12; ++n) {
            // Bit 1 of RFLAGS must be 1.
            say.prepare(layout::vmcs_region(0), {.vpid = 1, .ept = {}, .tables = 1});
            say.vmwrite(field::guest_rflags, 0).vmlaunch().vmread(field::exit_reason);
            say.vmwrite(field::guest_rflags, 2).vmlaunch().l2().vmcall().l1();
            say.vmwrite(field::guest_rflags, 0).vmresume().vmread(field::exit_reason);
            say.vmwrite(field::guest_rflags, 2).vmresume().l2().vmcall().l1();
        }
        return say.program();
    }();
    return program;
}

std::optional<std::size_t> caught_by_refused_entries(const Mutant& mutant, const TrialLimits& limits) {
    for (std::size_t seed = 1; seed <= 8; ++seed) {
        const std::unique_ptr<Defect> defect = mutant.make();
        const NestedWorld::Options options =
            limits.applied_to({.random_host = seed, .saves_states = true, .defect = defect.get()});
        if (compare(refused_entries(), options)) return seed;
    }
    return std::nullopt;
}

/// L2 changes a page's translation and drops the old one, again and again: sometimes its host has the INVLPG.
Program dropped_pages() {
    constexpr std::uint64_t page = 0x4000'0000;
    Scenario say;
    say.edit().map(1, page, layout::data_page(0));
    say.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1}).vmlaunch();
    for (unsigned turn = 1; turn <= 40; ++turn) {
        say.l2().load(page);
        say.edit().map(1, page, layout::data_page(turn % 2));
        say.l2().invlpg(page).load(page);
    }
    return say.program();
}

std::optional<std::size_t> caught_by_dropped_pages(const Mutant& mutant, const TrialLimits& limits) {
    for (std::size_t seed = 1; seed <= 16; ++seed) {
        const std::unique_ptr<Defect> defect = mutant.make();
        if (compare(dropped_pages(), limits.applied_to({.random_host = seed, .defect = defect.get()})))
            return seed;
    }
    return std::nullopt;
}

/// Random programs, the same in each call. `options_of` a program's number: the world's, but for the defect.
template <typename MakeProgram, typename OptionsOf>
std::optional<std::size_t> caught_by_programs(const Mutant& mutant, std::size_t programs,
                                              const TrialLimits& limits, const MakeProgram& make_program,
                                              const OptionsOf& options_of) {
    std::mt19937_64 random(1);
    std::vector<std::uint8_t> bytes(400);
    for (std::size_t number = 0; number < programs; ++number) {
        for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
        const std::unique_ptr<Defect> defect = mutant.make();
        NestedWorld::Options options = options_of(number);
        options.defect = defect.get();
        if (compare(make_program(bytes), limits.applied_to(options))) return number;
    }
    return std::nullopt;
}

std::optional<std::size_t> caught_by_random_program(const Mutant& mutant, std::size_t programs,
                                                    const TrialLimits& limits) {
    return caught_by_programs(
        mutant, programs, limits,
        [more = mutant.of_deliveries || mutant.of_modes](std::span<const std::uint8_t> bytes) {
            return random_program(bytes, more);
        },
        [&mutant](std::size_t number) {
            return NestedWorld::Options{.vcpus = 2,
                                        .random_host = mutant.of_random_host ? number + 1 : 0,
                                        .saves_states = mutant.of_saved_states};
        });
}

std::optional<std::size_t> caught_on_several_processors(const Mutant& mutant, std::size_t programs,
                                                        const TrialLimits& limits) {
    return caught_by_programs(
        mutant, programs, limits,
        [](std::span<const std::uint8_t> bytes) { return several_processors_program(bytes); },
        [](std::size_t) {
            return NestedWorld::Options{
                .vcpus = several_processors, .processors = several_processors, .keeps_bitmaps = true};
        });
}

}  // namespace

MutantResult try_mutant(const Mutant& mutant, std::size_t random_programs, const TrialLimits& limits) {
    MutantResult result{mutant.name, mutant.ledger_row, {}};
    if (mutant.of_processors) {
        if (const auto number = caught_on_several_processors(mutant, random_programs, limits)) {
            result.caught_by =
                "ProgramsOnSeveralProcessors.AreTheSameBareAndNested, program " + std::to_string(*number);
            return result;
        }
    }
    if (mutant.of_learned_fields) {
        const std::unique_ptr<Defect> defect = mutant.make();
        if (compare(program_of_fields_in_use(), limits.applied_to({.defect = defect.get()})))
            result.caught_by = "LearnedFields.AreAsOnTheBareProcessor";
        return result;
    }
    // The case of its own row first: that one should do.
    for (const bool of_its_row : {true, false}) {
        if (mutant.of_random_host) break;
        // Programs of their own catch those of interrupts.
        if (mutant.of_interrupts && of_its_row) {
            for (const LedgerCase& each : interrupt_cases()) {
                if (!judge(each, mutant.make, limits)) continue;
                result.caught_by = test_name(each);
                return result;
            }
        }
        if ((mutant.of_time || mutant.of_logs || mutant.of_inits || mutant.of_deliveries) && of_its_row) {
            for (const LedgerCase& each : mutant.of_time    ? time_cases()
                                          : mutant.of_logs  ? log_cases()
                                          : mutant.of_inits ? init_cases()
                                                            : delivery_cases()) {
                if (!judge(each, mutant.make, limits)) continue;
                result.caught_by = test_name(each);
                return result;
            }
        }
        for (const LedgerCase& each : ledger()) {
            if ((mutant.ledger_row == each.row) != of_its_row || !judge(each, mutant.make, limits)) continue;
            result.caught_by = test_name(each);
            return result;
        }
    }
    if (const auto seed = mutant.of_saved_states ? caught_by_refused_entries(mutant, limits) : std::nullopt) {
        result.caught_by = "Mutants.AreAllCaught, refused entries under host " + std::to_string(*seed);
        return result;
    }
    if (const auto seed = mutant.of_random_host ? caught_by_dropped_pages(mutant, limits) : std::nullopt) {
        result.caught_by = "Mutants.AreAllCaught, dropped pages under host " + std::to_string(*seed);
        return result;
    }
    if (const auto number = caught_by_random_program(mutant, random_programs, limits)) {
        result.caught_by = std::string("RandomPrograms.AreTheSame") +
                           (mutant.of_saved_states  ? "WhereStatesAreSavedAndRestored"
                            : mutant.of_random_host ? "UnderARandomHost"
                                                    : "BareAndNested") +
                           ", program " + std::to_string(*number);
    }
    return result;
}

void write_json(std::ostream& out, const std::vector<MutantResult>& results) {
    out << "{\n  \"mutants\": [\n";
    for (std::size_t index = 0; index < results.size(); ++index) {
        const MutantResult& each = results[index];
        out << "    {\"name\": \"" << each.name << "\", \"ledger_row\": ";
        if (each.ledger_row) {
            out << *each.ledger_row;
        } else {
            out << "null";
        }
        out << ", \"caught_by\": ";
        if (each.caught_by.empty()) {
            out << "null";
        } else {
            out << "\"" << each.caught_by << "\"";
        }
        out << "}" << (index + 1 < results.size() ? "," : "") << "\n";
    }
    out << "  ]\n}\n";
}

}  // namespace flatback::machine
