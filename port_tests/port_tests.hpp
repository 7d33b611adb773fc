// Tests of a Port by its guarantees (docs/porting.md): a porter compiles them against his own. Freestanding,
// so that they can be run by the hypervisor itself, on the metal, before its first guest.
//
//     namespace tests = flatback::port_tests;
//     const bool good = tests::run(port, {.capabilities = promised, .vmcs01 = vmcs01, ...},
//                                  [](const char* guarantee, const char* broken) { log(guarantee, broken);
//                                  });
//
// They are run in VMX operation, with vmcs01 as it will first be entered and current, by the CPU that will
// enter it, with interrupts disabled. They write to the pages of L1's memory that the Subject names (and put
// back what was there), take some twenty pages from allocate_page(), and execute INVVPID and INVEPT. vmcs01
// is afterwards as it was, and current.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "../nested/capabilities.hpp"
#include "../nested/port.hpp"
#include "../vmx/controls.hpp"
#include "../vmx/ept.hpp"
#include "../vmx/field_table.hpp"
#include "../x86/control_registers.hpp"
#include "../x86/msr.hpp"

namespace flatback::port_tests {

// What the tests must be told of the host.
struct Subject {
    // As given to NestedVcpu; its hardware_fields say which fields there are.
    const nested::Capabilities& capabilities;
    x86::Hpa vmcs01;
    tag::TagNumber vpid01;  // NestedVcpu::vpid01()
    // Two pages of L1's ordinary memory, in one block of EPT01's or not.
    x86::Gpa<x86::L1> memory;
    x86::Gpa<x86::L1> other_memory;
    // An address below the physical-address width where L1 has nothing. One that is the host's, if L1 could
    // name it.
    x86::Gpa<x86::L1> nothing;
    // Port::page() reaches L1's memory too, as a direct map does: then what l1_page() and host_mapping() say
    // can be compared.
    bool page_reaches_l1_memory = false;
};

namespace detail {

// Of each guarantee: null where it holds, else how it was broken.
template <nested::Port P>
class Tests {
public:
    Tests(P& port, const Subject& subject) : port_(port), subject_(subject) {}

    const char* fields() {
        const auto page = new_vmcs();
        if (!page) return "allocate_page() has no page for a VMCS";
        port_.load_vmcs(*page);
        const char* broken = nullptr;
        // Each has another value before the first is read, so that one field in another's place is seen.
        each_field([&](std::uint32_t encoding) { port_.vmwrite(encoding, pattern(encoding, 0)); });
        each_field([&](std::uint32_t encoding) {
            if (((port_.vmread(encoding) ^ pattern(encoding, 0)) & kept_bits(encoding)) != 0)
                broken = "vmread() gives another value than vmwrite() wrote";
        });
        back();
        return broken;
    }

    const char* two_vmcss() {
        const auto first = new_vmcs();
        const auto second = new_vmcs();
        if (!first || !second) return "allocate_page() has no page for a VMCS";
        const std::uint32_t rip = vmx::field::guest_rip.encoding;
        port_.load_vmcs(*first);
        port_.vmwrite(rip, 0x1111);
        port_.load_vmcs(*second);
        port_.vmwrite(rip, 0x2222);
        port_.load_vmcs(*first);
        const std::uint64_t of_first = port_.vmread(rip);
        port_.load_vmcs(*second);
        const std::uint64_t of_second = port_.vmread(rip);
        back();
        return of_first == 0x1111 && of_second == 0x2222 ? nullptr
                                                         : "load_vmcs() leaves another VMCS current";
    }

    const char* cleared_vmcs() {
        const auto page = new_vmcs();
        if (!page) return "allocate_page() has no page for a VMCS";
        const std::uint32_t rip = vmx::field::guest_rip.encoding;
        port_.load_vmcs(*page);
        port_.vmwrite(rip, 0x3333);
        port_.clear_vmcs(*page);
        port_.load_vmcs(*page);
        const std::uint64_t after = port_.vmread(rip);
        back();
        return after == 0x3333 ? nullptr : "clear_vmcs() loses what was written";
    }

    const char* revision() {
        return (port_.hardware_vmcs_revision() >> 31) == 0
                   ? nullptr
                   : "hardware_vmcs_revision() has the shadow-VMCS indicator";
    }

    const char* host_state() {
        const auto page = new_vmcs();
        if (!page) return "allocate_page() has no page for a VMCS";
        port_.load_vmcs(*page);
        const char* broken = nullptr;
        // From two states before, the same state must follow; and guest state must stay.
        std::uint64_t sums[2] = {};
        for (unsigned round = 0; round < 2; ++round) {
            each_field([&](std::uint32_t encoding) { port_.vmwrite(encoding, pattern(encoding, round)); });
            port_.write_host_state();
            each_field([&](std::uint32_t encoding) {
                const std::uint64_t before = pattern(encoding, round) & kept_bits(encoding);
                if (vmx::kind(encoding) == vmx::FieldKind::guest_state &&
                    (port_.vmread(encoding) & kept_bits(encoding)) != before)
                    broken = "write_host_state() changes guest state";
                if (vmx::kind(encoding) == vmx::FieldKind::host_state && !is_optional_host_state(encoding))
                    sums[round] = sums[round] * 31 + port_.vmread(encoding);
            });
        }
        if (broken == nullptr && sums[0] != sums[1])
            broken = "write_host_state() leaves out a host-state field";
        back();
        return broken;
    }

    const char* fresh_pages() {
        constexpr unsigned count = 4;
        x86::Hpa pages[count];
        for (unsigned index = 0; index < count; ++index) {
            const auto page = port_.allocate_page();
            if (!page) return "allocate_page() has no page";
            if (!page->is_aligned()) return "allocate_page() gives a page that is not aligned";
            if (page->value() == subject_.vmcs01.value()) return "allocate_page() gives vmcs01";
            pages[index] = *page;
            for (unsigned word = 0; word < 512; ++word) {
                if (port_.page(*page)[word] != 0) return "allocate_page() gives a page that is not zeroed";
            }
            for (unsigned word = 0; word < 512; ++word) port_.page(*page)[word] = index + 1;
        }
        for (unsigned index = 0; index < count; ++index) {
            if (port_.page(pages[index])[0] != index + 1 || port_.page(pages[index])[511] != index + 1)
                return "allocate_page() gives a page twice, or page() leads to another";
        }
        return nullptr;
    }

    // The host's pages by the addresses that an L1 with an identity map would reach them by.
    const char* own_pages() {
        const auto page = port_.allocate_page();
        if (!page) return "allocate_page() has no page";
        for (const x86::Hpa own : {*page, subject_.vmcs01, port_.l0_msr_bitmap()}) {
            const x86::Gpa<x86::L1> same{own.value()};
            const auto* words = reinterpret_cast<const std::byte*>(port_.page(own));
            if (port_.l1_page(same) == words) return "l1_page() reaches a page of the host's own";
            if (port_.host_mapping(same).address == own)
                return "host_mapping() leads to a page of the host's own";
        }
        return nullptr;
    }

    const char* l1_memory() {
        std::byte* const page = port_.l1_page(subject_.memory);
        std::byte* const other = port_.l1_page(subject_.other_memory);
        if (page == nullptr || other == nullptr) return "l1_page() is null where L1 has memory";
        if (reinterpret_cast<std::uintptr_t>(page) % 8 != 0) return "l1_page() is not aligned to a quadword";
        if (port_.l1_page(subject_.memory + 0xfff) != page)
            return "l1_page() looks at the offset in the page";
        if (page == other) return "l1_page() gives one page for two";
        const std::byte before = page[8];
        page[8] = before ^ std::byte{0xff};
        std::byte* const again = port_.l1_page(subject_.memory);
        const bool kept = again != nullptr && again[8] == (before ^ std::byte{0xff});
        page[8] = before;
        return kept ? nullptr : "l1_page() gives a copy of L1's memory";
    }

    const char* no_l1_memory() {
        const x86::Gpa<x86::L1> beyond{std::uint64_t{1} << subject_.capabilities.physical_address_width};
        for (const x86::Gpa<x86::L1> address :
             {beyond, beyond + 0xfff, x86::Gpa<x86::L1>{~std::uint64_t{0}}}) {
            if (port_.l1_page(address) != nullptr && !is_nothing(port_.l1_page(address)))
                return "l1_page() has memory beyond the physical-address width";
        }
        if (port_.l1_page(subject_.nothing) != nullptr && !is_nothing(port_.l1_page(subject_.nothing)))
            return "l1_page() has memory where L1 has none";
        if (port_.handle_ept01_violation(subject_.nothing.value()))
            return "handle_ept01_violation() promises a page where L1 has none";
        return nullptr;
    }

    const char* mappings() {
        for (const x86::Gpa<x86::L1> page : {subject_.memory, subject_.other_memory}) {
            const nested::HostMapping mapping = port_.host_mapping(page);
            if (mapping.page_shift != 12 && mapping.page_shift != 21 && mapping.page_shift != 30)
                return "host_mapping() has a page_shift that is not 12, 21 or 30";
            const std::uint64_t size = std::uint64_t{1} << mapping.page_shift;
            if (mapping.address.offset_in(size) != page.offset_in(size))
                return "host_mapping() has a block that is not aligned alike in both spaces";
            if (port_.host_mapping(page + 0x123).address != mapping.address + 0x123)
                return "host_mapping() is not of the very byte";
            const x86::Gpa<x86::L1> last = page.align_down(size) + (size - 1);
            const nested::HostMapping at_end = port_.host_mapping(last);
            if (at_end.page_shift != mapping.page_shift || at_end.memory_type != mapping.memory_type ||
                at_end.address != mapping.address.align_down(size) + (size - 1)) {
                return "host_mapping() has a block that is not all of one piece";
            }
            if (!mapping.writable) return "host_mapping() has ordinary memory of L1's read-only";
            if (subject_.page_reaches_l1_memory &&
                reinterpret_cast<std::byte*>(port_.page(mapping.address.align_down())) !=
                    port_.l1_page(page)) {
                return "host_mapping() and l1_page() lead to different pages";
            }
        }
        return nullptr;
    }

    const char* mappings_of_nothing() {
        for (const x86::Gpa<x86::L1> address :
             {subject_.nothing, subject_.nothing + 0xabc, x86::Gpa<x86::L1>{~std::uint64_t{0}}}) {
            const nested::HostMapping mapping = port_.host_mapping(address);
            if (mapping.page_shift != 12) return "host_mapping() has a large block where L1 has no memory";
            if (mapping.address.page_offset() != address.page_offset())
                return "host_mapping() is not of the very byte where L1 has no memory";
            for (const x86::Gpa<x86::L1> memory : {subject_.memory, subject_.other_memory}) {
                if (port_.host_mapping(memory).address.page_number() == mapping.address.page_number())
                    return "host_mapping() leads to L1's memory where L1 has none";
            }
        }
        return nullptr;
    }

    const char* general_registers() {
        std::uint64_t before[16] = {};
        for (unsigned number = 0; number < 16; ++number) {
            if (number == 4) continue;
            before[number] = port_.general_register(number);
            port_.general_register(number) = 0x1000 + number;
        }
        const char* broken = nullptr;
        for (unsigned number = 0; number < 16; ++number) {
            if (number == 4) continue;
            if (port_.general_register(number) != 0x1000 + number)
                broken = "general_register() gives one for another";
            port_.general_register(number) = before[number];
        }
        return broken;
    }

    const char* msrs() {
        namespace msr = x86::msr;
        for (std::uint32_t number = msr::ia32_vmx_basic; number <= msr::ia32_vmx_procbased_ctls3; ++number) {
            if (port_.read_l1_msr(number) != subject_.capabilities.promised.read_msr(number))
                return "read_l1_msr() has another VMX capability than L1 was promised";
            if (port_.write_l1_msr(number, 0)) return "write_l1_msr() takes a VMX capability";
        }
        const auto control = port_.read_l1_msr(msr::ia32_feature_control);
        constexpr std::uint64_t locked_and_on = 5;
        if (!control || (*control & locked_and_on) != locked_and_on)
            return "read_l1_msr() has IA32_FEATURE_CONTROL not locked, or with VMXON off";
        if (port_.write_l1_msr(msr::ia32_feature_control, 0))
            return "write_l1_msr() takes IA32_FEATURE_CONTROL";
        // SDM 4 has no MSR there: 4000_0000H to 4000_00FFH are left to hypervisors, 4FFF_FFFFH to nobody.
        if (port_.read_l1_msr(0x4fff'ffff) || port_.write_l1_msr(0x4fff'ffff, 0))
            return "an MSR that is nowhere is not #GP(0)";
        if (port_.write_l1_msr(msr::ia32_debugctl, ~std::uint64_t{0}))
            return "write_l1_msr() takes reserved bits of IA32_DEBUGCTL";
        return nullptr;
    }

    const char* msr_bitmap() {
        namespace msr = x86::msr;
        const x86::Hpa bitmap = port_.l0_msr_bitmap();
        if (!bitmap.is_aligned()) return "l0_msr_bitmap() is not aligned";
        if (bitmap != port_.l0_msr_bitmap()) return "l0_msr_bitmap() is another each time";
        const std::uint64_t* words = port_.page(bitmap);
        unsigned used = 0;
        for (unsigned word = 0; word < 512; ++word) used += words[word] != 0 ? 1U : 0U;
        if (used > 64) return "l0_msr_bitmap() intercepts in more than 64 quadwords";
        const auto intercepts = [&](std::uint32_t number, bool write) {
            const std::uint32_t bit =
                (write ? 0x4000U : 0U) + (number >= 0xc000'0000 ? 0x2000U : 0U) + (number & 0x1fff);
            return (words[bit / 64] >> bit % 64 & 1) != 0;
        };
        for (std::uint32_t number = msr::ia32_vmx_basic; number <= msr::ia32_vmx_procbased_ctls3; ++number) {
            if (!intercepts(number, false))
                return "l0_msr_bitmap() lets L1 read the processor's VMX capabilities";
        }
        for (const std::uint32_t number : {msr::ia32_efer, msr::ia32_pat, msr::ia32_sysenter_cs,
                                           msr::ia32_sysenter_esp, msr::ia32_sysenter_eip}) {
            if (!intercepts(number, true)) return "l0_msr_bitmap() lets L1 write an MSR that lives in vmcs01";
        }
        return nullptr;
    }

    const char* ept01() {
        if (port_.ept01_pointer() != port_.ept01_pointer()) return "ept01_pointer() is another each time";
        const std::uint64_t pointer = port_.ept01_pointer().value;
        if ((pointer & 7) != 6) return "ept01_pointer() is not write-back";
        if ((pointer >> 3 & 7) != 3) return "ept01_pointer() is not of a walk of four levels";
        if ((pointer >> subject_.capabilities.physical_address_width) != 0 || (pointer & 0xf00) != 0)
            return "ept01_pointer() has a reserved bit";
        return nullptr;
    }

    const char* invalidations() {
        // VMfail is the port's to stop at: these come back, or do not.
        if (ept01() == nullptr) port_.invept(vmx::InveptType::single_context, port_.ept01_pointer());
        if (subject_.vpid01 != tag::TagNumber::none) {
            invvpid(vmx::InvvpidType::individual_address, 0x7000);
            invvpid(vmx::InvvpidType::single_context, 0);
        }
        return nullptr;
    }

    const char* processor() {
        return port_.cpu() == port_.cpu() ? nullptr : "cpu() changes while the engine runs";
    }

    const char* vmcs01() {
        namespace field = vmx::field;
        const auto has = [&](auto what, std::uint32_t bits) { return (get(what) & bits) == bits; };
        if (get(field::ept_pointer) != port_.ept01_pointer().value)
            return "vmcs01 has another EPT pointer than ept01_pointer()";
        // Or a page of its own that says the same at first: what a host opens there later is L1's, and none
        // of its guests'.
        const x86::Hpa bitmap{get(field::address_of_msr_bitmaps)};
        if (bitmap != port_.l0_msr_bitmap()) {
            const std::uint64_t* const own = port_.page(bitmap);
            const std::uint64_t* const l0s = port_.page(port_.l0_msr_bitmap());
            for (unsigned word = 0; word < 512; ++word) {
                if (own[word] != l0s[word]) return "vmcs01 has another MSR bitmap than l0_msr_bitmap()";
            }
        }
        if (!has(field::primary_processor_based_vm_execution_controls,
                 vmx::primary::use_msr_bitmaps | vmx::primary::activate_secondary_controls) ||
            !has(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_ept)) {
            return "vmcs01 lacks MSR bitmaps, secondary controls or EPT";
        }
        if (has(field::secondary_processor_based_vm_execution_controls, vmx::secondary::enable_vpid) !=
                (subject_.vpid01 != tag::TagNumber::none) ||
            (subject_.vpid01 != tag::TagNumber::none &&
             get(field::virtual_processor_identifier) != tag::raw(subject_.vpid01))) {
            return "vmcs01 has another tag than vpid01()";
        }
        namespace exit = vmx::exit_control;
        if (!has(field::vm_exit_controls, exit::host_address_space_size | exit::save_debug_controls |
                                              exit::save_ia32_pat | exit::load_ia32_pat |
                                              exit::save_ia32_efer | exit::load_ia32_efer)) {
            return "vmcs01 does not save and load EFER, PAT and the debug controls at exits";
        }
        namespace entry = vmx::entry_control;
        if (!has(field::vm_entry_controls,
                 entry::load_debug_controls | entry::load_ia32_pat | entry::load_ia32_efer)) {
            return "vmcs01 does not load EFER, PAT and the debug controls at entries";
        }
        if ((get(field::cr0_guest_host_mask) & x86::cr0::numeric_error) == 0 ||
            (get(field::guest_cr0) & x86::cr0::numeric_error) == 0) {
            return "vmcs01 leaves CR0.NE to L1";
        }
        const std::uint64_t masked = x86::cr4::vmx_enable | subject_.capabilities.unpromised_cr4;
        if ((get(field::cr4_guest_host_mask) & masked) != masked)
            return "vmcs01 leaves CR4.VMXE, or a bit of CR4 that L1 was not promised, to L1";
        if ((get(field::guest_cr4) & x86::cr4::vmx_enable) == 0) return "vmcs01 has CR4.VMXE clear";
        return nullptr;
    }

private:
    template <typename Field>
    std::uint64_t get(Field field) {
        return port_.vmread(field.encoding);
    }
    void back() { port_.load_vmcs(subject_.vmcs01); }
    template <typename Type>
    void invvpid(Type type, std::uint64_t address) {
        port_.invvpid(type, subject_.vpid01, x86::LinearAddress{address});
    }

    std::optional<x86::Hpa> new_vmcs() {
        const auto page = port_.allocate_page();
        if (!page) return page;
        *reinterpret_cast<std::uint32_t*>(port_.page(*page)) = port_.hardware_vmcs_revision();
        port_.clear_vmcs(*page);
        return page;
    }

    // Fields that software writes, of those that the processor has.
    template <typename Visit>
    void each_field(Visit&& visit) {
        subject_.capabilities.hardware_fields.for_each([&](std::size_t index) {
            const std::uint32_t encoding = vmx::all_fields[index].encoding;
            if (vmx::kind(encoding) != vmx::FieldKind::exit_information) visit(encoding);
        });
    }
    // Of host state, what a host that does not use it leaves alone.
    static bool is_optional_host_state(std::uint32_t encoding) {
        return vmx::width(encoding) == vmx::FieldWidth::bits64
                   ? encoding > vmx::field::host_ia32_efer.encoding
                   : encoding > vmx::field::host_rip.encoding;
    }
    static std::uint64_t pattern(std::uint32_t encoding, unsigned round) {
        return encoding * 0x9e37'79b9'7f4a'7c15ULL + round * 0x0101'0101'0101'0101ULL;
    }
    // What of it a processor keeps. Of access rights some do not keep the reserved bits.
    static std::uint64_t kept_bits(std::uint32_t encoding) {
        if (encoding >= vmx::field::guest_es_access_rights.encoding &&
            encoding <= vmx::field::guest_tr_access_rights.encoding) {
            return 0x1f0ff;
        }
        switch (vmx::width(encoding)) {
            case vmx::FieldWidth::bits16:
                return 0xffff;
            case vmx::FieldWidth::bits32:
                return 0xffff'ffff;
            default:
                return ~std::uint64_t{0};
        }
    }
    // What stands for no memory in a port without null: a page of ones.
    static bool is_nothing(const std::byte* page) {
        for (std::size_t index = 0; index < x86::page_size; ++index)
            if (page[index] != std::byte{0xff}) return false;
        return true;
    }

    P& port_;
    const Subject& subject_;
};

}  // namespace detail

// Tells `report` of each guarantee in turn: its name, and null where it holds, else how it is broken. False:
// one is.
template <nested::Port P, typename Report>
[[nodiscard]] bool run(P& port, const Subject& subject, Report&& report) {
    using Tests = detail::Tests<P>;
    struct Guarantee {
        const char* name;
        const char* (Tests::*holds)();
    };
    static constexpr Guarantee guarantees[] = {
        {"vmwrite and vmread reach every field that the processor has", &Tests::fields},
        {"load_vmcs makes the VMCS current", &Tests::two_vmcss},
        {"clear_vmcs keeps what was written", &Tests::cleared_vmcs},
        {"hardware_vmcs_revision is an ordinary VMCS's", &Tests::revision},
        {"write_host_state writes all host state and no guest state", &Tests::host_state},
        {"allocate_page gives zeroed pages, each once", &Tests::fresh_pages},
        {"L1 reaches no page of the host's", &Tests::own_pages},
        {"l1_page is L1's memory itself", &Tests::l1_memory},
        {"l1_page has nothing where L1 has no memory", &Tests::no_l1_memory},
        {"host_mapping is of the very byte, in whole blocks", &Tests::mappings},
        {"host_mapping is total", &Tests::mappings_of_nothing},
        {"general_register has one place for each", &Tests::general_registers},
        {"L1's MSRs are as promised", &Tests::msrs},
        {"l0_msr_bitmap has what the engine must know of", &Tests::msr_bitmap},
        {"ept01_pointer is one that VM entry takes", &Tests::ept01},
        {"invvpid and invept come back", &Tests::invalidations},
        {"cpu is one processor", &Tests::processor},
        {"vmcs01 is as the engine needs it", &Tests::vmcs01},
    };
    Tests tests{port, subject};
    bool good = true;
    for (const Guarantee& guarantee : guarantees) {
        const char* broken = (tests.*guarantee.holds)();
        report(guarantee.name, broken);
        good = good && broken == nullptr;
    }
    return good;
}

}  // namespace flatback::port_tests
