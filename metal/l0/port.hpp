// What real VT-x gives the engine (nested/port.hpp).
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "host/local_apic.hpp"
#include "host/memory_type_registers.hpp"
#include "host/msr_bitmap.hpp"
#include "host/xapic_over_x2apic.hpp"
#include "metal/boot/boot_result.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/ground/vmx_instructions.hpp"
#include "metal/l0/flush_recorder.hpp"
#include "metal/l0/kept_pages.hpp"
#include "metal/memory/address_space.hpp"
#include "metal/memory/ept01.hpp"
#include "metal/memory/written_pages.hpp"
#include "nested/entry/checks_table.hpp"
#include "nested/entry/msr_list.hpp"
#include "nested/notice.hpp"
#include "nested/pending_events.hpp"
#include "nested/port.hpp"
#include "nested/vmcs/vmcs12.hpp"

namespace flatback::metal {

// The guest's general registers as metal/l0/entry.S saves them, in the order of their numbers. RSP is in the
// VMCS.
struct GuestRegisters {
    std::uint64_t by_number[16];
};

// Every host-state field of the current VMCS, for a guest whose registers are saved there.
void put_host_state(GuestRegisters& registers);
// The guest's DR0 to DR3 and PKRU: neither VM exits nor L0 change them.
[[nodiscard]] std::uint64_t read_debug_address(unsigned number);
[[nodiscard]] std::uint32_t read_protection_key_rights();

// What this processor's WrittenPages wants of the others; nothing where there are none
// (metal/l0/copied_pages_of_l1.cpp).
[[nodiscard]] std::optional<OtherProcessors> other_processors();

// L1's view of the APIC's page, by EPT01, and the real one. Where the real one is in x2APIC mode and L1 is in
// xAPIC mode, the page is nowhere but here: each access of L1's to it exits.
class RealApic final {
public:
    explicit RealApic(BootResult& boot);
    [[nodiscard]] std::uint32_t read_page(std::uint32_t offset) const;
    void write_page(std::uint32_t offset, std::uint32_t value);
    [[nodiscard]] std::optional<std::uint64_t> read_msr(std::uint32_t msr) const;
    [[nodiscard]] bool write_msr(std::uint32_t msr, std::uint64_t value) const;
    [[nodiscard]] std::uint32_t x2apic_id() const;
    [[nodiscard]] bool has_x2apic() const;
    [[nodiscard]] bool enter_x2apic_mode();
    void leave_x2apic_mode();
    [[nodiscard]] bool place_page(std::optional<std::uint64_t> address);
    [[nodiscard]] bool take_interrupt() const;
    // L1's INIT and SIPI: for its processors only, and in software. And logical destinations, where the real
    // APIC of some processor does not have L1's.
    [[nodiscard]] bool take_command(std::uint32_t command, std::uint32_t destination, bool x2apic) const;
    // An EPT violation, whose guest's VMCS is current, is an access to the kept page, at this physical
    // address of L1's: where the guest's own instruction is to read and write meanwhile, until take_write().
    [[nodiscard]] nested::HostMapping let_write(std::uint64_t address);
    // The same where the guest is under EPT01, which leads there.
    void let_write_in_ept01(std::uint64_t address);
    [[nodiscard]] bool is_letting_write() const { return letting_; }
    struct Write {
        std::uint32_t offset;
        std::uint32_t value;
    };
    // What was written, if it is a register; EPT01 is again what it was. done: the instruction is.
    [[nodiscard]] std::optional<Write> take_write(bool done);
    // Whether an EPT violation there is L1's access to the page: where it has several processors all writes
    // are, and reads too where the page is nowhere else.
    [[nodiscard]] bool is_kept_page(std::uint64_t guest_physical) const {
        return keeps_writes_ && shown_at_ == (guest_physical & x86::apic_base::address_mask);
    }
    [[nodiscard]] bool keeps_writes() const { return keeps_writes_; }
    [[nodiscard]] bool keeps_reads() const { return in_x2apic_mode_; }
    // Where the real page lies.
    [[nodiscard]] std::uint64_t home() const { return home_; }
    // L1's own MSR bitmap, a copy of L0's: where there is x2APIC mode, before anything else is asked.
    void set_msr_bitmap(x86::Hpa bitmap) { msr_bitmap_ = bitmap; }
    [[nodiscard]] std::optional<x86::Hpa> msr_bitmap() const { return msr_bitmap_; }
    // Whether EPT01 has changed since this was last asked.
    [[nodiscard]] bool take_change() {
        const bool changed = changed_;
        changed_ = false;
        return changed;
    }

private:
    // The entry of EPT01 for the page, elsewhere than at home.
    [[nodiscard]] std::uint64_t entry_elsewhere() const;
    [[nodiscard, gnu::noinline, gnu::cold]] std::uint32_t read_over_x2apic(std::uint32_t offset) const;
    [[gnu::noinline, gnu::cold]] void write_over_x2apic(std::uint32_t offset, std::uint32_t value);

    // Logical destinations that the real APIC of some processor does not know, by L1's mode: of xAPIC mode
    // from the first on that has it over x2APIC mode; and of x2APIC mode on an emulator whose APIC does not
    // say its own when it has entered that mode.
    static inline constinit std::atomic<bool> xapic_destinations_are_l0s_{false};
    static inline constinit std::atomic<bool> x2apic_destinations_are_l0s_{false};

    BootResult& boot_;
    std::uint64_t home_;        // where the real page lies
    volatile std::byte* page_;  // it, in L0's direct map; null: it lies beyond
    bool in_x2apic_mode_;       // the real APIC
    bool may_leave_;            // its processor takes EN = 1 after EN = 0
    host::XapicOverX2Apic over_x2apic_;
    std::uint64_t* elsewhere_ = nullptr;  // the entry of EPT01 that leads there instead of the one of `home_`
    std::uint64_t was_elsewhere_ = 0;     // what it led to before
    std::uint64_t at_home_ = 0;           // what the entry of `home_` led to at first
    std::size_t pages_taken_ = 0;
    bool changed_ = false;
    bool keeps_writes_;                    // each write of L1's to the page exits
    std::uint64_t shown_at_;               // where L1 has it; nowhere: an address that is none
    std::uint64_t* shown_by_ = nullptr;    // the entry of EPT01 by which L1 has it, where writes are kept
    bool letting_ = false;                 // from let_write() to take_write(), and what it is about:
    std::uint64_t before_ = 0;             // *shown_by_, where EPT01 leads elsewhere meanwhile
    std::optional<std::uint32_t> offset_;  // of the register
    x86::Hpa scratch_{};                   // in whose place it is
    std::optional<x86::Hpa> msr_bitmap_;   // L1's, where it is not L0's
};
static_assert(host::ApicHardware<RealApic>);

class MetalPort final {
public:
    MetalPort(GuestRegisters& registers, BootResult& boot);

    [[gnu::always_inline]] std::uint64_t vmread(std::uint32_t encoding) { return metal::vmread(encoding); }
    [[gnu::always_inline]] void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        metal::vmwrite(encoding, value);
    }
    [[gnu::always_inline]] std::uint64_t vmread_in_row(std::uint32_t encoding) {
        return vmread_unfailing(encoding);
    }
    [[gnu::always_inline]] void vmwrite_in_row(std::uint32_t encoding, std::uint64_t value) {
        vmwrite_unfailing(encoding, value);
    }
    void load_vmcs(x86::Hpa page) { vmptrld(page); }
    void clear_vmcs(x86::Hpa page) { vmclear(page); }
    std::uint32_t hardware_vmcs_revision() { return revision_; }
    void write_host_state();

    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address,
                 tag::FlushCause cause = tag::FlushCause::unknown, tag::Vpid12 vpid12 = tag::Vpid12::none) {
        if (recorder::is_recording()) [[unlikely]]
            recorder::record_flush_tag(type, tag, linear_address, cause, vpid12);
        metal::invvpid(type, vmx::InvvpidDescriptor::make(tag::raw(tag), linear_address.value()));
    }
    void invept(vmx::InveptType type, vmx::Eptp eptp, tag::FlushCause cause = tag::FlushCause::unknown) {
        if (recorder::is_recording()) [[unlikely]]
            recorder::record_flush_ept(type, eptp, cause);
        metal::invept(type, {eptp.value, 0});
    }

    // L1's memory is the machine's, but for L0's region, what lies beyond the direct map, and the page of a
    // local APIC that L1 has switched off or moved: there it is a page of ones, and what is written to it is
    // gone at the next call. So it is with the APIC's page where L1's writes to it are kept, but that its
    // registers are read. Devices' registers are reachable too: an L1 that keeps its tables there gets
    // what it asked for.
    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        const std::uint64_t page = address.value() & ~std::uint64_t{0xfff};
        if (page >= direct_map_end_ || page - special_start_ < special_size_) [[unlikely]]
            return special_page(x86::Gpa<x86::L1>{page});
        auto* found = reinterpret_cast<std::byte*>(direct_map_base + page);
        if (found == nullptr) __builtin_unreachable();  // so that callers' tests for null cost nothing
        return found;
    }
    bool unwritten_since_last_asked(x86::Gpa<x86::L1> page) {
        return written_pages_.unwritten_since_last_asked(page);
    }
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address);

    std::optional<x86::Hpa> allocate_page();
    std::uint64_t* page(x86::Hpa address) {
        return reinterpret_cast<std::uint64_t*>(direct_map_base + address.value());
    }

    std::uint64_t& general_register(unsigned number) { return registers_.by_number[number]; }
    void set_cr2(std::uint64_t value) { asm volatile("mov %0, %%cr2" ::"r"(value)); }
    std::uint64_t debug_address(unsigned number) { return read_debug_address(number); }
    std::uint32_t protection_key_rights() { return read_protection_key_rights(); }
    std::uint64_t time_stamp_counter() { return read_tsc(); }
    // MSRs that live in no VMCS.
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr);
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value);
    x86::Hpa l0_msr_bitmap() { return msr_bitmap_; }
    // The one under which L1 itself runs: another page where L1 has registers that its guests have not.
    [[nodiscard]] x86::Hpa l1_msr_bitmap() const { return real_apic_.msr_bitmap().value_or(msr_bitmap_); }
    // The ports by which a guest could ask for a sleep state (metal/firmware/sleep_requests.hpp).
    x86::Hpa l0_io_bitmap(unsigned half) { return io_bitmaps_[half]; }
    [[nodiscard]] bool keeps_ports() const { return !boot_.sleep.requests().empty() || boot_.second_vm; }
    bool handle_io();
    std::uint32_t input(vmx::IoAccess access);
    void output(vmx::IoAccess access, std::uint32_t value);
    bool keep_unwritten(x86::Gpa<x86::L1> page) { return written_pages_.keep_unwritten(page); }
    std::uint64_t writes_elsewhere() { return written_pages_.writes_elsewhere(); }
    // Another processor has asked for it (request::close_kept), or this one begins to run L1.
    void close_kept_pages() { written_pages_.close_kept(); }
    vmx::Eptp ept01_pointer() { return ept01_pointer_; }
    bool handle_ept01_violation(std::uint64_t guest_physical);
    [[nodiscard]] bool is_kept_apic_page(std::uint64_t guest_physical) const {
        return real_apic_.is_kept_page(guest_physical);
    }
    // As L1 reads it there.
    [[nodiscard, gnu::noinline]] std::uint32_t read_apic_page(std::uint32_t offset);
    bool let_write_vanish();
    nested::HostMapping page_for_write(x86::Gpa<x86::L1> address);
    [[nodiscard]] RealApic& real_apic() { return real_apic_; }
    [[nodiscard]] bool is_kept_register_page(std::uint64_t guest_physical) const {
        return kept_pages_.is_kept(guest_physical);
    }
    [[nodiscard]] bool is_letting_write() const {
        return real_apic_.is_letting_write() || kept_pages_.is_letting_write();
    }
    [[nodiscard]] KeptPages& kept_pages() { return kept_pages_; }
    // Whether a write there is L0's to carry out.
    [[nodiscard]] bool is_kept_page(std::uint64_t guest_physical) const {
        return keeps_pages_ &&
               (real_apic_.is_kept_page(guest_physical) || kept_pages_.is_kept(guest_physical));
    }
    // A guest's write to registers of such a page: what L0 does of it.
    void write_kept_register(const RegisterWrite& write);

    void return_nmi() {
        set_nmi_state(nmi_state::came);
        unblock_nmis();
    }
    // Interrupts that L0 has met, with demands=on (metal/l0/demands.hpp).
    [[nodiscard]] nested::PendingEvents& waiting() { return waiting_; }
    // A guest takes the one that the local APIC has.
    [[nodiscard]] std::uint8_t acknowledge_interrupt();
    // The local APIC is L1's, and the interrupt the highest in service.
    void end_interrupt(std::uint8_t) { real_apic_.write_page(x86::xapic::end_of_interrupt, 0); }
    void return_interrupt(std::uint8_t vector) {
        waiting_.add(nested::Event::interrupt(vector));
        set_nmi_state(nmi_state::asked);
    }
    // The guest had not got it, or the processor met it at the entry.
    void return_machine_check();

    tag::Cpu cpu() { return tag::Cpu{this_processor_number()}; }
    void notice(nested::Notice what, std::uint64_t detail);
    void notice(nested::EntryCheck check, const nested::Vmcs12& vmcs12);
    void notice(nested::Notice what, const nested::RefusedMsr& refused);
    [[noreturn]] void l1_shutdown(const char* why);
    [[noreturn]] void fatal(const char* why);

    // Optional of the engine's: an MSR that L1 wrote has moved a page in EPT01.
    [[nodiscard]] bool take_ept01_change() {
        if (!real_apic_.take_change()) return false;
        widen_special_pages(real_apic_.home());
        widen_special_pages(apic_.base() & x86::apic_base::address_mask);
        keeps_pages_ = keeps_pages_ || real_apic_.keeps_writes();
        return true;
    }

    [[nodiscard]] const BootResult& boot() const { return boot_; }

    // What L1's capability MSRs say; set once the engine's promise is made.
    void set_promise(const vmx::Capabilities* promised) { promised_ = promised; }
    [[nodiscard]] bool apic_enabled() const { return apic_.enabled(); }

    // For host/msrs.hpp.
    [[nodiscard]] const vmx::Capabilities* promise() const { return promised_; }
    [[nodiscard]] host::MsrBitmap msr_bitmap() { return host::MsrBitmap{msr_bitmap_words_}; }
    [[nodiscard]] host::LocalApic<RealApic>& local_apic() { return apic_; }
    [[nodiscard]] host::MemoryTypeRegisters& memory_types() { return memory_type_registers_; }
    [[nodiscard]] static std::optional<std::uint64_t> read_processor_msr(std::uint32_t msr);
    [[nodiscard]] static bool write_processor_msr(std::uint32_t msr, std::uint64_t value);
    [[nodiscard]] static bool takes_debugctl(std::uint64_t value);

private:
    nested::PendingEvents waiting_;
    // A page of ones, anew at each call.
    std::byte* no_memory();
    std::byte* special_page(x86::Gpa<x86::L1> page);
    // Likewise a copy of the APIC's page.
    std::byte* apic_registers();
    void widen_special_pages(std::uint64_t page);
    void make_io_bitmaps();
    void tell_of_fixed_register();
    void tell_of_sleep_request(std::uint64_t place, std::uint64_t value);

    GuestRegisters& registers_;
    BootResult& boot_;
    const vmx::Capabilities* promised_ = nullptr;
    std::uint32_t revision_;
    std::uint64_t direct_map_end_;
    // What is not as it is everywhere lies within: L0's region, and the APIC's pages once L1 has changed
    // them. Never narrowed again; what it holds besides is found as EPT01 has it.
    std::uint64_t special_start_;
    std::uint64_t special_size_;
    vmx::Eptp ept01_pointer_;
    RealApic real_apic_;
    KeptPages kept_pages_;
    bool keeps_pages_;  // any: asked first, for what asks all the time
    host::LocalApic<RealApic> apic_;
    host::MemoryTypeRegisters memory_type_registers_;
    WrittenPages written_pages_;
    x86::Hpa msr_bitmap_{};
    std::uint64_t* msr_bitmap_words_ = nullptr;
    std::array<x86::Hpa, 2> io_bitmaps_{};
    bool told_of_sleep_request_ = false;
    bool told_of_moved_ports_ = false;
    x86::Hpa no_memory_{};  // what L0 finds for L1 where L1 has no memory
};

static_assert(nested::Port<MetalPort>);

}  // namespace flatback::metal
