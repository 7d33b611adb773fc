// The engine by its C++ Port and by flatback.h, over the same arrays for memory and VMCSs: how many
// instructions one exit of L2's takes that L1 asked for (handle_l2_exit) with the VMRESUME that follows it
// (handle_vmx_instruction). Counted by single steps, so that the figure is the same on every run; times are
// printed beside it.
//
//   c_cost [--at-most N]     exit status 1 where the C functions cost more than N instructions beside the
//   port's, 77 where nothing can be counted
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/c/engines.hpp"

std::uint64_t* vmcs_access_current = nullptr;

namespace {

using namespace flatback;
using namespace flatback::c_test;

constexpr unsigned cycles = 16;
constexpr int not_traceable = 77;  // exit status

// The engine by its C++ Port. A type of this source's own, as flatback.cpp has one: the compiler treats them
// alike.
class OwnPort : public Port {
public:
    std::uint64_t& general_register(unsigned number) { return port.general_register(number); }
};
OwnPort own_port;

class ByPort {
public:
    ByPort()
        : promised_(nested::make_capabilities(hardware, 36, true)),
          vcpu_(own_port, promised_, pool_, x86::Hpa{vmcs01}, {}) {}
    void start() { vcpu_.prepare_first_entry(); }
    void vmx_instruction(vmx::ExitReason reason) { (void)vcpu_.handle_vmx_instruction(reason); }
    void l2_exit(std::uint32_t reason) { (void)vcpu_.handle_l2_exit(reason); }
    bool in_l2() { return vcpu_.in_l2(); }

private:
    nested::Capabilities promised_;
    tag::VpidPool pool_;
    nested::NestedVcpu<OwnPort> vcpu_;
};

template <typename Engine>
[[gnu::noinline]] void reflect(Engine& engine) {
    engine.l2_exit(static_cast<std::uint32_t>(vmx::ExitReason::cpuid));
    engine.vmx_instruction(vmx::ExitReason::vmresume);
}

// In a process of its own, traced: the instructions between its two breakpoints.
template <typename Engine>
void run() {
    vmcs_access_current = vmcss[vmcs01 / 4096];
    static Engine engine;
    prepare(engine);
    if (!engine.in_l2()) {
        std::fprintf(stderr, "L1's guest was not entered, VM-instruction error %llu\n",
                     static_cast<unsigned long long>(port.vmread(field::vm_instruction_error.encoding)));
        std::_Exit(1);
    }
    for (unsigned cycle = 0; cycle < cycles; ++cycle) reflect(engine);
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) std::_Exit(not_traceable);
    asm volatile("int3" ::: "memory");
    for (unsigned cycle = 0; cycle < cycles; ++cycle) reflect(engine);
    asm volatile("int3" ::: "memory");
    if (!engine.in_l2()) std::_Exit(1);

    auto best = std::chrono::nanoseconds::max();
    for (unsigned round = 0; round < 200; ++round) {
        const auto start = std::chrono::steady_clock::now();
        for (unsigned cycle = 0; cycle < 100; ++cycle) reflect(engine);
        best = std::min<std::chrono::nanoseconds>(best, std::chrono::steady_clock::now() - start);
    }
    std::printf("                        (%lld ns here, the best of 200 rounds)\n",
                static_cast<long long>(best.count() / 100));
    std::fflush(stdout);
    std::_Exit(0);
}

template <typename Engine>
std::uint64_t instructions() {
    std::fflush(stdout);
    const pid_t child = fork();
    if (child == 0) run<Engine>();
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == not_traceable) {
        std::printf("  not counted: processes cannot be traced here\n");
        std::exit(not_traceable);
    }
    if (!WIFSTOPPED(status)) std::exit(1);  // it has said why
    std::uint64_t steps = 0;
    for (;; ++steps) {
        user_regs_struct registers{};
        ptrace(PTRACE_GETREGS, child, nullptr, &registers);
        const long word = ptrace(PTRACE_PEEKTEXT, child, registers.rip, nullptr);
        if ((word & 0xff) == 0xcc) break;
        ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
        waitpid(child, &status, 0);
        if (!WIFSTOPPED(status)) std::exit(1);
    }
    user_regs_struct registers{};
    ptrace(PTRACE_GETREGS, child, nullptr, &registers);
    ++registers.rip;
    ptrace(PTRACE_SETREGS, child, nullptr, &registers);
    ptrace(PTRACE_DETACH, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    return steps / cycles;
}

}  // namespace

int main(int argc, char** argv) {
    std::printf(
        "instructions of the engine and its port for one exit of L2 reflected to L1, and the VMRESUME after "
        "it\n");
    const std::uint64_t by_port = instructions<ByPort>();
    std::printf("  C++ Port      %6llu\n", static_cast<unsigned long long>(by_port));
    const std::uint64_t by_table = instructions<ByTable>();
#ifdef FLATBACK_C_VMCS_ACCESS
    constexpr const char* how = "  inlined";
#else
    constexpr const char* how = "flatback.h";
#endif
    const double more = 100.0 * (static_cast<double>(by_table) / static_cast<double>(by_port) - 1);
    std::printf("  %-13s %6llu  (%+.1f %%)\n", how, static_cast<unsigned long long>(by_table), more);
    if (argc == 3 && std::strcmp(argv[1], "--at-most") == 0)
        return by_table <= by_port + std::strtoull(argv[2], nullptr, 10) ? 0 : 1;
    return 0;
}
