#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tag/vpid12_map.hpp"

namespace flatback::machine::explore {

/// How much of everything the programs may use.
struct Alphabet {
    unsigned vpids = 2;  // vpid12 1 and 2
    unsigned tags = 2;   // that the processor has, for L1s and L2s together
    unsigned pages = 2;  // page 0 is ordinary, page 1 global
    unsigned pcids = 2;
    unsigned eptps = 2;  // x and y
    unsigned cpus = 2;
    tag::Policy policy = tag::Policy::mapped;
    /// Virtual CPUs of the L1. With two, each has a processor, and `cpus` are those that it may be on.
    unsigned l1_cpus = 1;
    /// With two: VMCSs that each L2 has. With one it moves between the virtual CPUs by VMCLEAR and VMPTRLD;
    /// with two each virtual CPU has its own, of the same VPID.
    unsigned vmcss = 1;
    /// VMs, each with an L1 of one virtual CPU. With two they share the processors, and their tags.
    unsigned vms = 1;

    /// Virtual CPUs that are judged, of one L1 or of two.
    [[nodiscard]] constexpr unsigned virtual_cpus() const { return vms > 1 ? vms : l1_cpus; }
};

/// Who runs, and whose translations a tag holds.
enum class Guest : std::uint8_t {
    none,
    vpid_1,        // L2 with vpid12 = 1
    vpid_2,        // L2 with vpid12 = 2
    without_vpid,  // L2 with "enable VPID" = 0
    l1,
    other,  // the L1 of another VM
    /// A bit: it is one of those above, of the other virtual CPU that is judged.
    of_other_cpu = 8,
};

[[nodiscard]] constexpr bool is_l2(Guest guest) {
    return guest == Guest::vpid_1 || guest == Guest::vpid_2 || guest == Guest::without_vpid;
}

/// The same guest, whichever virtual CPU's it is.
[[nodiscard]] constexpr Guest alike(Guest guest) {
    return static_cast<Guest>(std::to_underlying(guest) & ~std::to_underlying(Guest::of_other_cpu));
}

[[nodiscard]] std::string describe(Guest guest);

/// One step of a program.
struct Action {
    enum class Kind : std::uint8_t {
        // L1, and then L1 runs on; but for `enter`.
        enter,                   // guest, eptp
        enter_fails_flush_paid,  // guest: L0 paid what was owed, then the processor refused the entry
        enter_fails_flush_kept,  // guest: L0 refused it before it paid
        edit_ept,                // eptp, page: EPT12 maps the page elsewhere
        invvpid_address,         // guest, page
        invvpid_single,          // guest
        invvpid_all,
        invvpid_retaining_globals,  // guest
        invept_single,              // eptp
        invept_all,
        flush_of_l1,  // L1's own translations; L0 emulates the MOV to CR that does it
        vmxoff_vmxon,
        // L2, or L1 where it can
        edit_page,  // page: the paging structures of all L2s map it elsewhere
        // L2
        access,       // page
        change_pcid,  // MOV to CR3 with bit 63 set
        mov_cr3,      // MOV to CR3 with bit 63 clear, of the PCID that is current
        invlpg,       // page
        exit,
        // L0, whoever runs
        move,       // the virtual CPU goes to the other processor
        take_page,  // page: what L1 believes to be this page is elsewhere now
        other_vm_comes,
        other_vm_goes,
        // Where L1 has two virtual CPUs
        vmclear,   // guest: L1, as above
        exchange,  // L0: each of them goes to the other's processor
        // Where there are two VMs
        turn,  // L0 takes their processor from the one, and gives it to the other
    };
    Kind kind = Kind::exit;
    Guest guest = Guest::none;
    std::uint8_t eptp = 0;
    std::uint8_t page = 0;
    /// Whose step it is, where there are two virtual CPUs; and it may be nobody's.
    std::optional<std::uint8_t> l1_cpu{};

    friend bool operator==(const Action&, const Action&) = default;
};

/// "L1: INVVPID type 0 of vpid12 1, page 0", ...
/// `of`: what the virtual CPUs are called, where there are two.
[[nodiscard]] std::string describe(const Action& action, std::string_view of = "CPU");

/// All that may be done next: while L1 runs, and while an L2 runs.
struct Actions {
    explicit Actions(const Alphabet& alphabet);
    std::vector<Action> of_l1;
    std::vector<Action> of_l2;
};

/// All that may be done where there are two virtual CPUs, whoever runs on each.
[[nodiscard]] std::vector<Action> actions_of_two(const Alphabet& alphabet);

}  // namespace flatback::machine::explore
