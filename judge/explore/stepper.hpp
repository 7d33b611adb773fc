#pragma once

#include <optional>

#include "judge/explore/alphabet.hpp"
#include "judge/explore/manager.hpp"
#include "judge/explore/seeded_defect.hpp"
#include "judge/explore/state.hpp"

namespace flatback::machine::explore {

/// Why a step must not have been possible.
struct Broken {
    enum class Kind : std::uint8_t {
        other_owner,          // a guest was entered under a tag that holds another one's entries
        dead_entry,           // an access may be served by an entry that the bare processor cannot have
        dead_guest_physical,  // ... or by a walk with such a guest-physical mapping
    };
    Kind kind;
    Guest guest;  // who would have been served
    unsigned cpu = here;
    unsigned tag = 0;
    Keys keys = 0;          // of the entries; for a guest-physical mapping, of its EPTP and page
    bool of_ept01 = false;  // a mapping of L1's own
    unsigned l1_cpu = 0;    // on whose virtual CPU, where there are two
};

/// Takes one step of a program: L0 does what the engine does around the tag manager (nested/vcpu/entry.hpp,
/// exit/exit.hpp, l1/instructions.hpp), and the caches do what the architecture says.
class Stepper {
public:
    using Answer = std::optional<Broken>;

    explicit Stepper(const Alphabet& alphabet, SeededDefect defect = SeededDefect::none);

    /// L1 runs, in VMX operation, and nothing else has ever happened.
    [[nodiscard]] const State& initial() const { return initial_; }
    /// False: it cannot be done in this state.
    [[nodiscard]] bool can_take(const State& state, const Action& action) const;
    /// The state is of no use after something was broken.
    std::optional<Broken> take(State& state, const Action& action);
    [[nodiscard]] LoadedManager& manager() { return manager_; }

    // Where there is another virtual CPU beside this one (judge/explore/pair_stepper.hpp).

    /// What the next step leaves out.
    enum class LeavesOut : std::uint8_t { nothing, flush_of_entry, flush_for_l1 };
    void leave_out(LeavesOut what) { leaves_out_ = what; }
    /// The last VM entry of an L2 ran a flush of its tag.
    [[nodiscard]] bool has_flushed() const { return has_flushed_; }
    /// A page was taken (explore::take_page), and L0 calls this virtual CPU out of its guest for that.
    enum class Call : std::uint8_t {
        answered,  // before its next entry
        late,      // behind that
        lost,      // it is told, but stays in its guest
        not_made,
    };
    Answer called(State& state, Call call);
    /// L0 took the processor from whoever runs, and enters it again.
    Answer resume(State& state);
    /// Kind::take_page of a VM that has no processor: its tag manager is told, and its turn is yet to come.
    Answer take_page_of_waiting(State& state, unsigned page);

private:
    Answer enter(State& state, Guest guest);
    Answer reenter(State& state);
    void fail_entry(State& state, const Action& action);
    Answer run_l1(State& state);
    Answer go_on(const State& state) const;
    Answer other_vm_comes(State& state);
    Answer check_owner(const State& state, Guest guest, unsigned cpu, unsigned tag) const;
    Answer access(State& state, unsigned page);
    void invvpid(State& state, const Action& action);
    void invept(State& state, unsigned eptp);
    void forget_vpid_zero(State& state) const;
    void flush_by_l2(State& state, Keys keys) const;
    /// `guest`: whose entry, or whose INVVPID, it is.
    void pay(State& state, Guest guest, std::optional<tag::OwedFlush> flush);
    void run(State& state, Guest guest, const tag::FlushTarget& target) const;
    [[nodiscard]] tag::Entry choose(Guest guest);
    [[nodiscard]] bool has(SeededDefect defect) const { return defect_ == defect; }

    Alphabet alphabet_;
    SeededDefect defect_;
    LoadedManager manager_;
    LeavesOut leaves_out_ = LeavesOut::nothing;
    bool has_flushed_ = false;
    State initial_{};
};

}  // namespace flatback::machine::explore
