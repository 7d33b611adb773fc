// L0's own trace of flushes (docs/trace.md), read as L0 writes it: the emulator shows each store to L0's
// ring.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trace/event.hpp"
#include "watch/trace_line.hpp"

namespace flatback::tools {

// What L0 recorded of its flushes, beside what the processor was seen to execute.
struct FlushCounts {
    std::uint64_t recorded = 0;
    std::uint64_t not_executed = 0;  // recorded, and no such instruction came before the next record or entry
    std::uint64_t not_recorded = 0;  // executed without a record
    std::uint64_t otherwise = 0;     // executed with another tag, address or EPTP than recorded
    std::map<std::string, std::uint64_t> causes;
    std::vector<std::string> examples;  // of the three above, the first, a line each
};

class FlushRecords {
public:
    // The type of the INVVPID or INVEPT that L0 has just recorded and is about to execute: the emulator's
    // text does not show it.
    [[nodiscard]] std::optional<std::uint8_t> take(const watch::TraceLine& line);
    // What comes next is of another window.
    void end_window();

    [[nodiscard]] const FlushCounts& counts() const { return counts_; }

private:
    // An event in the making: the words of one place of the ring, in whatever order L0 stores them.
    struct Slot {
        std::uint64_t place = 0;
        unsigned words = 0;  // which, by bit
        std::array<std::uint64_t, trace::words_per_event> word{};
    };

    void take_instruction(const watch::TracedInstruction& instruction);
    [[nodiscard]] std::optional<trace::Event> take_store(std::uint64_t physical, std::uint64_t value);
    void record(const trace::Event& event);
    void execute(std::uint64_t low, std::uint64_t high);
    void example(const char* what, const trace::Event* event);

    FlushCounts counts_;
    std::uint64_t tick_ = 0;
    watch::Operation operation_ = watch::Operation::none;  // of the instruction that was printed last
    std::optional<trace::Event> recorded_;                 // and not yet executed
    std::array<Slot, 4> slots_{};                          // the newest places that were written to
    std::size_t next_slot_ = 0;
};

}  // namespace flatback::tools
