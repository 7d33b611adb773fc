#include "guests/mm_stress/faulting_access.hpp"

#include <setjmp.h>
#include <signal.h>

namespace flatback::guests {
namespace {

thread_local sigjmp_buf behind_access;
thread_local volatile sig_atomic_t accessing = 0;

void leave_access(int signal_number) {
    if (accessing == 0) {
        // A fault of the program's own: the next one ends it.
        ::signal(signal_number, SIG_DFL);
        return;
    }
    accessing = 0;
    siglongjmp(behind_access, 1);
}

}  // namespace

void catch_faults() {
    struct sigaction action {};
    action.sa_handler = leave_access;
    action.sa_flags = SA_NODEFER;  // left by a jump, which does not restore the mask
    ::sigaction(SIGSEGV, &action, nullptr);
}

std::optional<std::uint64_t> try_read(const volatile std::uint64_t* where) {
    if (sigsetjmp(behind_access, 0) != 0) {
        return std::nullopt;
    }
    accessing = 1;
    const std::uint64_t value = *where;
    accessing = 0;
    return value;
}

bool try_write(volatile std::uint64_t* where, std::uint64_t value) {
    if (sigsetjmp(behind_access, 0) != 0) {
        return false;
    }
    accessing = 1;
    *where = value;
    accessing = 0;
    return true;
}

}  // namespace flatback::guests
