// The engine over the tests' port, instantiated once (engine.cpp).
#pragma once

#include "nested/vcpu.hpp"
#include "tests/nested/fake_port.hpp"

namespace flatback::nested {
static_assert(Port<nested_test::FakePort>);
extern template class Ept02<nested_test::FakePort>;
extern template class NestedVcpu<nested_test::FakePort>;
}  // namespace flatback::nested
