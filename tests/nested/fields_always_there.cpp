// Compiles, and with -DMIX=n does not: a row of accesses takes fields alone that cannot be missing.
#include "nested/vmcs/current_vmcs.hpp"

using namespace flatback;

#if !defined(MIX)
constexpr nested::AlwaysThere rip{vmx::field::guest_rip};
constexpr nested::AlwaysThere ds_limit{vmx::field::guest_es_limit.encoding + 6};
static_assert(rip.encoding == vmx::field::guest_rip.encoding);
static_assert(ds_limit.encoding == vmx::field::guest_ds_limit.encoding);
#elif MIX == 1
constexpr nested::AlwaysThere vpid{vmx::field::virtual_processor_identifier};
#elif MIX == 2
constexpr nested::AlwaysThere not_offered{vmx::field::eptp_list_address};
#elif MIX == 3
constexpr nested::AlwaysThere by_encoding{vmx::field::vmx_preemption_timer_value.encoding};
#endif
