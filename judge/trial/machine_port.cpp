#include "judge/trial/machine_port.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "host/msrs.hpp"
#include "vmx/field.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"

namespace flatback::machine {

namespace field = vmx::field;

std::uint64_t MachinePort::vmread(std::uint32_t encoding) {
    const Vmcs* vmcs = host_.machine.current_vmcs(processor_);
    if (vmcs == nullptr || !host_.machine.model().has_field(encoding))
        throw EngineFailure("L0's VMREAD fails");
    const std::uint64_t value = vmcs->read(encoding);
    if (host_.defect == nullptr || !current_is_shadow()) return value;
    return host_.defect->found_in_shadow(current_.value(), encoding, value);
}

void MachinePort::vmwrite(std::uint32_t encoding, std::uint64_t value) {
    Vmcs* vmcs = host_.machine.current_vmcs(processor_);
    if (vmcs == nullptr || !host_.machine.model().has_field(encoding))
        throw EngineFailure("L0's VMWRITE fails");
    if (host_.defect != nullptr) {
        value = host_.defect->written(encoding, value);
        if (current_ != vmcs01_) value = host_.defect->written_for_l2(encoding, value);
        if (current_is_shadow()) {
            const auto written = host_.defect->written_to_shadow(current_.value(), encoding, value);
            if (!written) return;
            value = *written;
        }
    }
    vmcs->write(encoding, value);
}

// By its revision identifier (SDM 3C 25.2).
bool MachinePort::current_is_shadow() {
    return (*page(current_) >> 31 & 1) != 0;
}

/// The machine notes what the SDM leaves undefined. L0 does nothing of that.
void MachinePort::check_use_of_vmcss() const {
    if (!host_.machine.misuse().empty()) throw EngineFailure("L0 has " + host_.machine.misuse().back());
}

x86::Hpa MachinePort::used_for(x86::Hpa page) const {
    if (host_.defect == nullptr || page == vmcs01_) return page;
    return x86::Hpa{host_.defect->vmcs_of_l2(page.value(), processor_)};
}

void MachinePort::load_vmcs(x86::Hpa page) {
    page = used_for(page);
    if (host_.machine.load_vmcs(processor_, page.value())) throw EngineFailure("L0's VMPTRLD fails");
    active_.insert(page.value());
    known_.insert(page.value());
    current_ = page;
    check_use_of_vmcss();
}

void MachinePort::clear_vmcs(x86::Hpa page) {
    page = used_for(page);
    // The revision identifier was written by a pointer.
    host_.machine.memory().note_direct_writes();
    if (host_.machine.clear_vmcs(processor_, page.value())) throw EngineFailure("L0's VMCLEAR fails");
    active_.erase(page.value());
    check_use_of_vmcss();
}

void MachinePort::move_to(unsigned processor) {
    for (const std::uint64_t page : active_) {
        if (host_.machine.clear_vmcs(processor_, page)) throw EngineFailure("L0's VMCLEAR fails");
        cleared_.insert(page);
    }
    active_.clear();
    processor_ = processor;
}

bool MachinePort::leaves_vmcs_active(bool vmcs01_too) const {
    return std::ranges::any_of(known_, [&](std::uint64_t page) {
        const Vmcs* vmcs = host_.machine.find_vmcs(page);
        return (vmcs01_too || page != vmcs01_.value()) && vmcs != nullptr &&
               vmcs->active_on != Vmcs::inactive;
    });
}

Completion MachinePort::enter(bool engine_says_launch) {
    const bool launch = host_.machine.current_vmcs(processor_)->launch_state == Vmcs::LaunchState::clear;
    if (launch != engine_says_launch && !cleared_.contains(current_.value())) {
        throw EngineFailure("VMLAUNCH of a launched VMCS, or VMRESUME of a clear one");
    }
    const Completion entered = host_.machine.enter_guest(processor_, launch);
    if (entered.kind == Completion::Kind::vm_entry) cleared_.erase(current_.value());
    return entered;
}

void MachinePort::return_interrupt(std::uint8_t vector) {
    if (host_.defect != nullptr && !host_.defect->takes_interrupt_back()) return;
    apic_.take_back(vector);
    interrupt_returned_ = true;
}

void MachinePort::write_host_state() {
    const auto put = [this](auto what, std::uint64_t value) { vmwrite(what.encoding, value); };
    put(field::host_cr0, x86::cr0::protection_enable | x86::cr0::extension_type | x86::cr0::numeric_error |
                             x86::cr0::write_protect | x86::cr0::paging);
    put(field::host_cr3, 0);
    put(field::host_cr4,
        x86::cr4::physical_address_extension | x86::cr4::page_global_enable | x86::cr4::vmx_enable);
    put(field::host_ia32_efer, Registers{}.efer);
    put(field::host_ia32_pat, Registers{}.pat);
    put(field::host_cs_selector, 0x08);
    for (const auto what : {field::host_ss_selector, field::host_ds_selector, field::host_es_selector})
        put(what, 0x10);
    put(field::host_fs_selector, 0);
    put(field::host_gs_selector, 0);
    put(field::host_tr_selector, 0x18);
    for (const auto what :
         {field::host_fs_base, field::host_gs_base, field::host_tr_base, field::host_gdtr_base,
          field::host_idtr_base, field::host_ia32_sysenter_esp, field::host_ia32_sysenter_eip}) {
        put(what, 0);
    }
    put(field::host_ia32_sysenter_cs, 0);
    put(field::host_rsp, 0);
    put(field::host_rip, 0x10'0000);
}

void MachinePort::run(const HardwareFlush& flush) {
    Machine& machine = host_.machine;
    if (host_.record_flushes) host_.flushes.push_back(flush);
    if (flush.only_pcid || flush.only_ep4ta) {
        machine.retentive_tlb(flush.processor)
            .invalidate({.linear = LinearScope{.vpid = flush.vpid,
                                               .pcid = flush.only_pcid,
                                               .combined_only = flush.only_ep4ta.has_value(),
                                               .ep4ta = flush.only_ep4ta}});
        return;
    }
    const auto error =
        flush.invept ? machine.invalidate_ept(flush.processor, flush.type, {flush.operand, 0})
                     : machine.invalidate_vpid(flush.processor, flush.type, {flush.vpid, flush.operand});
    if (error) throw EngineFailure(flush.invept ? "L0's INVEPT fails" : "L0's INVVPID fails");
}

void MachinePort::flush(const HardwareFlush& flush) {
    if (host_.defect == nullptr) return run(flush);
    const auto vpid = static_cast<std::uint16_t>(vmread(field::virtual_processor_identifier.encoding));
    host_.defect->flush(flush, vpid, [this](const HardwareFlush& it) { run(it); });
}

void MachinePort::invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address,
                          tag::FlushCause cause, tag::Vpid12) {
    HardwareFlush it{false, static_cast<std::uint64_t>(type), tag::raw(tag), linear_address.value(),
                     processor_};
    it.cause = {cause};
    flush(it);
}

void MachinePort::invept(vmx::InveptType type, vmx::Eptp eptp, tag::FlushCause cause) {
    HardwareFlush it{true, static_cast<std::uint64_t>(type), 0, eptp.value, processor_};
    it.cause = {cause};
    flush(it);
}

std::byte* MachinePort::l1_page(x86::Gpa<x86::L1> address) {
    const auto place = space_.host_of(address.value() & ~std::uint64_t{0xFFF});
    if (!place) return nullptr;
    return reinterpret_cast<std::byte*>(host_.machine.memory().direct_page(place->host));
}

nested::HostMapping MachinePort::host_mapping(x86::Gpa<x86::L1> address) {
    const auto place = space_.host_of(address.value());
    if (!place)
        return {x86::Hpa{host_.nothing + address.page_offset()}, 12, x86::MemoryType::write_back, true};
    return {x86::Hpa{place->host}, place->page_shift, x86::MemoryType::write_back, true};
}

std::optional<x86::Hpa> MachinePort::allocate_page() {
    const auto page = host_.pages.allocate();
    if (!page) return std::nullopt;
    return x86::Hpa{*page};
}

std::optional<std::uint64_t> MachinePort::read_l1_msr(std::uint32_t msr) {
    const auto value = host::read_msr(*this, msr);
    if (!value || host_.defect == nullptr) return value;
    return host_.defect->told(msr, *value);
}

bool MachinePort::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    return host::write_msr(*this, msr, value);
}

bool MachinePort::takes_debugctl(std::uint64_t value) const {
    return (value & ~x86::debugctl::defined_bits) == 0;
}

std::optional<std::uint64_t> MachinePort::read_processor_msr(std::uint32_t msr) {
    const Registers& now = registers();
    switch (msr) {
        case x86::msr::ia32_star:
            return now.star;
        case x86::msr::ia32_lstar:
            return now.lstar;
        case x86::msr::ia32_fmask:
            return now.fmask;
        case x86::msr::ia32_kernel_gs_base:
            return now.kernel_gs_base;
        case x86::msr::ia32_tsc_aux:
            return now.tsc_aux;
        default:
            return std::nullopt;
    }
}

bool MachinePort::write_processor_msr(std::uint32_t msr, std::uint64_t value) {
    Registers& now = registers();
    switch (msr) {
        case x86::msr::ia32_star:
            now.star = value;
            return true;
        case x86::msr::ia32_fmask:
            now.fmask = value;
            return true;
        case x86::msr::ia32_tsc_aux:
            if (value >> 32 != 0) return false;
            now.tsc_aux = value;
            return true;
        case x86::msr::ia32_lstar:
        case x86::msr::ia32_kernel_gs_base:
            if (!x86::is_canonical(value)) return false;
            (msr == x86::msr::ia32_lstar ? now.lstar : now.kernel_gs_base) = value;
            return true;
        default:
            return false;
    }
}

// --- kept pages ---

void MachinePort::share_kept_pages(std::function<void(const std::byte*)> closed,
                                   std::function<std::uint64_t()> writes_of_l0) {
    number_ = static_cast<unsigned>(host_.ports.size());
    // What a number was told it keeps, so that none is given twice.
    if (*number_ >= 64) throw EngineFailure("more virtual CPUs than keep pages together");
    host_.ports.push_back(this);
    tell_of_closed_ = std::move(closed);
    writes_of_l0_ = std::move(writes_of_l0);
}
void MachinePort::leave_kept_pages() {
    if (number_) host_.ports[*number_] = nullptr;
    number_.reset();
}

std::uint64_t MachinePort::writes_elsewhere() const {
    std::uint64_t writes = host_.kept.writes();
    for (const MachinePort* const each : host_.ports) {
        if (each != nullptr && each != this) writes += each->writes_of_l0_();
    }
    return writes;
}

bool MachinePort::unwritten_since_last_asked(x86::Gpa<x86::L1> page) {
    if (!number_) return false;
    Kept& kept = asked_of_[page.value()];
    const std::uint64_t writes = writes_elsewhere();
    if (kept.kept && kept.writes == writes) {
        ++taken_for_current_;
        return true;
    }
    kept = {keep_everywhere(page.value()), writes};
    return false;
}

bool MachinePort::keep_everywhere(std::uint64_t page) {
    const auto running = [this] {
        metal::CopiedPages::Processors all = 0;
        for (std::size_t number = 0; number < host_.ports.size(); ++number) {
            if (host_.ports[number] != nullptr) all |= metal::CopiedPages::Processors{1} << number;
        }
        return host_.defect != nullptr ? host_.defect->asked_of(all, *number_) : all;
    };
    const metal::CopiedPages::Answer answer = host_.kept.keep(page, running);
    for (unsigned number = 0; answer.to_ask >> number != 0; ++number) {
        if ((answer.to_ask >> number & 1) == 0) continue;
        if (number == *number_) {
            close_kept_pages();
        } else {
            host_.ports[number]->ask_to_close();
        }
    }
    return answer.kept;
}

void MachinePort::ask_to_close() {
    using Answer = Defect::Answer;
    const Answer answer = host_.defect != nullptr ? host_.defect->answers(Defect::Request::close_page)
                                                  : Answer::before_next_entry;
    if (answer == Answer::never) return;
    asked_to_close_ = true;
    if (answer == Answer::told_but_not_yet) note_closed(host_.kept.to_close(*number_));
}
void MachinePort::answer_close_requests() {
    if (number_ && std::exchange(asked_to_close_, false)) close_kept_pages();
}
void MachinePort::close_kept_pages() {
    const metal::CopiedPages::List pages = host_.kept.to_close(*number_);
    for (const std::uint64_t page : pages.items()) {
        closed_.insert(page);
        tell_of_closed_(l1_page(x86::Gpa<x86::L1>{page}));
    }
    note_closed(pages);
}
void MachinePort::note_closed(const metal::CopiedPages::List& pages) {
    host_.kept.closed(*number_, pages);
    if (host_.defect == nullptr) return;
    if (const unsigned other = host_.defect->noted_beside(*number_); other != *number_)
        host_.kept.closed(other, pages);
}

bool MachinePort::let_write(std::uint64_t l1_physical) {
    const std::uint64_t page = l1_physical & ~std::uint64_t{0xFFF};
    if (!number_ || closed_.erase(page) == 0) return false;
    if (host_.defect == nullptr || host_.defect->notices_write()) host_.kept.open(*number_, page);
    return true;
}

}  // namespace flatback::machine
