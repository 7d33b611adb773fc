// The host's unpaid_flush for these tests: an owed flush that is dropped fails the test it is dropped in.
#pragma once

#include <vector>

#include "tag/owed_flush.hpp"

namespace flatback::tag_test {

// While one is alive, dropped flushes are collected instead.
class ExpectUnpaidFlushes final {
public:
    ExpectUnpaidFlushes();
    ExpectUnpaidFlushes(const ExpectUnpaidFlushes&) = delete;
    ExpectUnpaidFlushes& operator=(const ExpectUnpaidFlushes&) = delete;
    ~ExpectUnpaidFlushes();

    [[nodiscard]] const std::vector<tag::FlushTarget>& seen() const { return seen_; }
    void add(const tag::FlushTarget& target) { seen_.push_back(target); }

private:
    std::vector<tag::FlushTarget> seen_;
};

}  // namespace flatback::tag_test
