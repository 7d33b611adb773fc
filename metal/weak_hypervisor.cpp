// Stands in for the hypervisor proper when the image is linked without it.
#include "metal/boot_result.hpp"
#include "metal/panic.hpp"

namespace flatback::metal {

[[gnu::weak]] void run_l1(BootResult&) {
    refuse("no hypervisor is linked into this image; build it with metal/main.cpp");
}
extern "C" [[gnu::weak, noreturn]] void handle_exit() {
    panic("a VM exit without a hypervisor");
}
extern "C" [[gnu::weak, noreturn]] void handle_failed_entry() {
    panic("a VM entry without a hypervisor");
}

}  // namespace flatback::metal
