#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "guests/linux/counter_totals.hpp"
#include "guests/linux/failure.hpp"

// Where a program reads what L0 counts. A new kind of source is a class here and a word in
// open_counter_source().
namespace flatback::guests {

class CounterSource {
public:
    CounterSource() = default;
    CounterSource(const CounterSource&) = delete;
    CounterSource& operator=(const CounterSource&) = delete;
    virtual ~CounterSource() = default;

    /// The totals at a moment during the call. The call may itself cause exits and entries.
    [[nodiscard]] virtual Expected<CounterTotals> read() = 0;
};

/// `word` is one of
///   cpuid      the CPUID leaves of Flatback as L0 (docs/counters.md), in L1
///   line:PATH  asks over the terminal or serial line PATH (README.md), in L2, or in L1 beneath a hypervisor
///              that counts but shows nothing
///   kvm:DIRECTORY  what Linux's KVM counts, in debugfs, where it is L0 itself (kvm_counters.hpp)
[[nodiscard]] Expected<std::unique_ptr<CounterSource>> open_counter_source(std::string_view word);

/// What happened between begin() and end(), less what the readings cost by themselves. That cost is measured
/// at the start: the median of several pairs of readings with nothing between.
class CounterBracket final {
public:
    /// The source must outlive it.
    [[nodiscard]] static Expected<CounterBracket> calibrate(CounterSource& source);

    [[nodiscard]] Expected<void> begin();
    [[nodiscard]] Expected<CounterTotals> end();

private:
    CounterBracket(CounterSource& source, const CounterTotals& cost) : source_(&source), cost_(cost) {}

    CounterSource* source_;
    CounterTotals cost_;
    CounterTotals before_;
};

/// Answers the requests that arrive at `input`, a line each, on `output`, until the input ends. An unknown
/// request and a failed reading are answered too: `error WHY`.
[[nodiscard]] Expected<void> serve_counters(int input, int output, CounterSource& source);

/// The reply to one request, without newlines.
[[nodiscard]] std::string answer_counter_request(std::string_view request, CounterSource& source);

}  // namespace flatback::guests
