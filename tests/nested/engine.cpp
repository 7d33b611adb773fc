#include "tests/nested/engine.hpp"

#include <gtest/gtest.h>

namespace flatback {

namespace nested {
template class Ept02<nested_test::FakePort>;
template class NestedVcpu<nested_test::FakePort>;
}  // namespace nested

void tag::unpaid_flush(const FlushTarget& target) noexcept {
    ADD_FAILURE() << "an owed flush of tag " << raw(target.tag) << " was dropped";
}

}  // namespace flatback
