// Step 1: a Port, which is all that the engine knows of its host. Here the processor is the software machine
// and this program is its hypervisor; on real VT-x vmread() is the instruction and page() an address in the
// direct map. What each function promises is in docs/porting.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <flatback/host/msr_bitmap.hpp>
#include <flatback/machine/cpu/machine.hpp>
#include <flatback/nested/capabilities.hpp>
#include <flatback/nested/pending_events.hpp>
#include <flatback/nested/port.hpp>
#include <optional>

namespace minimal_host {

namespace machine = flatback::machine;
namespace nested = flatback::nested;
namespace tag = flatback::tag;
namespace vmx = flatback::vmx;
namespace x86 = flatback::x86;

// In the machine's memory. L1's 16 MB lie elsewhere than L1 knows them, so that an L1-physical address that
// is taken for a host-physical one is noticed.
inline constexpr std::uint64_t l0_pages = 0x10'0000;
inline constexpr std::uint64_t l1_memory = 0x4000'0000;
inline constexpr std::uint64_t l1_memory_size = 16 << 20;

class Port {
public:
    Port(machine::Machine& processor, const nested::Capabilities& promised);

    // The VMCS that is current on this processor.
    std::uint64_t vmread(std::uint32_t encoding) { return current().read(encoding); }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) { current().write(encoding, value); }
    void load_vmcs(x86::Hpa page);
    void clear_vmcs(x86::Hpa page);
    std::uint32_t hardware_vmcs_revision() { return processor_.model().vmx.revision(); }
    void write_host_state();

    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address);
    void invept(vmx::InveptType type, vmx::Eptp eptp);

    // L1's memory, as this program and as EPT01 reach it.
    std::byte* l1_page(x86::Gpa<x86::L1> address);
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address);
    vmx::Eptp ept01_pointer() { return vmx::Eptp::make(ept01_, x86::MemoryType::write_back, false); }
    // EPT01 has all of L1's memory from the start: what is not there now never will be.
    bool handle_ept01_violation(std::uint64_t) { return false; }

    // L0's own memory.
    std::optional<x86::Hpa> allocate_page();
    std::uint64_t* page(x86::Hpa address) { return processor_.memory().direct_page(address.value()); }

    // L1's registers that no VMCS holds.
    std::uint64_t& general_register(unsigned number) { return processor_.cpu(0).registers.general[number]; }
    void set_cr2(std::uint64_t value) { processor_.cpu(0).registers.cr2 = value; }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr);
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value);
    x86::Hpa l0_msr_bitmap() { return msr_bitmap_; }

    // What came for L1, or for whichever of its guests L1 lets have it, and was not taken yet. An entry that
    // fails gives back what it was to deliver.
    nested::PendingEvents events;
    void return_nmi() { events.add(nested::Event::nmi()); }
    void return_interrupt(std::uint8_t vector) { events.add(nested::Event::interrupt(vector)); }
    [[noreturn]] void l1_shutdown(const char* why);
    [[noreturn]] void fatal(const char* why);
    tag::Cpu cpu() { return tag::Cpu{0}; }

    // For flatback/host/msrs.hpp: L1's MSRs that this host gives it beside those. Here there are none.
    const vmx::Capabilities* promise() const { return &promised_.promised; }
    flatback::host::MsrBitmap msr_bitmap() { return flatback::host::MsrBitmap{page(msr_bitmap_)}; }
    static std::optional<std::uint64_t> read_processor_msr(std::uint32_t) { return std::nullopt; }
    static bool write_processor_msr(std::uint32_t, std::uint64_t) { return false; }
    static bool takes_debugctl(std::uint64_t value) { return value == 0; }

private:
    machine::Vmcs& current() { return *processor_.current_vmcs(0); }
    void make_ept01();

    machine::Machine& processor_;
    const nested::Capabilities& promised_;
    std::uint64_t next_page_ = l0_pages;
    std::uint64_t ept01_ = 0;
    x86::Hpa nothing_{};  // what L1 finds where it has no memory
    x86::Hpa msr_bitmap_{};
};

static_assert(nested::Port<Port>);

}  // namespace minimal_host
