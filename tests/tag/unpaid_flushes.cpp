#include "tests/tag/unpaid_flushes.hpp"

#include <gtest/gtest.h>

namespace flatback {
namespace {
tag_test::ExpectUnpaidFlushes* expecting = nullptr;
}  // namespace

namespace tag_test {
ExpectUnpaidFlushes::ExpectUnpaidFlushes() {
    expecting = this;
}
ExpectUnpaidFlushes::~ExpectUnpaidFlushes() {
    expecting = nullptr;
}
}  // namespace tag_test

void tag::unpaid_flush(const FlushTarget& target) noexcept {
    if (expecting != nullptr) {
        expecting->add(target);
    } else {
        ADD_FAILURE() << "an owed flush of tag " << raw(target.tag) << " was dropped";
    }
}

}  // namespace flatback
