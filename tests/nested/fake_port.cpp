#include "tests/nested/fake_port.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "nested/vmcs/current_vmcs.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test {

namespace field = vmx::field;

void PrintTo(const Flush& flush, std::ostream* out) {
    *out << (flush.kind == Flush::Kind::invvpid ? "INVVPID " : "INVEPT ") << flush.type << " of " << std::hex
         << (flush.kind == Flush::Kind::invvpid ? flush.tag : flush.operand) << std::dec << " on CPU "
         << flush.cpu;
    if (flush.kind == Flush::Kind::invvpid && flush.type == 0)
        *out << std::hex << " at " << flush.operand << std::dec;
}

std::uint64_t l0_host_state(std::uint32_t encoding) {
    switch (encoding) {
        case field::host_cr0.encoding:
            return 0x8005'0033;
        case field::host_cr3.encoding:
            return 0x7'7000;
        case field::host_cr4.encoding:
            return 0x26a0;
        case field::host_cs_selector.encoding:
            return 8;
        case field::host_tr_selector.encoding:
            return 0x18;
        case field::host_rip.encoding:
            return 0xffff'ffff'8010'0000;
        case field::host_rsp.encoding:
            return 0xffff'ffff'8020'0000;
        case field::host_ia32_efer.encoding:
            return 0xd01;
        case field::host_ia32_pat.encoding:
            return 0x0007'0406'0007'0406;
        default:
            return 0;
    }
}

void FakePort::keep_port(std::uint16_t number) {
    kept_ports.insert(number);
    page(l0_io_bitmaps_.at(number >> 15))[(number & 0x7fff) / 64] |= 1ULL << number % 64;
}

FakePort::FakePort() {
    l0_msr_bitmap_ = *allocate_page();
    for (x86::Hpa& half : l0_io_bitmaps_) half = *allocate_page();
    nothing_ = *allocate_page();
    // L0 keeps IA32_APIC_BASE, IA32_FEATURE_CONTROL and the x2APIC TPR and EOI (reads and writes), and writes
    // of IA32_EFER.
    auto* bits = reinterpret_cast<std::uint8_t*>(page(l0_msr_bitmap_));
    for (const unsigned msr : {0x1bU, 0x3aU, 0x808U, 0x80bU}) {
        bits[msr / 8] = static_cast<std::uint8_t>(bits[msr / 8] | 1U << msr % 8);
        bits[2048 + msr / 8] = static_cast<std::uint8_t>(bits[2048 + msr / 8] | 1U << msr % 8);
    }
    bits[3072 + 0x80 / 8] = 1;
    msrs[x86::msr::ia32_feature_control] = 5;
    msrs[x86::msr::ia32_apic_base] = 0xfee0'0900;
    msrs[x86::msr::ia32_debugctl] = 0;
    msrs[x86::msr::ia32_star] = 0x1111;
    msrs[x86::msr::ia32_lstar] = 0x2222;
    msrs[x86::msr::ia32_kernel_gs_base] = 0x3333;
}

FakeVmcs& FakePort::current_vmcs() {
    if (!vmcss_.contains(current_.value())) throw std::logic_error("no current VMCS");
    return vmcss_.at(current_.value());
}

namespace {
// The processor here has neither posted interrupts nor SGX nor MPX.
bool a_processor_has(std::uint32_t encoding) {
    if (!vmx::is_well_formed(encoding) || vmx::is_high(encoding) || vmx::dense_index(encoding) < 0)
        return false;
    return encoding != field::posted_interrupt_notification_vector.encoding &&
           encoding != field::posted_interrupt_descriptor_address.encoding &&
           encoding != field::encls_exiting_bitmap.encoding && encoding != field::guest_ia32_bndcfgs.encoding;
}
}  // namespace

bool FakePort::processor_has(std::uint32_t encoding) const {
    return (a_processor_has(encoding) || further_fields.contains(encoding)) &&
           !lacking_fields.contains(encoding);
}

// To the processor they are the same; what a port leaves out there must not be missed.
void FakePort::look_in_row(std::uint32_t encoding) {
    if (!nested::is_always_there(encoding))
        throw std::logic_error("an access that may fail, and nothing looks whether it did");
    ++accesses_in_row;
}

std::uint64_t FakePort::vmread(std::uint32_t encoding) {
    if (!processor_has(encoding))
        throw std::logic_error("VMREAD of a field that the processor does not have");
    ++vmreads;
    return current_vmcs().word(encoding);
}

void FakePort::vmwrite(std::uint32_t encoding, std::uint64_t value) {
    if (!processor_has(encoding))
        throw std::logic_error("VMWRITE of a field that the processor does not have");
    ++vmwrites;
    FakeVmcs& vmcs = current_vmcs();
    const auto kind = vmx::kind(encoding);
    const std::string name{vmx::name_of(encoding)};
    if (kind == vmx::FieldKind::exit_information && !vmcs.shadow && !takes_exit_information) {
        throw std::logic_error("VMWRITE of exit information: " + name);
    }
    if (kind == vmx::FieldKind::host_state && !vmcs.shadow) {
        throw std::logic_error("VMWRITE of L0's host state: " + name);
    }
    const auto width = vmx::width(encoding);
    if ((width == vmx::FieldWidth::bits16 && value > 0xffff) ||
        (width == vmx::FieldWidth::bits32 && value > 0xffff'ffff)) {
        throw std::logic_error("VMWRITE of more bits than the field has: " + name);
    }
    vmcs.word(encoding) = value;
    ++vmcs.writes[encoding];
}

void FakePort::load_vmcs(x86::Hpa page) {
    if (!vmcss_.contains(page.value())) throw std::logic_error("VMPTRLD of a VMCS that was never cleared");
    const auto stored = static_cast<std::uint32_t>((*pages_.at(page.value()))[0]);
    const bool shadow = vmcss_.at(page.value()).shadow;
    if (stored != (revision | (shadow ? 0x8000'0000U : 0U)))
        throw std::logic_error("VMPTRLD: wrong revision");
    active_.insert(page.value());
    current_ = page;
}

void FakePort::clear_vmcs(x86::Hpa page) {
    if (!pages_.contains(page.value())) throw std::logic_error("VMCLEAR outside L0's pages");
    FakeVmcs& vmcs = vmcss_[page.value()];
    vmcs.launched = false;
    vmcs.shadow = ((*pages_.at(page.value()))[0] >> 31 & 1) != 0;
    if (vmcs.shadow && !takes_shadow_vmcss)
        throw std::logic_error("VMCLEAR of a shadow VMCS on a processor that has none");
    if (current_ == page) current_ = x86::Hpa{};
    active_.erase(page.value());
}

void FakePort::write_host_state() {
    FakeVmcs& vmcs = current_vmcs();
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (vmx::kind(named.encoding) == vmx::FieldKind::host_state && processor_has(named.encoding)) {
            vmcs.word(named.encoding) = l0_host_state(named.encoding);
        }
    }
    vmcs.set(vmx::field::address_of_io_bitmap_a, l0_io_bitmaps_[0].value());
    vmcs.set(vmx::field::address_of_io_bitmap_b, l0_io_bitmaps_[1].value());
    vmcs.has_host_state = true;
    host_state_written.push_back(current_.value());
}

void FakePort::invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address) {
    if (type == vmx::InvvpidType::all_contexts)
        throw std::logic_error("an INVVPID that hits other virtual machines");
    if (tag == tag::TagNumber::none) throw std::logic_error("INVVPID of VPID 0");
    const bool address = type == vmx::InvvpidType::individual_address;
    if (address && !x86::is_canonical(linear_address.value()))
        throw std::logic_error("INVVPID of a non-canonical address");
    flushes.push_back({Flush::Kind::invvpid, static_cast<std::uint64_t>(type), tag::raw(tag),
                       address ? linear_address.value() : 0, physical_cpu});
}

void FakePort::invept(vmx::InveptType type, vmx::Eptp eptp) {
    if (type == vmx::InveptType::all_contexts)
        throw std::logic_error("an INVEPT that hits other virtual machines");
    flushes.push_back({Flush::Kind::invept, static_cast<std::uint64_t>(type), 0, eptp.value, physical_cpu});
}

nested::HostMapping FakePort::host_mapping(x86::Gpa<x86::L1> address) {
    using x86::MemoryType;
    if (!L1Memory::has(address.value())) {
        return {nothing_ + address.page_offset(), 12, MemoryType::write_back, false};
    }
    for (const Special& special : specials) {
        if (address.value() - special.start < special.size) {
            return {x86::Hpa{host_of(address.value()) + moved_by}, 12, special.memory_type, special.writable,
                    special.readable};
        }
    }
    const auto is_plain = [&](std::uint64_t start, std::uint64_t size) {
        if (start + size > L1Memory::size || (start < L1Memory::l0_end && start + size > L1Memory::l0_start))
            return false;
        return std::ranges::none_of(
            specials, [&](const Special& s) { return start < s.start + s.size && s.start < start + size; });
    };
    unsigned shift = block_shift;
    while (shift > 12 && !is_plain(address.align_down(1ULL << shift).value(), 1ULL << shift)) shift -= 9;
    return {x86::Hpa{host_of(address.value()) + moved_by}, shift, MemoryType::write_back, true};
}

std::optional<x86::Hpa> FakePort::allocate_page() {
    if (pages_.size() >= page_limit) return std::nullopt;
    const std::uint64_t address = l0_pages_start + pages_.size() * x86::page_size;
    pages_.emplace(address, std::make_unique<std::array<std::uint64_t, 512>>());
    return x86::Hpa{address};
}

std::uint64_t* FakePort::page(x86::Hpa address) {
    ++pages_looked_at;
    const auto found = pages_.find(address.value());
    if (found == pages_.end()) throw std::logic_error("a page that is not L0's");
    return found->second->data();
}

bool FakePort::is_all_ones(std::uint64_t address) const {
    const auto found = pages_.find(address);
    return found != pages_.end() &&
           std::ranges::all_of(*found->second, [](std::uint64_t word) { return word == ~std::uint64_t{0}; });
}

std::uint64_t& FakePort::general_register(unsigned number) {
    if (number == 4 || number > 15) throw std::logic_error("a general register that the port does not hold");
    return registers.at(number);
}

std::optional<std::uint64_t> FakePort::read_l1_msr(std::uint32_t msr) {
    const auto found = msrs.find(msr);
    return found == msrs.end() ? std::nullopt : std::optional{found->second};
}

bool FakePort::write_l1_msr(std::uint32_t msr, std::uint64_t value) {
    const auto found = msrs.find(msr);
    if (found == msrs.end()) return false;
    if (msr == x86::msr::ia32_debugctl && (value & ~x86::debugctl::defined_bits) != 0) return false;
    found->second = value;
    return true;
}

std::uint32_t FakePort::input(vmx::IoAccess /*access*/) {
    if (inputs.empty()) return 0;
    const std::uint32_t value = inputs.front();
    inputs.erase(inputs.begin());
    return value;
}
void FakePort::output(vmx::IoAccess access, std::uint32_t value) {
    outputs.emplace_back(access.port, value);
}

bool FakePort::handle_ept01_violation(std::uint64_t guest_physical) {
    ept01_violations.push_back(guest_physical);
    return ept01_grants;
}

void FakePort::l1_shutdown(const char* why) {
    ++shutdowns;
    if (!shutdown_returns) throw L1Shutdown(why);
}

void FakePort::fatal(const char* why) {
    throw FatalError(why);
}

}  // namespace flatback::nested_test
