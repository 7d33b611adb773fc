// Flushes for L0's trace (docs/trace.md): what the engine's Port calls. The rest of the trace stands above it
// (metal/l0/recorder.hpp).
#pragma once

#include "tag/flush_cause.hpp"
#include "tag/numbers.hpp"
#include "vmx/ept.hpp"
#include "vmx/invalidation.hpp"
#include "x86/address.hpp"

namespace flatback::metal::recorder {

// Whether events are recorded now, on this processor. Exits and entries are recorded by the handler that then
// stands in front of the usual one: without recording they cost nothing.
[[nodiscard, gnu::always_inline]] inline bool is_recording() {
    // ProcessorLocal::recording
    asm goto("cmpb $0, %%gs:9\n\tjne %l[yes]" : : : "cc" : yes);
    return false;
yes:
    return true;
}

// Right before the instruction runs. Cold, for where nothing is recorded.
[[gnu::cold]] void record_flush_tag(vmx::InvvpidType type, tag::TagNumber tag,
                                    x86::LinearAddress linear_address, tag::FlushCause cause,
                                    tag::Vpid12 vpid12);
[[gnu::cold]] void record_flush_ept(vmx::InveptType type, vmx::Eptp eptp, tag::FlushCause cause);

}  // namespace flatback::metal::recorder
