#include "tools/watch/flush_records.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

namespace flatback::tools {
namespace {

using trace::Event;
using watch::Operation;
using watch::TraceLine;

constexpr std::size_t examples_kept = 8;
constexpr unsigned all_words = (1U << trace::words_per_event) - 1;

// The TSC that an event begins with is the tick of an instruction shortly before its stores: by that an event
// is told from whatever else L0 writes.
constexpr std::uint64_t most_ticks_ago = 64;

bool is_flush(const Event& event) {
    return event.kind() == trace::Kind::flush_tag || event.kind() == trace::Kind::flush_ept;
}

std::string words_of(const Event& event) {
    if (event.kind() == trace::Kind::flush_ept)
        return fmt::format("INVEPT type {} of {:#x} ({})", event.flush_type(), event.operand,
                           tag::name_of(event.cause()));
    return fmt::format("INVVPID type {} of VPID {}, address {:#x} ({})", event.flush_type(), event.vpid(),
                       event.operand, tag::name_of(event.cause()));
}

// Whether the instruction with this descriptor is what was recorded. What its type does not use is not
// compared.
bool agrees(const Event& event, Operation operation, std::uint64_t low, std::uint64_t high) {
    if (event.kind() == trace::Kind::flush_ept) {
        const bool all = event.flush_type() == static_cast<unsigned>(vmx::InveptType::all_contexts);
        return operation == Operation::invept && (all || event.operand == low);
    }
    if (operation != Operation::invvpid) return false;
    if (event.flush_type() == static_cast<unsigned>(vmx::InvvpidType::all_contexts)) return true;
    const bool address = event.flush_type() == static_cast<unsigned>(vmx::InvvpidType::individual_address);
    return event.vpid() == low && (!address || event.operand == high);
}

}  // namespace

std::optional<std::uint8_t> FlushRecords::take(const TraceLine& line) {
    if (line.processor != 0) return std::nullopt;
    if (line.kind == TraceLine::Kind::instruction) {
        take_instruction(line.instruction);
        return std::nullopt;
    }
    const watch::TracedAccess& access = line.access;
    if (line.kind != TraceLine::Kind::access || access.target != watch::Target::memory || !access.has_linear)
        return std::nullopt;
    const bool flushes = operation_ == Operation::invvpid || operation_ == Operation::invept;
    if (access.direction == watch::Direction::read) {
        // The descriptor: a guest's, which exits, is not read.
        if (flushes && access.length == sizeof(vmx::InvvpidDescriptor))
            execute(access.value[0], access.value[1]);
        return std::nullopt;
    }
    if (access.direction != watch::Direction::write || access.length != sizeof(std::uint64_t))
        return std::nullopt;
    const auto event = take_store(access.physical, access.value[0]);
    if (!event || !is_flush(*event)) return std::nullopt;
    record(*event);
    return event->flush_type();
}

void FlushRecords::end_window() {
    // The window may have ended before it was executed.
    recorded_.reset();
    operation_ = Operation::none;
    slots_ = {};
}

void FlushRecords::take_instruction(const watch::TracedInstruction& instruction) {
    tick_ = instruction.tick;
    operation_ = instruction.operation;
    if (operation_ != Operation::vm_entry || !recorded_) return;
    ++counts_.not_executed;
    example("recorded and not executed", &*recorded_);
    recorded_.reset();
}

std::optional<Event> FlushRecords::take_store(std::uint64_t physical, std::uint64_t value) {
    if (physical % sizeof value != 0) return std::nullopt;
    const std::uint64_t place = physical / sizeof(Event);
    const std::size_t index = physical % sizeof(Event) / sizeof value;
    auto* slot = std::ranges::find_if(
        slots_, [place](const Slot& each) { return each.words != 0 && each.place == place; });
    if (slot == slots_.end()) {
        slot = &slots_.at(next_slot_);
        next_slot_ = (next_slot_ + 1) % slots_.size();
        *slot = {.place = place};
    }
    slot->word.at(index) = value;
    slot->words |= 1U << index;
    if (slot->words != all_words) return std::nullopt;
    const Event event{slot->word[0], slot->word[1], slot->word[2], slot->word[3]};
    *slot = {};  // each event is stored whole, and once
    if (event.tsc > tick_ || tick_ - event.tsc > most_ticks_ago) return std::nullopt;
    return event;
}

void FlushRecords::record(const Event& event) {
    if (recorded_) {
        ++counts_.not_executed;
        example("recorded and not executed", &*recorded_);
    }
    ++counts_.recorded;
    const std::string_view cause = tag::name_of(event.cause());
    ++counts_.causes[cause.empty() ? fmt::format("cause {}", static_cast<unsigned>(event.cause()))
                                   : std::string{cause}];
    recorded_ = event;
}

void FlushRecords::execute(std::uint64_t low, std::uint64_t high) {
    if (!recorded_) {
        ++counts_.not_recorded;
        example(operation_ == Operation::invept ? "INVEPT executed and not recorded"
                                                : "INVVPID executed and not recorded",
                nullptr);
    } else if (!agrees(*recorded_, operation_, low, high)) {
        ++counts_.otherwise;
        example("executed otherwise than recorded", &*recorded_);
    }
    recorded_.reset();
    operation_ = Operation::none;
}

void FlushRecords::example(const char* what, const Event* event) {
    if (counts_.examples.size() >= examples_kept) return;
    counts_.examples.push_back(event == nullptr
                                   ? fmt::format("tick {}: {}", tick_, what)
                                   : fmt::format("tick {}: {}: {}", tick_, what, words_of(*event)));
}

}  // namespace flatback::tools
