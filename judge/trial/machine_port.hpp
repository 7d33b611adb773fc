#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "host/msr_bitmap.hpp"
#include "judge/trial/defect.hpp"
#include "judge/trial/l1_space.hpp"
#include "machine/cpu/machine.hpp"
#include "metal/memory/copied_pages.hpp"
#include "nested/capabilities.hpp"
#include "nested/port.hpp"

namespace flatback::machine {

/// The engine under trial stopped, or did what a processor answers with an error: always a bug of L0's.
class EngineFailure : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

/// The same where it must: a virtual CPU is shut down, as a processor is by a triple fault.
class L1Shutdown : public EngineFailure {
public:
    explicit L1Shutdown(const char* why) : EngineFailure(std::string("L1 is shut down: ") + why) {}
};

class MachinePort;

/// What all virtual CPUs of an L0 share.
struct L0Host {
    Machine& machine;
    L0Pages& pages;
    const nested::Capabilities& capabilities;
    std::uint64_t msr_bitmap;
    std::uint64_t nothing;     // the page that EPT01 has where L1 has no memory
    Defect* defect = nullptr;  // only in tests
    bool record_flushes = false;
    std::vector<HardwareFlush> flushes{};
    // With several processors, and where the trial wants it: pages of L1's that L0 uses copies of.
    bool keeps_pages = false;
    metal::CopiedPages kept{};
    std::vector<MachinePort*> ports{};  // of the virtual CPUs, by the number that each has for `kept`
};

/// What the software machine gives the engine (nested/port.hpp). L0 is a C++ program in VMX root operation of
/// the machine's processors: its VMX instructions are the machine's.
class MachinePort final {
public:
    MachinePort(L0Host& host, L1Space& space, LocalApic& apic, unsigned processor)
        : host_(host), space_(space), apic_(apic), processor_(processor) {}
    ~MachinePort() { leave_kept_pages(); }
    MachinePort(const MachinePort&) = delete;
    MachinePort& operator=(const MachinePort&) = delete;

    // --- nested::Port
    std::uint64_t vmread(std::uint32_t encoding);
    void vmwrite(std::uint32_t encoding, std::uint64_t value);
    void load_vmcs(x86::Hpa page);
    void clear_vmcs(x86::Hpa page);
    std::uint32_t hardware_vmcs_revision() { return host_.machine.model().vmx.revision(); }
    void write_host_state();
    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address,
                 tag::FlushCause cause = tag::FlushCause::unknown, tag::Vpid12 vpid12 = tag::Vpid12::none);
    void invept(vmx::InveptType type, vmx::Eptp eptp, tag::FlushCause cause = tag::FlushCause::unknown);
    std::byte* l1_page(x86::Gpa<x86::L1> address);
    bool unwritten_since_last_asked(x86::Gpa<x86::L1> page);
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address);
    std::optional<x86::Hpa> allocate_page();
    std::uint64_t* page(x86::Hpa address) { return host_.machine.memory().direct_page(address.value()); }
    std::uint64_t& general_register(unsigned number) { return registers().general[number]; }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr);
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value);
    x86::Hpa l0_msr_bitmap() { return x86::Hpa{host_.msr_bitmap}; }
    vmx::Eptp ept01_pointer() { return vmx::Eptp{space_.ept01_pointer()}; }
    void set_cr2(std::uint64_t value) { registers().cr2 = value; }
    bool handle_ept01_violation(std::uint64_t) { return false; }
    void return_nmi() { nmi_returned_ = host_.defect == nullptr || host_.defect->takes_nmi_back(); }
    std::uint8_t acknowledge_interrupt() { return apic_.acknowledge(); }
    void return_interrupt(std::uint8_t vector);
    [[noreturn]] void l1_shutdown(const char* why) { throw L1Shutdown(why); }
    [[noreturn]] void fatal(const char* why) {
        throw EngineFailure(std::string("the engine stopped: ") + why);
    }
    tag::Cpu cpu() {
        return tag::Cpu{host_.defect != nullptr ? host_.defect->processor(processor_) : processor_};
    }

    std::uint64_t time_stamp_counter() {
        const std::uint64_t now = host_.machine.tsc();
        return host_.defect != nullptr ? host_.defect->time_stamp_counter(now) : now;
    }

    // --- host/msrs.hpp
    [[nodiscard]] const vmx::Capabilities* promise() const { return &host_.capabilities.promised; }
    [[nodiscard]] host::MsrBitmap msr_bitmap() {
        return host::MsrBitmap{host_.machine.memory().direct_page(host_.msr_bitmap)};
    }
    [[nodiscard]] std::optional<std::uint64_t> read_processor_msr(std::uint32_t msr);
    [[nodiscard]] bool write_processor_msr(std::uint32_t msr, std::uint64_t value);
    [[nodiscard]] bool takes_debugctl(std::uint64_t value) const;

    // --- the host's own
    [[nodiscard]] unsigned processor() const { return processor_; }
    /// The VMCS that the guest runs under, and is entered by again.
    [[nodiscard]] x86::Hpa current() const { return current_; }
    /// Leaves the processor: every VMCS that is active there is cleared.
    void move_to(unsigned processor);
    void set_vmcs01(x86::Hpa page) { vmcs01_ = page; }
    /// VMLAUNCH or VMRESUME, as the VMCS needs it; the engine's word is checked where the VMCS was not moved.
    Completion enter(bool engine_says_launch);
    void run(const HardwareFlush& flush);
    /// A VMCS for L2s of this virtual CPU's, or vmcs01 too, is active on some processor.
    [[nodiscard]] bool leaves_vmcs_active(bool vmcs01_too = false) const;
    /// The engine has given back the NMI since the last question.
    [[nodiscard]] bool take_returned_nmi() { return std::exchange(nmi_returned_, false); }
    /// ... or an external interrupt, which is in the local APIC again.
    [[nodiscard]] bool take_returned_interrupt() { return std::exchange(interrupt_returned_, false); }

    // Kept pages, as metal/memory/written_pages.hpp has them. A page is closed for one virtual CPU of L1's
    // while its writes there are exits.
    /// This is one of those that share L0Host::kept; its engine is told of each page that it closes.
    void share_kept_pages(std::function<void(const std::byte* page)> closed,
                          std::function<std::uint64_t()> writes_of_l0);
    void leave_kept_pages();
    /// Before an entry: what others have asked for.
    void answer_close_requests();
    /// L1 is about to write: true: that is an exit, behind which it may.
    [[nodiscard]] bool let_write(std::uint64_t l1_physical);
    /// How often a copy was taken for current.
    [[nodiscard]] std::uint64_t copies_taken_for_current() const { return taken_for_current_; }

private:
    [[nodiscard]] x86::Hpa used_for(x86::Hpa page) const;
    void check_use_of_vmcss() const;
    struct Kept {
        bool kept = false;
        std::uint64_t writes = 0;
    };
    [[nodiscard]] std::uint64_t writes_elsewhere() const;
    [[nodiscard]] bool keep_everywhere(std::uint64_t page);
    void ask_to_close();
    void close_kept_pages();
    void note_closed(const metal::CopiedPages::List& pages);

    [[nodiscard]] Registers& registers() { return host_.machine.cpu(processor_).registers; }
    void flush(const HardwareFlush& flush);
    [[nodiscard]] bool current_is_shadow();

    L0Host& host_;
    L1Space& space_;
    LocalApic& apic_;  // L1's
    unsigned processor_;
    x86::Hpa current_{};
    x86::Hpa vmcs01_{};
    bool nmi_returned_ = false;
    bool interrupt_returned_ = false;
    std::set<std::uint64_t> active_;   // VMCSs that were loaded
    std::set<std::uint64_t> known_;    // the same, ever
    std::set<std::uint64_t> cleared_;  // of these, what a move cleared and nothing has launched since
    std::optional<unsigned> number_;   // among those that share kept pages
    std::function<void(const std::byte*)> tell_of_closed_;
    std::function<std::uint64_t()> writes_of_l0_;
    std::set<std::uint64_t> closed_;  // pages
    std::map<std::uint64_t, Kept> asked_of_;
    bool asked_to_close_ = false;
    std::uint64_t taken_for_current_ = 0;
};

static_assert(nested::Port<MachinePort>);

}  // namespace flatback::machine
