// Nested VMX of one virtual CPU of L1, whole: the class, and what its functions do.
#pragma once

#include "vcpu/nested_vcpu.hpp"
// clang-format keeps this order: what stands above is used below.
#include "vcpu/active.hpp"
// -
#include "vcpu/instructions.hpp"
// -
#include "vcpu/l1_string_io.hpp"
// -
#include "vcpu/entry.hpp"
// -
#include "vcpu/l1s_shadow.hpp"
// -
#include "vcpu/learn.hpp"
// -
#include "vcpu/events.hpp"
// -
#include "vcpu/posted_interrupts.hpp"
// -
#include "vcpu/deliver.hpp"
// -
#include "vcpu/exit.hpp"
// -
#include "vcpu/l2_string_io.hpp"
// -
#include "vcpu/hosts_exit.hpp"
// -
#include "vcpu/moving.hpp"
// -
#include "vcpu/restore.hpp"
