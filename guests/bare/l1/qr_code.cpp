#include "guests/bare/l1/qr_code.hpp"

#include <qrcodegen/qrcodegen.h>

#include <array>
#include <cstdint>

#include "guests/bare/l1/cpu.hpp"

namespace flatback::guests {
namespace {

constexpr unsigned margin = 4;  // ISO/IEC 18004, 5.3.8
constexpr std::size_t most_text = 2000;

struct Buffers {
    std::array<char, most_text + 1> text;
    std::array<std::uint8_t, qrcodegen_BUFFER_LEN_MAX> work;
    std::array<std::uint8_t, qrcodegen_BUFFER_LEN_MAX> code;
    bool made;
};
constinit Buffers buffers{};

// The library was compiled for a process: it uses SSE, and its functions look for a canary at FS:28H.
class ProcessState final {
public:
    ProcessState() {
        write_cr0((cr0_ & ~cr0_emulation & ~cr0_task_switched) | cr0_monitor_coprocessor);
        write_cr4(cr4_ | cr4_osfxsr);
        write_msr(msr_fs_base, 0);
    }
    ProcessState(const ProcessState&) = delete;
    ProcessState& operator=(const ProcessState&) = delete;
    ~ProcessState() {
        write_msr(msr_fs_base, fs_base_);
        write_cr4(cr4_);
        write_cr0(cr0_);
    }

private:
    static constexpr std::uint64_t cr0_monitor_coprocessor = 1U << 1;
    static constexpr std::uint64_t cr0_emulation = 1U << 2;
    static constexpr std::uint64_t cr0_task_switched = 1U << 3;
    static constexpr std::uint64_t cr4_osfxsr = 1U << 9;
    static constexpr std::uint32_t msr_fs_base = 0xC000'0100;
    std::uint64_t cr0_ = read_cr0();
    std::uint64_t cr4_ = read_cr4();
    std::uint64_t fs_base_ = read_msr(msr_fs_base);
};

}  // namespace

bool QrCode::make(std::string_view text) {
    buffers.made = false;
    if (text.empty() || text.size() > most_text) return false;
    for (std::size_t i = 0; i < text.size(); ++i) buffers.text[i] = text[i];
    buffers.text[text.size()] = 0;
    const ProcessState state;
    buffers.made = qrcodegen_encodeText(buffers.text.data(), buffers.work.data(), buffers.code.data(),
                                        qrcodegen_Ecc_MEDIUM, qrcodegen_VERSION_MIN, qrcodegen_VERSION_MAX,
                                        qrcodegen_Mask_0, true);
    return buffers.made;
}

unsigned QrCode::size() const {
    if (!buffers.made) return 0;
    const ProcessState state;
    return static_cast<unsigned>(qrcodegen_getSize(buffers.code.data())) + 2 * margin;
}

void QrCode::draw(screen::TextScreen& on, unsigned x, unsigned y, unsigned scale) const {
    const unsigned modules = size();
    on.fill(x, y, modules * scale, modules * scale, true);
    const ProcessState state;
    for (unsigned row = margin; row + margin < modules; ++row) {
        for (unsigned column = margin; column + margin < modules; ++column) {
            if (qrcodegen_getModule(buffers.code.data(), static_cast<int>(column - margin),
                                    static_cast<int>(row - margin)))
                on.fill(x + column * scale, y + row * scale, scale, scale, false);
        }
    }
}

}  // namespace flatback::guests
