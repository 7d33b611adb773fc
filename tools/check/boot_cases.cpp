#include <fmt/format.h>

#include <array>

#include "tools/check/boot_test.hpp"
#include "tools/check/sleep_tables.hpp"
#include "tools/emulator/bochs_configuration.hpp"
#include "tools/ground/paths.hpp"

namespace flatback::tools {
namespace {

std::filesystem::path endings_kernel() {
    return build_directory() / "tests" / "tools" / "endings.elf";
}

}  // namespace

// Each ending of a run that the command tells apart, which is the same without L0 and with it.
void add_endings(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* command_line;
        Ending ending;
        std::string_view word;
        const char* keys = nullptr;  // typed on COM1
    };
    constexpr std::array<Case, 8> cases{{{"shutdown", "s", Ending::shutdown, ""},
                                         {"power-off", "p", Ending::power_off, ""},
                                         {"triple-fault", "t", Ending::triple_fault, "(triple_fault+0x"},
                                         {"reset", "r", Ending::reset, ""},
                                         {"keyboard-reset", "k", Ending::reset, ""},
                                         {"halted", "c", Ending::halted, "(halt+0x"},
                                         {"forged-records", "f", Ending::shutdown, ""},
                                         {"typed", "i", Ending::shutdown, "typed: a key^C.", "a key\x03."}}};
    for (const Case& each : cases) {
        for (const bool beneath : {false, true}) {
            EmulationRequest request;
            if (beneath) request.plan.l0 = l0_image();
            request.plan.l0_command_line = "log=quiet";
            request.plan.guest = endings_kernel();
            request.plan.guest_command_line = each.command_line;
            request.memory = beneath ? bare_memory : least_memory;
            request.limit = short_limit;
            request.guest_records = each.keys != nullptr;
            if (each.keys != nullptr) request.typing.emplace("typed: ", each.keys);
            tests.push_back(
                {{fmt::format("boot.ending.{}{}", each.name, beneath ? ".beneath" : ""), std::move(request)},
                 each.ending,
                 each.word,
                 {}});
        }
    }
}

// What L0 must refuse, with one line that says why.
void add_refusals(std::vector<BootTest>& tests, const std::filesystem::path& damaged_guest) {
    struct Case {
        const char* name;
        const char* processor;
        const char* l0_command_line;
        bool damaged;
        std::string_view word;
    };
    const std::array<Case, 4> cases{{
        {"boot.refusal.processor-without-vmx", "ryzen", "log=quiet", false, "VT-x"},
        {"boot.refusal.processor-without-ept", "core2_penryn_t9600", "log=quiet", false, "EPT"},
        {"boot.refusal.damaged-guest", usual_processor.data(), "log=quiet", true, ""},
        {"boot.refusal.unknown-option", usual_processor.data(), "nested-vpid=sometimes", false,
         "nested-vpid"},
    }};
    for (const Case& each : cases) {
        EmulationRequest request;
        request.plan.l0 = l0_image();
        request.plan.l0_command_line = each.l0_command_line;
        request.plan.guest = each.damaged ? damaged_guest : endings_kernel();
        request.plan.guest_command_line = "s";
        request.memory = bare_memory;
        request.processor = each.processor;
        request.limit = short_limit;
        tests.push_back({{each.name, std::move(request)}, Ending::l0_stopped, each.word, {}});
    }
    // A machine whose second processor is not as the first: named, and left out where L1 is to have one.
    for (const bool one : {false, true}) {
        BootTest unlike{
            bare_run(fmt::format("boot.refusal.unlike-processor{}", one ? "-left-out" : ""),
                     one ? "log=quiet cpus=1" : "log=quiet", "check only=vmcs-pointer", bare_limit),
            {},
            {},
            {"l0", "l1-entry", "bare-l1"}};
        if (!one) {
            unlike.ending = Ending::l0_stopped;
            unlike.word =
                "the processor with APIC identifier 1 is not as the first one, 0, in its capabilities of "
                "VT-x; "
                "boot with cpus=1";
            unlike.stages.clear();
        }
        unlike.run.request.plan.l0 = l0_image_of_unlike_processors();
        unlike.run.request.processors = 3;
        tests.push_back(std::move(unlike));
    }
}

// An L1 whose own tables are unusable when an exception comes: a shutdown, directly and under L0, and nothing
// else.
void add_broken(std::vector<BootTest>& tests) {
    std::vector<std::string> parts;
    for (const std::string_view idt : {"idt-without-memory", "idt-beyond-all-memory", "idt-in-l0s-memory",
                                       "idt-in-the-local-apic", "idt-of-no-length", "stack-not-canonical",
                                       "stack-unmapped", "gdt-without-memory", "gdt-of-no-length"}) {
        parts.emplace_back(idt);
        parts.push_back(fmt::format("{}-l0", idt));  // by an exception that L0 raises
    }
    for (const std::string_view paging : {"paging-without-memory", "paging-beyond-all-memory",
                                          "paging-in-l0s-memory", "paging-in-the-local-apic"}) {
        parts.emplace_back(paging);
    }
    for (const std::string& part : parts) {
        const std::string words = fmt::format("check only=broken-{}", part);
        for (const bool direct : {true, false}) {
            BootTest test{bare_run(fmt::format("boot.broken.{}.{}", part, direct ? "direct" : "mapped"),
                                   direct ? nullptr : "log=quiet", words, short_limit),
                          {},
                          {},
                          {}};
            test.shuts_down = true;
            tests.push_back(std::move(test));
        }
    }
}

// The machine around L1, asked by a 32-bit kernel: memory by every call of the firmware's, SMRAM, sleep
// states, and processors that L1 would start.
void add_world(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* l0_command_line;  // none: no L0
        const char* command_line;
        unsigned processors;
    };
    constexpr std::array<Case, 8> cases{{
        {"boot.world.chipset", "log=info", "smram sleep hole", 1},
        {information_name.data(), "log=info", "information  memory", 1},
        {information_direct_name.data(), nullptr, "information  memory", 1},
        {"boot.world.two-processors", "cpus=1 log=info", "smi processors=0", 2},
        {"boot.world.four-processors", "cpus=1 log=info", "processors=0 memory", 4},
        {"boot.world.two-processors-given", "log=info", "smi processors=1 sleep", 2},
        {"boot.world.three-of-four-processors-given", "cpus=3 log=info", "processors=2 memory", 4},
        {"boot.world.two-processors-direct", nullptr, "processors=1", 2},
    }};
    for (const Case& each : cases) {
        EmulationRequest request;
        std::vector<std::string> stages{"world"};
        if (each.l0_command_line != nullptr) {
            request.plan.l0 = l0_image();
            request.plan.l0_command_line = each.l0_command_line;
            stages.insert(stages.begin(), {"l0", "l1-entry"});
        }
        request.plan.guest = world_kernel();
        request.plan.guest_kind = KernelKind::multiboot1;
        request.plan.guest_command_line = each.command_line;
        request.plan.modules = {{world_kernel(), "first  module's 'text'"}, {endings_kernel(), ""}};
        request.memory = bare_memory;
        request.processors = each.processors;
        request.limit = bare_limit;
        tests.push_back({{each.name, std::move(request)}, std::nullopt, {}, std::move(stages)});
    }
    // The same kernel on a machine whose tables say that such registers are in memory.
    EmulationRequest request;
    request.plan.l0 = l0_image();
    request.plan.l0_command_line = "log=info";
    request.plan.guest = world_kernel();
    request.plan.guest_kind = KernelKind::multiboot1;
    request.plan.guest_command_line = "registers";
    request.plan.acpi_tables = sleep_tables();
    request.memory = bare_memory;
    request.limit = bare_limit;
    BootTest test{{"boot.world.registers-in-memory", std::move(request)},
                  std::nullopt,
                  {},
                  {"l0", "l1-entry", "world"}};
    test.printed = {
        "a guest asks for a sleep state from which it would wake without L0: refused, at 0x3000804",
        "a guest moves the ports of ACPI's power management, or configuration space in memory"};
    tests.push_back(std::move(test));
}

// With log=debug L0 says why a VM entry of L1's failed, with the fields, whoever found it: L0 (controls and
// host state) or the processor (guest state).
void add_explanations(std::vector<BootTest>& tests) {
    struct Case {
        const char* name;
        const char* command_line;
        std::vector<std::string_view> printed;
    };
    const std::array<Case, 3> cases{{
        {"boot.log.entry-controls",
         "check only=entry-controls",
         {"[L0] a VM entry of L1's breaks the rule pin_based_reserved_bits (SDM 3C 27.2.1.1): "
          "pin_based_vm_execution_controls 0x"}},
        {"boot.log.entry-host",
         "check only=entry-host",
         {"[L0] a VM entry of L1's breaks the rule host_cr0_fixed_bits (SDM 3C 27.2.2): host_cr0 0x"}},
        {"boot.log.entry-guest",
         "check only=entry-guest",
         {"[L0] the processor refused L2's guest state, which breaks the rule guest_rflags_reserved_bits "
          "(SDM 3C 27.3.1.4): guest_rflags 0x"}},
    }};
    for (const Case& each : cases) {
        BootTest test{bare_run(each.name, "log=debug", each.command_line, bare_limit),
                      std::nullopt,
                      {},
                      {"l0", "l1-entry", "bare-l1"}};
        test.printed = each.printed;
        tests.push_back(std::move(test));
    }
}

}  // namespace flatback::tools
