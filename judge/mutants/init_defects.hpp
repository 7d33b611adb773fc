#pragma once

#include "judge/trial/defect.hpp"

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

}  // namespace flatback::machine::defects
