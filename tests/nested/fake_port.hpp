// The engine's host in these tests: a processor's VMCSs, an invalidation log, L1's memory and L0's pages.
// Misuse that real hardware would answer with VMfail, or with silence, fails the test.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "nested/port.hpp"
#include "tests/nested/fake_vmcs.hpp"
#include "tests/nested/l1_memory.hpp"
#include "vmx/exit_qualification.hpp"

namespace flatback::nested {
enum class Notice : std::uint8_t;
}

namespace flatback::nested_test {

struct FatalError : std::runtime_error {
    using std::runtime_error::runtime_error;
};
struct L1Shutdown : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// An INVVPID or INVEPT that the engine executed.
struct Flush {
    enum class Kind : std::uint8_t { invvpid, invept };
    Kind kind = Kind::invvpid;
    std::uint64_t type = 0;
    std::uint16_t tag = 0;      // INVVPID
    std::uint64_t operand = 0;  // INVVPID type 0: the linear address. INVEPT: the EPTP
    unsigned cpu = 0;

    friend bool operator==(const Flush&, const Flush&) = default;
};
void PrintTo(const Flush& flush, std::ostream* out);

// INVVPIDs to compare with.
[[nodiscard]] inline Flush address_of_tag(std::uint16_t tag, std::uint64_t address, unsigned cpu = 0) {
    return {Flush::Kind::invvpid, 0, tag, address, cpu};
}
[[nodiscard]] inline Flush whole_tag(std::uint16_t tag, unsigned cpu = 0) {
    return {Flush::Kind::invvpid, 1, tag, 0, cpu};
}
[[nodiscard]] inline Flush tag_but_globals(std::uint16_t tag, unsigned cpu = 0) {
    return {Flush::Kind::invvpid, 3, tag, 0, cpu};
}

class FakePort final {
public:
    // L1-physical and host-physical addresses differ by this, so that one mistaken for the other is noticed.
    static constexpr std::uint64_t host_offset = 0x40'0000'0000;
    // Where L0's own pages are given from.
    static constexpr std::uint64_t l0_pages_start = 0x20'0000'0000;
    static constexpr std::uint32_t revision = 0x2b;
    static constexpr std::uint64_t ept01 = l0_pages_start - 0x1000 + 0x5e;

    FakePort();
    FakePort(const FakePort&) = delete;
    FakePort& operator=(const FakePort&) = delete;

    // --- the Port concept
    std::uint64_t vmread(std::uint32_t encoding);
    void vmwrite(std::uint32_t encoding, std::uint64_t value);
    std::uint64_t vmread_in_row(std::uint32_t encoding) {
        look_in_row(encoding);
        return vmread(encoding);
    }
    void vmwrite_in_row(std::uint32_t encoding, std::uint64_t value) {
        look_in_row(encoding);
        vmwrite(encoding, value);
    }
    void load_vmcs(x86::Hpa page);
    void clear_vmcs(x86::Hpa page);
    std::uint32_t hardware_vmcs_revision() { return revision; }
    void write_host_state();
    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address);
    void invept(vmx::InveptType type, vmx::Eptp eptp);
    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        if (memory.before_read) memory.before_read(address.value());
        return memory.page(address.value());
    }
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address);
    bool unwritten_since_last_asked(x86::Gpa<x86::L1> page) { return !memory.take_written(page.value()); }
    std::optional<x86::Hpa> allocate_page();
    std::uint64_t* page(x86::Hpa address);
    std::uint64_t& general_register(unsigned number);
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr);
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value);
    x86::Hpa l0_msr_bitmap() { return l0_msr_bitmap_; }
    x86::Hpa l0_io_bitmap(unsigned half) { return l0_io_bitmaps_.at(half); }
    bool handle_io() {
        ++io_handled;
        return io_is_done;
    }
    std::uint32_t input(vmx::IoAccess access);
    void output(vmx::IoAccess access, std::uint32_t value);
    bool keep_unwritten(x86::Gpa<x86::L1> page) {
        if (notices_writes) memory.keep_unwritten(page.value());
        return notices_writes;
    }
    vmx::Eptp ept01_pointer() { return {ept01}; }
    void set_cr2(std::uint64_t value) { cr2 = value; }
    bool handle_ept01_violation(std::uint64_t guest_physical);
    bool let_write_vanish() {
        ++writes_let_through;
        return lets_writes_vanish;
    }
    nested::HostMapping page_for_write(x86::Gpa<x86::L1> address) {
        nested::HostMapping page = host_mapping(address);
        if (writes_land_at) page.address = x86::Hpa{host_of(*writes_land_at)};
        return page;
    }
    bool take_ept01_change() { return std::exchange(ept01_changed, false); }
    void return_nmi() { nmi_pending = true; }
    void return_machine_check() { machine_check_pending = true; }
    void return_interrupt(std::uint8_t vector) { interrupts_returned.push_back(vector); }
    void end_interrupt(std::uint8_t vector) {
        interrupts_ended.push_back(vector);
        if (at_end_of_interrupt) at_end_of_interrupt();
    }
    std::uint8_t acknowledge_interrupt() {
        ++interrupts_acknowledged;
        return acknowledged_vector;
    }
    void l1_shutdown(const char* why);
    [[noreturn]] void fatal(const char* why);
    std::uint64_t time_stamp_counter() const { return tsc; }
    tag::Cpu cpu() const { return tag::Cpu{physical_cpu}; }
    std::uint64_t debug_address(unsigned number) const { return debug_addresses.at(number); }
    std::uint32_t protection_key_rights() const { return pkru; }
    void notice(nested::Notice what, std::uint64_t detail) { notices.emplace_back(what, detail); }

    // --- for the tests
    // The VMCSs that are active on a processor, by this port's loads and clears.
    [[nodiscard]] const std::set<std::uint64_t>& active() const { return active_; }
    void keep_port(std::uint16_t number);  // for the host; before the engine looks
    [[nodiscard]] FakeVmcs& vmcs(x86::Hpa page) { return vmcss_.at(page.value()); }
    [[nodiscard]] FakeVmcs& current_vmcs();
    [[nodiscard]] x86::Hpa current() const { return current_; }
    [[nodiscard]] bool has_page(std::uint64_t address) const { return pages_.contains(address & ~0xfffULL); }
    [[nodiscard]] bool is_all_ones(std::uint64_t address) const;
    [[nodiscard]] std::size_t pages_given() const { return pages_.size(); }
    [[nodiscard]] static std::uint64_t host_of(std::uint64_t l1_physical) {
        return l1_physical + host_offset;
    }
    void forget_writes() {
        for (auto& [page, vmcs] : vmcss_) vmcs.writes.clear();
    }

    [[nodiscard]] bool processor_has(std::uint32_t encoding) const;

    std::uint64_t vmreads = 0;  // executed, and of these and the next ...
    std::uint64_t vmwrites = 0;
    std::uint64_t accesses_in_row = 0;       // ... those that the engine knows not to fail
    std::set<std::uint32_t> lacking_fields;  // of this processor, that others have
    std::set<std::uint32_t> further_fields;  // of this processor, that others lack
    std::uint64_t cr3_masking_bits = 0;      // that this processor has
    L1Memory memory;
    std::array<std::uint64_t, 16> registers{};
    std::map<std::uint32_t, std::uint64_t> msrs;
    std::vector<Flush> flushes;
    std::vector<std::pair<nested::Notice, std::uint64_t>> notices;
    std::vector<std::uint64_t> ept01_violations;
    std::uint64_t cr2 = 0;
    std::array<std::uint64_t, 4> debug_addresses{};  // L1's DR0 to DR3
    std::uint32_t pkru = 0;
    unsigned physical_cpu = 0;
    std::uint64_t tsc = 0;
    std::size_t page_limit = 100'000;
    std::size_t pages_looked_at = 0;  // how often page() was called: work that a guest makes L0 do
    unsigned block_shift = 30;        // the largest block of L1's memory that EPT01 maps in one piece
    std::uint64_t moved_by = 0;       // EPT01 has all of L1's memory so much further up
    bool ept01_changed = false;       // by the next write of IA32_APIC_BASE
    // Nothing but a state that is restored needs it: IA32_VMX_MISC[29] and a reason.
    bool takes_exit_information = false;
    bool takes_shadow_vmcss = true;
    bool ept01_grants = true;                       // handle_ept01_violation's answer
    std::vector<std::uint64_t> host_state_written;  // in which VMCSs
    bool nmi_pending = false;                       // as the host has it
    bool machine_check_pending = false;
    std::vector<std::uint8_t> interrupts_returned;
    std::vector<std::uint8_t> interrupts_ended;
    std::function<void()> at_end_of_interrupt;
    std::uint8_t acknowledged_vector = 0;  // acknowledge_interrupt()'s answer
    unsigned interrupts_acknowledged = 0;
    bool lets_writes_vanish = true;  // let_write_vanish()'s answer
    unsigned writes_let_through = 0;
    std::optional<std::uint64_t> writes_land_at;  // page_for_write()'s answer, if not host_mapping()'s
    std::set<std::uint16_t> kept_ports;
    bool notices_writes = true;  // keep_unwritten()'s answer
    bool io_is_done = true;      // handle_io()'s answer
    unsigned io_handled = 0;
    std::vector<std::uint32_t> inputs;  // of the ports that are kept, in order; nothing is left: 0
    std::vector<std::pair<std::uint16_t, std::uint32_t>> outputs;
    bool shutdown_returns = false;
    unsigned shutdowns = 0;
    // L1-physical ranges that EPT01 maps otherwise.
    struct Special {
        std::uint64_t start;
        std::uint64_t size;
        x86::MemoryType memory_type;
        bool writable;
        bool readable = true;
    };
    std::vector<Special> specials;

private:
    void look_in_row(std::uint32_t encoding);
    std::map<std::uint64_t, std::unique_ptr<std::array<std::uint64_t, 512>>> pages_;
    std::map<std::uint64_t, FakeVmcs> vmcss_;
    x86::Hpa current_{};
    std::set<std::uint64_t> active_;
    x86::Hpa l0_msr_bitmap_{};
    std::array<x86::Hpa, 2> l0_io_bitmaps_{};
    x86::Hpa nothing_{};  // what EPT01 has where L1 has no memory
};

// What write_host_state() writes for a field, and what every vmcs02 must hold when it is entered.
[[nodiscard]] std::uint64_t l0_host_state(std::uint32_t encoding);

}  // namespace flatback::nested_test
