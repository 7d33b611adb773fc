#include "metal/l0/second_port.hpp"

#include "host/msrs.hpp"
#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/panic.hpp"
#include "metal/l0/turn_requests.hpp"
#include "metal/memory/page_pool.hpp"

namespace flatback::metal {

namespace {

constexpr std::uint32_t tsc_number = 0x10;
// Of a bootstrap processor whose local APIC is disabled, for good: there is none.
constexpr std::uint64_t apic_base = 0xfee0'0100;
// The MSRs that a guest may have by itself begin behind these: machine checks, performance, the APIC, power.
// The few among them that the second VM has are L0's to answer.
constexpr std::uint32_t last_kept = 0x4bf;
constexpr std::uint32_t first_kept_of_power = 0x600;  // and the deadline of the APIC's timer
constexpr std::uint32_t last_kept_of_power = 0x6ff;

}  // namespace

SecondPort::SecondPort(GuestRegisters& registers, BootResult& boot, SecondMemory& memory)
    : registers_(registers),
      boot_(boot),
      memory_(memory),
      memory_type_registers_(try_read_msr(x86::msr::ia32_mtrrcap).value_or(0),
                             boot.processor.physical_address_width) {
    msr_bitmap_ = physical_of(boot.pages->allocate_page_or_panic("the MSR bitmap of the second VM"));
    host::fill_msr_bitmap(msr_bitmap());
    // RDMSR of the counter has both offsets (SDM 3C 26.3).
    msr_bitmap().intercept_all(0, tsc_number - 1);
    msr_bitmap().intercept(tsc_number, host::MsrBitmap::Access::write);
    msr_bitmap().intercept_all(tsc_number + 1, last_kept);
    msr_bitmap().intercept_all(first_kept_of_power, last_kept_of_power);
}

nested::HostMapping SecondPort::host_mapping(x86::Gpa<x86::L1> address) {
    if (!memory_.contains(address.value()))
        return {memory_.nothing() + address.page_offset(), 12, x86::MemoryType::write_back, true};
    return {memory_.at(address.value()), 21, x86::MemoryType::write_back, true};
}

std::optional<x86::Hpa> SecondPort::allocate_page() {
    void* fresh = boot_.pages->allocate_page();
    if (fresh == nullptr) return std::nullopt;
    return physical_of(fresh);
}

std::optional<std::uint64_t> SecondPort::read_l1_msr(std::uint32_t msr) {
    return host::read_msr(*this, msr);
}
bool SecondPort::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    return host::write_msr(*this, msr, value);
}

// host/msrs.hpp has answered what it knows.
std::optional<std::uint64_t> SecondPort::read_processor_msr(std::uint32_t msr) const {
    if (msr == tsc_number) return read_tsc() + tsc_offset_;
    if (msr == x86::msr::ia32_apic_base) return apic_base;
    if (msr > last_kept && (msr < first_kept_of_power || msr > last_kept_of_power)) return try_read_msr(msr);
    if (msr == x86::msr::ia32_misc_enable || host::MemoryTypeRegisters::may_contain(msr) ||
        msr == x86::msr::ia32_mtrrcap)
        return try_read_msr(msr);
    return std::nullopt;
}
bool SecondPort::write_processor_msr(std::uint32_t msr, std::uint64_t value) {
    if (msr == tsc_number) {
        tsc_offset_ = value - read_tsc();
        second_tsc_changed();
        return true;
    }
    if (msr == x86::msr::ia32_apic_base) return value == apic_base;
    if (msr > last_kept && (msr < first_kept_of_power || msr > last_kept_of_power))
        return try_write_msr(msr, value);
    return false;
}

void SecondPort::return_nmi() {
    set_nmi_state(nmi_state::came);
    unblock_nmis();
}

void SecondPort::l1_shutdown(const char* why) {
    end_second_vm(why);
}

void SecondPort::fatal(const char* why) {
    panic("the engine of the second VM stopped: ", why);
}

}  // namespace flatback::metal
