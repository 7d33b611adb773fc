#include <cstddef>
#include <cstdint>

#include "fuzz/trial_program.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    flatback::fuzz::run_trial_program({data, size});
    return 0;
}
