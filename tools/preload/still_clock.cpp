// Loaded into Bochs before the C library: Bochs seeds the emulated RDRAND and RDSEED from time(), the only
// way in which the host's clock reaches a guest. With a time that stands still, two runs are alike to the
// last instruction.
#include <ctime>

extern "C" std::time_t time(std::time_t* result) noexcept {
    constexpr std::time_t still = 1'700'000'000;
    if (result != nullptr) *result = still;
    return still;
}
