#include <cstddef>
#include <cstdint>

#include "fuzz/watched_trace.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    flatback::fuzz::watch_trace({data, size});
    return 0;
}
