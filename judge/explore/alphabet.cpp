#include "judge/explore/alphabet.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace flatback::machine::explore {

std::string describe(Guest guest) {
    if (alike(guest) != guest) return describe(alike(guest)) + " of the other virtual CPU";
    switch (guest) {
        case Guest::vpid_1:
            return "the L2 with vpid12 1";
        case Guest::vpid_2:
            return "the L2 with vpid12 2";
        case Guest::without_vpid:
            return "the L2 without VPID";
        case Guest::l1:
            return "L1";
        case Guest::other:
            return "another VM";
        case Guest::none:
        case Guest::of_other_cpu:
            break;
    }
    return "nobody";
}

namespace {

std::string describe_step(const Action& action) {
    using Kind = Action::Kind;
    const std::string guest = describe(action.guest);
    const std::string vpid12 = fmt::format("vpid12 {}", static_cast<unsigned>(action.guest));
    const char eptp = action.eptp == 0 ? 'x' : 'y';
    const unsigned page = action.page;
    switch (action.kind) {
        case Kind::enter:
            return fmt::format("L1: VM entry of {}, EPTP {}", guest, eptp);
        case Kind::enter_fails_flush_paid:
            return fmt::format("L1: VM entry of {} that fails; L0 had paid its flush", guest);
        case Kind::enter_fails_flush_kept:
            return fmt::format("L1: VM entry of {} that fails; L0 had not paid its flush", guest);
        case Kind::edit_ept:
            return fmt::format("L1: EPT12 {} maps page {} elsewhere", eptp, page);
        case Kind::invvpid_address:
            return fmt::format("L1: INVVPID type 0 of {}, page {}", vpid12, page);
        case Kind::invvpid_single:
            return fmt::format("L1: INVVPID type 1 of {}", vpid12);
        case Kind::invvpid_all:
            return "L1: INVVPID type 2";
        case Kind::invvpid_retaining_globals:
            return fmt::format("L1: INVVPID type 3 of {}", vpid12);
        case Kind::invept_single:
            return fmt::format("L1: INVEPT type 1 of {}", eptp);
        case Kind::invept_all:
            return "L1: INVEPT type 2";
        case Kind::flush_of_l1:
            return "L1: MOV to CR that flushes L1's own translations, emulated";
        case Kind::vmxoff_vmxon:
            return "L1: VMXOFF, VMXON";
        case Kind::edit_page:
            return fmt::format("memory: the paging structures of the L2s map page {} elsewhere", page);
        case Kind::access:
            return fmt::format("L2: access to page {}", page);
        case Kind::change_pcid:
            return "L2: MOV to CR3, bit 63 set, to the other PCID";
        case Kind::mov_cr3:
            return "L2: MOV to CR3, bit 63 clear, of the current PCID";
        case Kind::invlpg:
            return fmt::format("L2: INVLPG of page {}", page);
        case Kind::exit:
            return "L2: VM exit that L1 handles";
        case Kind::move:
            return "L0: the virtual CPU moves to the other processor";
        case Kind::take_page:
            return fmt::format("L0: takes page {} away", page);
        case Kind::other_vm_comes:
            return "L0: another VM takes a tag and runs on every processor";
        case Kind::other_vm_goes:
            return "L0: the other VM gives its tag back";
        case Kind::vmclear:
            return fmt::format("L1: VMCLEAR of {}", guest);
        case Kind::exchange:
            return "L0: the two virtual CPUs exchange their processors";
        case Kind::turn:
            return "L0: gives the processor to the other VM";
    }
    return {};
}

}  // namespace

std::string describe(const Action& action, std::string_view of) {
    const std::string step = describe_step(action);
    return action.l1_cpu ? fmt::format("{} {}, {}", of, *action.l1_cpu, step) : step;
}

Actions::Actions(const Alphabet& alphabet) {
    using Kind = Action::Kind;
    std::vector<Guest> numbered{Guest::vpid_1};
    if (alphabet.vpids > 1) numbered.push_back(Guest::vpid_2);
    std::vector<Guest> guests = numbered;
    guests.push_back(Guest::without_vpid);
    const auto each = [](unsigned count, auto&& visit) {
        for (unsigned number = 0; number < count; ++number) visit(static_cast<std::uint8_t>(number));
    };

    for (const Guest guest : guests) {
        each(alphabet.eptps, [&](std::uint8_t eptp) { of_l1.push_back({Kind::enter, guest, eptp, 0}); });
        of_l1.push_back({Kind::enter_fails_flush_paid, guest});
        of_l1.push_back({Kind::enter_fails_flush_kept, guest});
    }
    for (const Guest guest : numbered) {
        each(alphabet.pages, [&](std::uint8_t page) {
            of_l1.push_back({Kind::invvpid_address, guest, 0, page});
        });
        of_l1.push_back({Kind::invvpid_single, guest});
        of_l1.push_back({Kind::invvpid_retaining_globals, guest});
    }
    of_l1.push_back({Kind::invvpid_all});
    each(alphabet.eptps, [&](std::uint8_t eptp) {
        of_l1.push_back({Kind::invept_single, Guest::none, eptp, 0});
        each(alphabet.pages, [&](std::uint8_t page) {
            of_l1.push_back({Kind::edit_ept, Guest::none, eptp, page});
        });
    });
    of_l1.push_back({Kind::invept_all});
    of_l1.push_back({Kind::flush_of_l1});
    of_l1.push_back({Kind::vmxoff_vmxon});

    each(alphabet.pages, [&](std::uint8_t page) {
        of_l2.push_back({Kind::access, Guest::none, 0, page});
        of_l2.push_back({Kind::invlpg, Guest::none, 0, page});
    });
    if (alphabet.pcids > 1) of_l2.push_back({Kind::change_pcid});
    of_l2.push_back({Kind::mov_cr3});
    of_l2.push_back({Kind::exit});

    for (std::vector<Action>* actions : {&of_l1, &of_l2}) {
        each(alphabet.pages, [&](std::uint8_t page) {
            actions->push_back({Kind::edit_page, Guest::none, 0, page});
            actions->push_back({Kind::take_page, Guest::none, 0, page});
        });
        if (alphabet.cpus > 1) actions->push_back({Kind::move});
        actions->push_back({Kind::other_vm_comes});
        actions->push_back({Kind::other_vm_goes});
    }
}

std::vector<Action> actions_of_two(const Alphabet& alphabet) {
    using Kind = Action::Kind;
    const bool of_vms = alphabet.vms > 1;
    Alphabet of_one = alphabet;
    // Those of one L1 have a processor each, which they exchange.
    if (!of_vms) of_one.cpus = 1;
    const Actions each(of_one);
    std::vector<Action> all;
    for (const std::uint8_t cpu : {std::uint8_t{0}, std::uint8_t{1}}) {
        const auto add = [&](Action action) {
            const bool by_another_vm =
                action.kind == Kind::other_vm_comes || action.kind == Kind::other_vm_goes;
            if (by_another_vm) return;
            action.l1_cpu = cpu;
            // Memory of one L1 is the same whoever changes it.
            if (!of_vms && action.kind == Kind::edit_page) action.l1_cpu.reset();
            if (std::ranges::find(all, action) == all.end()) all.push_back(action);
        };
        for (const Action& action : each.of_l1) {
            add(action);
            if (!of_vms && alphabet.vmcss == 1 && action.kind == Kind::enter && action.eptp == 0)
                add({.kind = Kind::vmclear, .guest = action.guest});
        }
        for (const Action& action : each.of_l2) add(action);
    }
    if (of_vms) {
        all.push_back({.kind = Kind::turn});
    } else if (alphabet.cpus > 1) {
        all.push_back({.kind = Kind::exchange});
    }
    return all;
}

}  // namespace flatback::machine::explore
