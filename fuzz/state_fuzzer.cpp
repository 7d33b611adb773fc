#include <cstddef>
#include <cstdint>

#include "fuzz/nested_state.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    flatback::fuzz::run_nested_state({data, size});
    return 0;
}
