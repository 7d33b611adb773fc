#include <cstddef>
#include <cstdint>

#include "fuzz/judged_program.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    flatback::fuzz::run_judged_program({data, size});
    return 0;
}
