// The processors that L1 gets, as they see each other: who there is, and what one asks of another.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "metal/ground/this_processor.hpp"

namespace flatback::metal {

inline constexpr std::size_t most_processors = 64;

// [0] is the one that L0 was started on. Complete before L1 runs, and the same from then on.
[[nodiscard]] std::span<ProcessorLocal* const> given_processors();
// Null: none of them has this identifier.
[[nodiscard]] ProcessorLocal* find_processor(std::uint32_t apic_id);
// While L0 starts. False: there are as many as there can be.
[[nodiscard]] bool add_processor(ProcessorLocal& processor);
void remove_processor(const ProcessorLocal& processor);

// A request is answered before its processor enters a guest again; one that runs a guest is called by an NMI.
namespace request {
inline constexpr std::uint32_t init = 1;  // an INIT signal of L1's
// Its target's own: it has seen the INIT, which its VMX operation blocks.
inline constexpr std::uint32_t init_blocked = 2;
inline constexpr std::uint32_t close_kept = 4;  // WrittenPages::close_kept() (metal/memory/written_pages.hpp)
}  // namespace request
void ask(ProcessorLocal& target, std::uint32_t what);

// Calls a processor out of its guest, or out of its halt. One NMI at a time is on its way.
void kick(ProcessorLocal& target);
// On the processor itself, of the NMI that came: whether it is the guest's, and no kick. One that cannot be
// told from a kick, because it came while NMIs were blocked and a kick was on its way, is lost to the guest.
[[nodiscard]] bool take_nmi();

// All others stop, before a panic says what it knows; what they did is printed by tell_of_stopped_processors.
void stop_other_processors();
void tell_of_stopped_processors();

// L1's INIT and SIPI for one of them, given by another or by itself (SDM 3A 9.4.4). INIT: until the target
// has taken it, or some time.
void give_init(ProcessorLocal& target);
void give_start(ProcessorLocal& target, std::uint8_t vector);
// On the target, which has taken INIT: halted until L1's SIPI, whose vector it returns.
[[nodiscard]] std::uint8_t wait_for_start();

}  // namespace flatback::metal
