#pragma once

#include <cstdint>

#include "judge/trial/defect.hpp"
#include "tag/flush_cause.hpp"
#include "vmx/field.hpp"
#include "vmx/interruption_bits.hpp"

// Defects in what L0 does with INIT and start-up IPIs.
namespace flatback::machine::defects {

/// One of the questions that L0 answers about them is answered wrongly.
class InitDefect final : public Defect {
public:
    explicit InitDefect(Inits answers) : answers_(answers) {}
    [[nodiscard]] Inits inits() const override { return answers_; }

private:
    Inits answers_;
};

/// The tags of an L1 that got one are taken for flushed when they are handed out again.
class KeepsTagsBehindAnInit final : public Defect {
public:
    std::uint64_t written(std::uint32_t encoding, std::uint64_t value) override {
        if (encoding == vmx::field::guest_activity_state.encoding &&
            value == static_cast<std::uint64_t>(vmx::ActivityState::wait_for_sipi))
            was_init_ = true;
        return value;
    }
    void flush(const HardwareFlush& flush, std::uint16_t, const Run& run) override {
        const bool of_a_tag = !flush.invept && flush.cause.value == tag::FlushCause::tag_handed_out;
        if (!of_a_tag || !was_init_) run(flush);
    }

private:
    bool was_init_ = false;
};

}  // namespace flatback::machine::defects
