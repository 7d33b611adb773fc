#include "judge/trial/several_processors.hpp"

#include <array>
#include <cstddef>

#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"

namespace flatback::machine {

namespace {

namespace field = vmx::field;

constexpr std::array<std::uint64_t, 3> addresses = {0x4000'0000, 0x4000'1000, 0xFFFF'8000'4020'0000};
constexpr std::array<std::uint64_t, 4> page_flag_sets = {0x07, 0x107, 0x05, 0x00};
constexpr std::array<std::uint64_t, 4> ept_flag_sets = {0x37, 0x31, 0x33, 0x00};
constexpr unsigned pages = 6;
/// More than there are processors, so that each leaves some behind.
constexpr unsigned l2s = 6;
constexpr std::uint16_t no_vpid = 0;
constexpr std::array<std::uint16_t, l2s> vpids = {1, 1, 2, 3, 2, no_vpid};

/// Of all L2s that use one: which MSRs exit.
constexpr std::uint64_t msr_bitmap = layout::data_page(20);
constexpr std::array<std::uint64_t, 2> bitmap_msrs = {x86::msr::ia32_lstar, x86::msr::ia32_star};

Guest guest_of(unsigned l2) {
    Guest guest{.vpid = vpids[l2], .tables = 1 + l2 % 2};
    if (l2 % 3 != 2) guest.ept = l2 % 2;
    return guest;
}
std::uint64_t vmcs_of(unsigned l2) {
    return layout::vmcs_region(l2);
}
/// The quadword of the bitmap, and in it the bit, for RDMSR of one of the high numbers (SDM 3C 25.6.9).
std::uint64_t bitmap_word(std::uint64_t msr) {
    return msr_bitmap + 1024 + (msr & 0x1FFF) / 64 * 8;
}
constexpr std::uint64_t bitmap_bit(std::uint64_t msr) {
    return std::uint64_t{1} << (msr & 63);
}

class Writer {
public:
    explicit Writer(Care care) : is_careful_(care == Care::has) {
        say_.edit();
        for (const unsigned hierarchy : {0U, 1U, 2U}) {
            for (unsigned index = 0; index < addresses.size(); ++index)
                say_.map(hierarchy, addresses[index], layout::data_page((hierarchy + index) % pages));
        }
        for (unsigned page = 0; page < pages; ++page) {
            say_.poke(layout::data_page(page), 0xD0 + page);
            say_.ept_map(0, layout::data_page(page), layout::data_page(page));
            say_.ept_map(1, layout::data_page(page), layout::data_page(pages - 1 - page));
        }
        for (unsigned processor = 0; processor < several_processors; ++processor) on(processor).l1().vmxon();
        for (unsigned l2 = 0; l2 < l2s; ++l2) {
            on(l2 % several_processors).l1().prepare(vmcs_of(l2), guest_of(l2));
            say_.vmwrite(field::address_of_msr_bitmaps, msr_bitmap);
            say_.vmwrite(field::primary_processor_based_vm_execution_controls,
                         0x8400'61F2 | (l2 % 2 == 0 ? vmx::primary::use_msr_bitmaps : 0U));
            owner_[l2] = l2 % several_processors;
            current_[l2 % several_processors] = l2;
        }
    }

    void add(std::uint8_t what, std::uint8_t a, std::uint8_t b, std::uint8_t c) {
        const unsigned processor = a % several_processors;
        const unsigned l2 = b % l2s;
        const std::uint64_t address = addresses[c % addresses.size()];
        switch (what % 16) {
            case 0:
            case 1:
            case 2:
            case 3:
                run(processor, l2, c);
                access(processor, address, c);
                return;
            case 4:
            case 5:
                access(processor, address, c);
                return;
            case 6:
                say_.edit().map(1 + b % 2U, address, layout::data_page(b / 2U % pages),
                                page_flag_sets[c / 4 % page_flag_sets.size()]);
                if (what / 16 % 4 != 0) shoot_down_linear(what, l2, address);
                return;
            case 7:
                say_.edit().ept_map(b % 2U, layout::data_page(b / 2U % pages), layout::data_page(c % pages),
                                    ept_flag_sets[c / 8 % ept_flag_sets.size()]);
                if (what / 16 % 4 != 0) shoot_down_physical(what, b % 2U);
                return;
            case 8:
                // By L2s themselves: those that run an L2 of these page tables.
                if (what / 16 % 2 == 0) say_.edit().map(1 + b % 2U, address, layout::data_page(c % pages));
                for (unsigned each = 0; each < several_processors; ++each) on(each).l2().invlpg(address);
                return;
            case 9:
                to_l1(processor).invvpid(what / 16 % 4U, vpids[b % 5U], address);
                return;
            case 10:
                to_l1(processor).invept(what / 16 % 2 == 0 ? 1 : 2, layout::eptp(b % 2U));
                return;
            case 11:
                begin_vmx_operation_again(processor, what / 16 % 4 == 3);
                run(processor, l2, c);
                access(processor, address, c);
                return;
            case 12:
                on(processor).l0().take_page(layout::data_page(c % pages));
                return;
            case 13:
                access(processor, address, c);
                on(processor).l0().move_vcpu(b % several_processors);
                if (what / 16 % 2 != 0) change_there_and_go_back(processor, l2, address, c);
                return;
            case 14:
                write_bitmap(processor, b, c);
                run((processor + 1) % several_processors, l2, c);
                on((processor + 1) % several_processors).l2().rdmsr(bitmap_msrs[b / 8U % 2]);
                return;
            default:
                on(processor).l2().rdmsr(bitmap_msrs[b % 2U]).mov_to_cr3(layout::page_root(1 + c % 2U));
                return;
        }
    }

    [[nodiscard]] Program program() const { return say_.program(); }

private:
    static constexpr unsigned nobody = ~0U;

    Scenario& on(unsigned processor) { return say_.on(0, static_cast<std::uint8_t>(processor)); }
    Scenario& to_l1(unsigned processor) {
        // Passed over where L1 runs already.
        return on(processor).l2().vmcall().l1();
    }

    /// L1 has the L2 on this processor, wherever it was, and enters it.
    void run(unsigned processor, unsigned l2, std::uint8_t how) {
        const bool moves = owner_[l2] != processor;
        if (moves && owner_[l2] != nobody && (is_careful_ || how % 2 != 0)) {
            to_l1(owner_[l2]).vmclear(vmcs_of(l2));
            if (current_[owner_[l2]] == l2) current_[owner_[l2]] = nobody;
        }
        to_l1(processor);
        if (moves || current_[processor] != l2) say_.vmptrld(vmcs_of(l2));
        owner_[l2] = processor;
        current_[processor] = l2;
        // What earlier stays have left here a careful L1 forgets; another one has it as the processor has.
        if (moves && how % 4 != 0) {
            if (vpids[l2] != no_vpid) say_.invvpid_single(vpids[l2]);
            if (how % 8 == 1) say_.invept_all();
        }
        if (how % 16 == 5) fail_once();
        say_.vmlaunch().vmresume();
    }
    void fail_once() {
        say_.vmwrite(field::guest_rflags, 0).vmlaunch().vmresume();
        say_.vmwrite(field::guest_rflags, x86::rflags::fixed_one);
    }

    void access(unsigned processor, std::uint64_t address, std::uint8_t how) {
        on(processor).l2();
        if (how / 32 % 4 == 3) {
            say_.store(address, how);
        } else {
            say_.load(address);
        }
        // Where it has faulted or exited, L1 runs: on with it.
        if (how / 32 % 2 == 0) say_.l1().vmresume();
    }

    /// Each processor that may have something of the page drops it, as by an interrupt from the one that
    /// edited; or only some do.
    void shoot_down_linear(std::uint8_t what, unsigned l2, std::uint64_t address) {
        for (unsigned processor = 0; processor < several_processors; ++processor) {
            if (what / 64 == 3 && processor == l2 % several_processors) continue;
            to_l1(processor);
            for (const unsigned vpid : {1U, 2U, 3U}) {
                if (what / 16 % 2 == 0) {
                    say_.invvpid_address(vpid, address);
                } else {
                    say_.invvpid_single(vpid);
                }
            }
            if (current_[processor] != nobody) say_.vmresume();
        }
    }
    void shoot_down_physical(std::uint8_t what, unsigned hierarchy) {
        for (unsigned processor = 0; processor < several_processors; ++processor) {
            if (what / 64 == 3 && processor == hierarchy) continue;
            to_l1(processor);
            if (what / 16 % 2 == 0) {
                say_.invept_single(layout::eptp(hierarchy));
            } else {
                say_.invept_all();
            }
            if (current_[processor] != nobody) say_.vmresume();
        }
    }

    /// What was cached where the virtual CPU has been is stale when it comes back.
    void change_there_and_go_back(unsigned processor, unsigned l2, std::uint64_t address, std::uint8_t how) {
        say_.edit().map(1 + how % 2U, address, layout::data_page(l2));
        to_l1(processor);
        for (const unsigned vpid : {1U, 2U, 3U}) say_.invvpid_single(vpid);
        if (current_[processor] != nobody) say_.vmresume();
        access(processor, address, how);
        on(processor).l0().move_vcpu(processor);
        access(processor, address, how);
    }

    void begin_vmx_operation_again(unsigned processor, bool from_the_start) {
        to_l1(processor);
        for (unsigned l2 = 0; l2 < l2s; ++l2) {
            if (owner_[l2] != processor) continue;
            if (is_careful_) say_.vmclear(vmcs_of(l2));
            owner_[l2] = nobody;
        }
        current_[processor] = nobody;
        say_.vmxoff();
        if (from_the_start) say_.l0().init().start_up(0x12).l1().boot();
        say_.vmxon();
    }

    /// With no L2 running: what a processor does of bitmaps that change under its guest is left open (SDM 3C
    /// 25.11.4).
    void write_bitmap(unsigned processor, std::uint8_t b, std::uint8_t c) {
        for (unsigned each = 0; each < several_processors; ++each) to_l1(each);
        const std::uint64_t msr = bitmap_msrs[b % 2U];
        // One quadword has the bits of both.
        on(processor).l1().store(bitmap_word(msr), c % 2 == 0 ? 0 : bitmap_bit(msr));
    }

    bool is_careful_;
    Scenario say_;
    std::array<unsigned, l2s> owner_{};                   // on which processor its VMCS is active
    std::array<unsigned, several_processors> current_{};  // the L2 whose VMCS is current there
};

}  // namespace

Program several_processors_program(std::span<const std::uint8_t> bytes, Care care) {
    Writer writer(care);
    for (std::size_t at = 0; at + 4 <= bytes.size(); at += 4)
        writer.add(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    return writer.program();
}

}  // namespace flatback::machine
