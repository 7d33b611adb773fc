#include <fmt/format.h>

#include <array>

#include "tools/check/boot_test.hpp"
#include "tools/stack/peer_guest.hpp"

namespace flatback::tools {
namespace {

// KVM gives its guests virtual and posted interrupts, which this emulator has not by itself.
std::string check_virtual_interrupts(const RunValues& values) {
    const std::string apicv = values.text("l1.kvm_intel.enable_apicv").value_or("missing");
    return apicv == "Y" ? "" : fmt::format("enable_apicv is {}", apicv);
}

// What holds of any lat_ctx on Flatback with mapped tags, however short: a timer interrupt of L2's makes a
// few exits, and none of them flushes a tag of L2's.
std::string check_short_lat_ctx(const RunValues& values) {
    std::string wrong;
    const auto check = [&](std::string_view key, double least, double most) {
        const auto value = values.value(key);
        if (value && *value >= least && *value <= most) return;
        wrong += fmt::format("{}{} is {}, not from {} to {}", wrong.empty() ? "" : "; ", key,
                             values.number(key).value_or("missing"), least, most);
    };
    for (const std::string_view column : {"2p/0K", "8p/16K"}) {
        const std::string prefix = fmt::format("lat_ctx.flatback.mapped.{}.", column);
        check(prefix + "ticks", 1'000, 100'000);
        check(prefix + "switch_ticks", 100, 100'000);
        check(prefix + "l2_entries", 0.0001, 1);
        check(prefix + "l0_exits", 0.0001, 10);
        check(prefix + "l2_tag_flushes", 0, 0);
    }
    check("boot.l2", 1e7, 2e9);
    if (wrong.empty()) wrong = check_virtual_interrupts(values);
    return wrong;
}

// L1 found all processors of the machine, and found them again once each had been taken away.
template <unsigned Processors>
std::string check_processors(const RunValues& values) {
    for (const char* const key : {"l1.online", "l1.online_again"}) {
        if (values.value(key) != double{Processors})
            return fmt::format("{} is {}, not {}", key, values.number(key).value_or("missing"), Processors);
    }
    return "";
}

// Two virtual CPUs of an L2 that changed places among L1's processors while its threads worked on their page
// tables.
std::string check_several_in_l2(const RunValues& values) {
    constexpr double processors = 2;
    if (values.value("l2.online") != processors)
        return fmt::format("l2.online is {}, not 2", values.number("l2.online").value_or("missing"));
    for (const char* const key : {"mm_stress.rounds", "l2_linux.moves", "mm_stress.interrupt_ticks",
                                  "mm_stress.shootdown_ticks", "mm_stress.alone_ticks"}) {
        if (values.value(key).value_or(0) < 1)
            return fmt::format("{} is {}", key, values.number(key).value_or("missing"));
    }
    return "";
}

// L1's local APICs in a mode that Linux must be told to have. Without interrupt remapping it stays in the
// x2APIC mode in which it was begun only where it has no I/O APIC. nox2apic has it leave that mode, and the
// real APICs do not: there, too, no I/O APIC may send to logical destinations.
struct ApicMode {
    std::string_view name;
    std::string_view words;
    std::string_view told;  // by Linux, when it goes over to another one than it begins with
};
constexpr std::array<ApicMode, 3> apic_modes{{
    {"x2apic", "noapic", "cluster x2apic"},
    {"x2apic-phys", "noapic x2apic_phys", "physical x2apic"},
    {"nox2apic", "nox2apic noapic", ""},
}};

std::string apic_is_wrong(const RunValues& values, const ApicMode& mode) {
    const std::string told = values.text("l1.apic").value_or("not told");
    if (mode.told.empty() ? told.empty() : told.find(mode.told) != std::string::npos) return "";
    return fmt::format("Linux said \"{}\", not \"{}\"", told, mode.told);
}

template <std::size_t Mode>
std::string check_apic(const RunValues& values) {
    const std::string wrong = apic_is_wrong(values, apic_modes[Mode]);
    return wrong.empty() ? check_several_in_l2(values) : wrong;
}

void begin_in_x2apic_mode(QueuedRun& run, const ApicMode& mode) {
    run.request.plan.l0_command_line += " x2apic=on";
    run.request.plan.guest_command_line += fmt::format(" routing=told {}", mode.words);
}

// A Linux with two virtual CPUs as L2, as of linux_l2_processors_run, above L1's APICs in that mode.
template <std::size_t Mode>
BootTest apic_test(const LinuxGuest& guest, unsigned processors) {
    const ApicMode& mode = apic_modes[Mode];
    constexpr unsigned rounds = 10;
    QueuedRun run =
        linux_l2_processors_run(fmt::format("{}.{}-{}", linux_several_name, processors, mode.name), guest,
                                processors, 4 * linux_limit, rounds);
    begin_in_x2apic_mode(run, mode);
    run.request.plan.guest_command_line += " processors=each";
    return {std::move(run),
            std::nullopt,
            {},
            {"l0", "l1-entry", "l1-user", "l1-processors", "l2-linux", "l2-user", "l2-done"},
            check_apic<Mode>};
}

// Of several L2s at once, on a machine with two processors: the virtual CPUs of each.
constexpr std::array<unsigned, 3> l2s_at_once{2, 2, 2};

// Each had its virtual CPUs, which were moved, and did its work.
std::string check_l2s_at_once(const RunValues& values) {
    for (std::size_t number = 1; number <= l2s_at_once.size(); ++number) {
        const std::string online = fmt::format("l2.{}.online", number);
        if (values.value(online) != static_cast<double>(l2s_at_once[number - 1]))
            return fmt::format("{} is {}, not {}", online, values.number(online).value_or("missing"),
                               l2s_at_once[number - 1]);
        for (const std::string& key :
             {fmt::format("mm_stress.{}.rounds", number), fmt::format("l2_linux.{}.moves", number)}) {
            if (values.value(key).value_or(0) < 1)
                return fmt::format("{} is {}", key, values.number(key).value_or("missing"));
        }
    }
    return "";
}

// And every one had begun with it before the first was done.
std::string check_together(const Transcript& transcript) {
    const std::string& text = transcript.text();
    const std::size_t first_done = text.find("FLATBACK check mm_stress.");
    for (std::size_t number = 1; number <= l2s_at_once.size(); ++number) {
        if (text.find(fmt::format("FLATBACK value l2.{}.online", number)) >= first_done)
            return fmt::format("L2 {} began when another one was done", number);
    }
    return "";
}

// Two virtual CPUs of an L2 by QEMU.
std::string check_several_by_qemu(const RunValues& values) {
    constexpr double processors = 2;
    if (values.value("l2.online") != processors)
        return fmt::format("l2.online is {}, not 2", values.number("l2.online").value_or("missing"));
    if (values.value("mm_stress.rounds").value_or(0) < 1) return "L2's threads did not work";
    return "";
}

// The kernel that took the machine over found all its processors too.
std::string check_kexec(const RunValues& values) {
    constexpr unsigned processors = 2;
    const std::string wrong = check_processors<processors>(values);
    return wrong.empty() ? check_several_by_qemu(values) : wrong;
}

std::string check_reset(const Transcript& transcript) {
    if (!transcript.reached("l1-reboot")) return "L1 did not come to its reset";
    return check_processors<2>(RunValues{transcript});
}

// The same where L1 was in x2APIC mode as it gave its machine away, or reset it.
std::string check_kexec_in_x2apic_mode(const RunValues& values) {
    const std::string wrong = apic_is_wrong(values, apic_modes[0]);
    return wrong.empty() ? check_kexec(values) : wrong;
}
std::string check_reset_in_x2apic_mode(const Transcript& transcript) {
    const std::string wrong = apic_is_wrong(RunValues{transcript}, apic_modes[0]);
    return wrong.empty() ? check_reset(transcript) : wrong;
}

// Above the peer's KVM the bare L1 has measured what a reflected exit takes.
std::string check_bare_on_peer(const RunValues& values) {
    constexpr std::string_view key = "bare_l1.l2_cpuid_reflected";
    const auto ticks = values.value(key);
    if (!ticks) return fmt::format("{} is missing", key);
    // More than the round's own few dozen instructions, or nobody was beneath.
    constexpr double least = 1'000;
    constexpr double most = 1'000'000;
    return *ticks > least && *ticks < most ? "" : fmt::format("{} is {}", key, *ticks);
}

}  // namespace

// Debian's Linux with KVM and its L2 guests: with EPT, and without it in L1's KVM; and started from Debian's
// own file, which unpacks itself.
Result<> add_linux(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    for (const std::string_view name : linux_names) {
        if (name == linux_trace_name) {
            QueuedRun traced =
                traced_linux_run("mapped", "l2_cpuid,l2_alternating_vpid12", guest, linux_limit);
            traced.name = name;
            tests.push_back({std::move(traced), std::nullopt, {}, {"l0", "l1-entry", "l1-user", "trace"}});
            continue;
        }
        QueuedRun run = linux_run(std::string{name}, "nested-vpid=mapped log=quiet", guest, linux_limit);
        BootPlan& plan = run.request.plan;
        if (name.ends_with("no-ept")) plan.guest_command_line += " flatback.ept=0";
        if (name.ends_with("bzimage")) {
            plan.guest = guest.bzimage;
            plan.guest_kind = KernelKind::linux_bzimage;
        }
        tests.push_back({std::move(run), std::nullopt, {}, {"l0", "l1-entry", "l1-user", "l2"}});
    }
    return {};
}

// Linux as L2, which runs a short lat_ctx and asks for L0's counters.
Result<> add_linux_l2(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    const LatCtxWords words{"columns=2p/0K,8p/16K", "switches=400"};
    QueuedRun run = linux_l2_run(std::string{linux_l2_name}, "nested-vpid=mapped apicv=on log=quiet", guest,
                                 linux_limit, "flatback.mapped", words, "payloads=off");
    tests.push_back({std::move(run),
                     std::nullopt,
                     {},
                     {"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"},
                     check_short_lat_ctx});
    return {};
}

// Linux as L1 on a machine with two processors, and with four; with an L2 that has two as well, by the small
// VMM and by QEMU; and what begins anew: another kernel in its place, and the machine.
Result<> add_linux_several(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    constexpr unsigned processors = 2;
    tests.push_back({linux_processors_run(fmt::format("{}.{}-processors", linux_several_name, processors),
                                          guest, processors, 2 * linux_limit),
                     std::nullopt,
                     {},
                     {"l0", "l1-entry", "l1-user", "l1-processors"},
                     check_processors<processors>});
    constexpr unsigned more_processors = 4;
    tests.push_back(
        {linux_processors_run(fmt::format("{}.{}-processors", linux_several_name, more_processors), guest,
                              more_processors, 4 * linux_limit),
         std::nullopt,
         {},
         {"l0", "l1-entry", "l1-user", "l1-processors"},
         check_processors<more_processors>});
    tests.push_back({linux_l2_processors_run(fmt::format("{}.{}-in-l2", linux_several_name, processors),
                                             guest, processors, 4 * linux_limit),
                     std::nullopt,
                     {},
                     {"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"},
                     check_several_in_l2});
    tests.push_back(
        {linux_l2s_run(fmt::format("{}.{}-l2s-on-{}", linux_several_name, l2s_at_once.size(), processors),
                       guest, processors, l2s_at_once, 4 * linux_limit),
         std::nullopt,
         {},
         {"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"},
         check_l2s_at_once,
         check_together});
    tests.push_back(
        {linux_l2_processors_by_qemu_run(fmt::format("{}.{}-in-l2-by-qemu", linux_several_name, processors),
                                         guest, processors, 4 * linux_limit),
         std::nullopt,
         {},
         {"l0", "l1-entry", "l1-user", "l2-linux", "l2-user", "l2-done"},
         check_several_by_qemu});
    tests.push_back(apic_test<0>(guest, processors));
    tests.push_back(apic_test<1>(guest, processors));
    tests.push_back(apic_test<2>(guest, processors));
    for (const bool in_x2apic_mode : {false, true}) {
        const std::string_view how = in_x2apic_mode ? "x2apic-" : "";
        QueuedRun kexec = linux_kexec_run(fmt::format("{}.{}-{}kexec", linux_several_name, processors, how),
                                          guest, processors, 2 * linux_limit);
        QueuedRun reboot =
            linux_reboot_run(fmt::format("{}.{}-{}reboot", linux_several_name, processors, how), guest,
                             processors, 2 * linux_limit);
        if (in_x2apic_mode) {
            begin_in_x2apic_mode(kexec, apic_modes[0]);
            begin_in_x2apic_mode(reboot, apic_modes[0]);
        }
        tests.push_back({std::move(kexec),
                         std::nullopt,
                         {},
                         {"l0", "l1-entry", "l1-user", "l1-processors", "l1-kexec", "l2-user", "l2-done"},
                         in_x2apic_mode ? check_kexec_in_x2apic_mode : check_kexec});
        tests.push_back({std::move(reboot),
                         Ending::reset,
                         {},
                         {},
                         nullptr,
                         in_x2apic_mode ? check_reset_in_x2apic_mode : check_reset});
    }
    return {};
}

// The peer, Debian's Linux with KVM as L0, and Debian's QEMU, with the L1 that starts soonest.
Result<> add_peer(std::vector<BootTest>& tests) {
    const LinuxGuest guest =
        TRY(prepare_linux_guest([](std::string_view text) { fmt::print("{}\n", text); }));
    const PeerGuest peer = TRY(prepare_peer_guest(guest));
    tests.push_back({peer_run(std::string{peer_name}, peer, "peer.l1=bare", linux_limit),
                     std::nullopt,
                     {},
                     {"peer-l0", "bare-l1"},
                     check_bare_on_peer,
                     {}});
    return {};
}

}  // namespace flatback::tools
