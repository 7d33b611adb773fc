#include "tools/emulator/halt_watch.hpp"

namespace flatback::tools {
namespace {

constexpr std::chrono::seconds silence{2};
// Many periods of any timer that could send an NMI.
constexpr std::uint64_t least_ticks = 100'000'000;

}  // namespace

HaltWatch::Verdict HaltWatch::look(Time now, unsigned halts, std::size_t printed) {
    if (halts != halts_ || printed != printed_) {
        halts_ = halts;
        printed_ = printed;
        quiet_since_ = now;
        awake_ = false;
        first_.reset();
        return Verdict::running;
    }
    if (for_good_) return Verdict::halted;
    if (halts == 0 || awake_ || waiting_ || now - quiet_since_ < silence) return Verdict::running;
    waiting_ = true;
    return Verdict::examine;
}

void HaltWatch::examined(Time now, const Examination& examination) {
    waiting_ = false;
    quiet_since_ = now;
    if (!examination.halted || examination.interrupts) {
        awake_ = true;
        return;
    }
    if (!first_ || first_->instructions != examination.instructions) {
        first_ = examination;
        return;
    }
    for_good_ = examination.tick - first_->tick >= least_ticks;
}

}  // namespace flatback::tools
