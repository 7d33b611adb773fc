// The copy of the firmware in memory, F0000H to FFFFFH, which most chipsets keep from being written.
#pragma once

#include <cstdint>

namespace flatback::metal {

// As long as it lives, what is written there stays, on chipsets that L0 knows (440FX, Q35).
class WritableFirmwareShadow final {
public:
    WritableFirmwareShadow();
    ~WritableFirmwareShadow();
    WritableFirmwareShadow(const WritableFirmwareShadow&) = delete;
    WritableFirmwareShadow& operator=(const WritableFirmwareShadow&) = delete;

private:
    std::uint32_t attribute_register_ = 0;  // of the host bridge; 0: not known, or not changed
    std::uint8_t before_ = 0;
};

}  // namespace flatback::metal
