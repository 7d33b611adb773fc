// VirtualCpu: what the host hypervisor calls, and what there is to see.
#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include "tests/nested/engine.hpp"
#include "tests/nested/virtual_cpu.hpp"

namespace flatback::nested_test {

void VirtualCpu::prepare_first_entry() {
    engine_->prepare_first_entry();
}
bool VirtualCpu::set_demands(const nested::Demands& demands) {
    return engine_->set_demands(demands);
}
bool VirtualCpu::l1_wants_hosts_exit() const {
    return engine_->l1_wants_hosts_exit();
}
void VirtualCpu::l2_translations_changed() {
    engine_->l2_translations_changed();
}
void VirtualCpu::prepare_reentry() {
    engine_->prepare_reentry();
}
std::optional<std::uint64_t> VirtualCpu::l1_ept_pointer() const {
    const std::optional<vmx::Eptp> pointer = engine_->l1_ept_pointer();
    return pointer ? std::optional{pointer->value} : std::nullopt;
}
void VirtualCpu::l1_translations_changed() {
    engine_->l1_translations_changed();
}
void VirtualCpu::l1_msr_changed() {
    engine_->l1_msr_changed();
}
void VirtualCpu::write_vanished() {
    engine_->write_vanished();
}
void VirtualCpu::ept01_changed() {
    engine_->ept01_changed();
}
void VirtualCpu::inject_general_protection() {
    engine_->inject(
        {.vector = static_cast<std::uint8_t>(x86::Vector::general_protection), .has_error_code = true});
}
Outcome VirtualCpu::string_io(vmx::IoAccess access, const vmx::InstructionOperands& operands) {
    FakeVmcs& v = vmcs01();
    access.is_string = true;
    v.set(field::exit_reason, static_cast<std::uint32_t>(ExitReason::io_instruction));
    v.set(field::exit_qualification, access.encode());
    v.set(field::vm_exit_instruction_information, operands.encode().value);
    v.set(field::vm_exit_instruction_length, 2);
    v.set(field::guest_rflags, x86::rflags::fixed_one | extra_rflags);
    const std::uint64_t rip = v.get(field::guest_rip);
    if (!engine_->string_io()) return {};
    const vmx::InterruptionInformation event{v.get(field::vm_entry_interruption_information)};
    const std::uint64_t after = v.get(field::guest_rip);
    if (event.is_valid()) {
        EXPECT_EQ(after, rip);
        v.set(field::vm_entry_interruption_information, 0);
        return {Outcome::Kind::faulted, event.vector(),
                event.has_error_code() ? std::optional{v.get(field::vm_entry_exception_error_code)}
                                       : std::nullopt};
    }
    const bool again = after == rip;
    if (!again) {
        EXPECT_EQ(after, rip + 2);
    }
    EXPECT_EQ(v.get(field::guest_rflags),
              x86::rflags::fixed_one | extra_rflags | (again ? x86::rflags::resume : 0));
    return again ? Outcome{Outcome::Kind::begins_again, 0, {}} : vm_succeed;
}
void VirtualCpu::close_window() {
    engine_->close_window();
}
void VirtualCpu::retry_l1() {
    engine_->retry_l1();
}
bool VirtualCpu::deliver_nmi() {
    return deliver(nested::Event::nmi()) == nested::Delivery::given;
}
nested::Delivery VirtualCpu::deliver(const nested::Event& event) {
    nested::Entry entry = vmcs02_.value() != 0 && in_l2() && !vmcs02().launched ? nested::Entry::vmlaunch
                                                                                : nested::Entry::vmresume;
    return engine_->deliver(event, entry);
}
Outcome VirtualCpu::move_to(unsigned cpu) {
    leave_processor();
    port.physical_cpu = cpu;
    return enter_processor();
}
void VirtualCpu::leave_processor() {
    engine_->leave_processor();
    EXPECT_TRUE(port.active().empty()) << "a VMCS is still active on the processor";
    has_moved_ = true;
}
Outcome VirtualCpu::enter_processor() {
    const std::uint64_t rip = vmcs01().get(field::guest_rip);
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
    const bool was_in_l2 = in_l2();
    const nested::Entry entry = engine_->enter_processor();
    EXPECT_EQ(entry, nested::Entry::vmlaunch);
    // L1 has done nothing meanwhile: as behind an instruction.
    if (was_in_l2) return settle(entry, rip);
    vmcs01().set(field::guest_rflags, x86::rflags::fixed_one | extra_rflags);
    return settle(entry, rip - 3);
}
void VirtualCpu::enter_processor_without_entry() {
    EXPECT_EQ(engine_->enter_processor(), nested::Entry::vmlaunch);
}
bool VirtualCpu::reset(bool by_init) {
    if (!engine_->reset(by_init ? nested::Reset::init : nested::Reset::power_on)) return false;
    has_moved_ = true;
    EXPECT_EQ(port.current(), vmcs01_);
    EXPECT_FALSE(vmcs01().launched);
    vmcs01().launched = true;  // by the host, at once
    return true;
}
std::optional<std::vector<std::uint8_t>> VirtualCpu::read_l1_code(std::uint64_t linear, unsigned size) {
    std::vector<std::uint8_t> bytes(size);
    if (!engine_->read_l1_code(linear, bytes.data(), size)) return std::nullopt;
    return bytes;
}
std::optional<std::uint64_t> VirtualCpu::read_guest_msr(std::uint32_t msr) {
    return engine_->read_guest_msr(msr);
}
bool VirtualCpu::write_guest_msr(std::uint32_t msr, std::uint64_t value) {
    return engine_->write_guest_msr(msr, value);
}
bool VirtualCpu::in_l2() const {
    return engine_->in_l2();
}
bool VirtualCpu::in_vmx_operation() const {
    return engine_->in_vmx_operation();
}
std::uint16_t VirtualCpu::vpid01() const {
    return tag::raw(engine_->vpid01());
}
std::size_t VirtualCpu::tag_capacity() const {
    return engine_->tag_capacity();
}
bool VirtualCpu::shadows_vmcs() const {
    return engine_->shadows_vmcs();
}
bool VirtualCpu::offers_invvpid() const {
    return engine_->offers_invvpid();
}
nested::Counters& VirtualCpu::counters() {
    return engine_->counters();
}
tag::MapStatistics VirtualCpu::tag_statistics() const {
    return engine_->statistics().tags;
}
std::uint64_t VirtualCpu::leaves_filled() const {
    return engine_->statistics().ept02_leaves_filled;
}
std::uint64_t VirtualCpu::ept02_pages() const {
    return engine_->statistics().ept02_pages;
}
std::uint64_t VirtualCpu::hardware_invepts() const {
    return engine_->statistics().hardware_invepts;
}

std::vector<Flush> VirtualCpu::invvpids() const {
    std::vector<Flush> found;
    std::ranges::copy_if(port.flushes, std::back_inserter(found),
                         [](const Flush& flush) { return flush.kind == Flush::Kind::invvpid; });
    return found;
}
std::vector<Flush> VirtualCpu::invepts() const {
    std::vector<Flush> found;
    std::ranges::copy_if(port.flushes, std::back_inserter(found),
                         [](const Flush& flush) { return flush.kind == Flush::Kind::invept; });
    return found;
}

}  // namespace flatback::nested_test
