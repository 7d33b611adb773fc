// Linked into a copy of L0 (tests/metal/CMakeLists.txt): before its first entry the tests of a Port
// (port_tests/) are run on L0's own, on the processor beneath, and each guarantee is told as a check, for
// boot.bare.port. A program of the host's could not: this Port's instructions are the processor's own, and
// its pages lie in the upper half of the address space.
#include <array>
#include <cstddef>
#include <string_view>

#include "metal/ground/log.hpp"
#include "metal/l0/cpu.hpp"
#include "port_tests/port_tests.hpp"

namespace {

using namespace flatback;

// Ordinary memory of any L1's, in two blocks of EPT01's; what L1 has there is put back.
constexpr x86::Gpa<x86::L1> low_page{0x8000};
constexpr x86::Gpa<x86::L1> page_above{0x40'0000};

// A guarantee as the name of a check, which is one word: "cpu is one processor" is port.cpu-is-one-processor.
class CheckName {
public:
    explicit CheckName(std::string_view guarantee) {
        for (const char letter : guarantee) {
            if (size_ == letters_.size()) break;
            letters_[size_++] = letter == ' ' ? '-' : letter;
        }
    }
    [[nodiscard]] std::string_view text() const { return {letters_.data(), size_}; }

private:
    std::array<char, 80> letters_{};
    std::size_t size_ = 0;
};

void try_the_port(metal::Cpu& cpu, const metal::BootResult& boot) {
    (void)port_tests::run(cpu.port,
                          {.capabilities = cpu.capabilities,
                           .vmcs01 = cpu.vmcs01,
                           .vpid01 = cpu.vcpu.vpid01(),
                           .memory = low_page,
                           .other_memory = page_above,
                           .nothing = x86::Gpa<x86::L1>{boot.region.start},
                           .page_reaches_l1_memory = true},
                          [](const char* guarantee, const char* broken) {
                              const CheckName name{guarantee};
                              if (broken == nullptr) {
                                  metal::log::line("FLATBACK check port.", name.text(), " pass");
                              } else {
                                  metal::log::line("FLATBACK check port.", name.text(), " fail ",
                                                   std::string_view{broken});
                              }
                          });
}

}  // namespace

// By the linker, in place of flatback::metal::set_up_vmcs01(Cpu&, const BootResult&), which the first
// processor calls once, and that function itself.
extern "C" {
void __real__ZN8flatback5metal13set_up_vmcs01ERNS0_3CpuERKNS0_10BootResultE(
    flatback::metal::Cpu& cpu, const flatback::metal::BootResult& boot);
void __wrap__ZN8flatback5metal13set_up_vmcs01ERNS0_3CpuERKNS0_10BootResultE(
    flatback::metal::Cpu& cpu, const flatback::metal::BootResult& boot);

void __wrap__ZN8flatback5metal13set_up_vmcs01ERNS0_3CpuERKNS0_10BootResultE(
    flatback::metal::Cpu& cpu, const flatback::metal::BootResult& boot) {
    __real__ZN8flatback5metal13set_up_vmcs01ERNS0_3CpuERKNS0_10BootResultE(cpu, boot);
    try_the_port(cpu, boot);
}
}
