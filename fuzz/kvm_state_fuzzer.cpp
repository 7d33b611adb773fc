#include <cstddef>
#include <cstdint>

#include "fuzz/kvm_state.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    flatback::fuzz::run_kvm_state({data, size});
    return 0;
}
