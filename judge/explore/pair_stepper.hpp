#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/pair.hpp"
#include "judge/explore/seeded_defect.hpp"
#include "judge/explore/stepper.hpp"

namespace flatback::machine::explore {

/// Takes one step of a program where there are two virtual CPUs. A step of one of them is taken as where it
/// is alone, by `Stepper`, with the other's tags out of the pool; here is what concerns both: memory, pages
/// that L0 takes, VMCSs that move, processors that are exchanged or shared by turns.
class PairStepper {
public:
    using Answer = Stepper::Answer;

    explicit PairStepper(const Alphabet& alphabet, SeededDefect defect = SeededDefect::none);

    /// L1 runs on both, in VMX operation, and nothing else has ever happened. Of two VMs on one processor the
    /// first has it.
    [[nodiscard]] const PairState& initial() const { return initial_; }
    [[nodiscard]] bool can_take(const PairState& pair, const Action& action) const;
    /// The state is of no use after something was broken. The processor and the tag of that are as the view
    /// of that virtual CPU calls them.
    Answer take(PairState& pair, const Action& action);
    /// By the last step: which tag each has been before.
    [[nodiscard]] const std::array<std::uint8_t, most_tags>& renamed() const { return renamed_; }

private:
    Answer take_of(PairState& pair, unsigned cpu, const Action& action);
    Answer take_page(PairState& pair, unsigned by, unsigned page);
    Answer exchange(PairState& pair);
    Answer move_vm(PairState& pair, unsigned vm);
    Answer turn(PairState& pair);
    void leave_out(const PairState& pair, unsigned cpu, const Action& action);
    void entered(PairState& pair, unsigned cpu, Guest guest) const;
    template <typename Step>
    Answer on(PairState& pair, unsigned cpu, Step&& step);
    [[nodiscard]] bool has(SeededDefect defect) const { return defect_ == defect; }
    [[nodiscard]] bool remembers() const;
    [[nodiscard]] bool tells_processors_apart() const;

    Alphabet alphabet_;
    SeededDefect defect_;
    Stepper stepper_;
    std::array<std::uint8_t, most_tags> renamed_{};
    PairState initial_{};
};

}  // namespace flatback::machine::explore
