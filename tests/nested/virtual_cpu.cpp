#include "tests/nested/virtual_cpu.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tests/nested/engine.hpp"
#include "tests/nested/processor_checks.hpp"
#include "vmx/ept.hpp"
#include "x86/control_registers.hpp"

namespace flatback::nested_test {

namespace {
constexpr std::uint32_t instruction_length = 3;
// The registers of the instructions below.
constexpr std::uint8_t rax = 0;
constexpr std::uint8_t rdx = 2;
constexpr std::uint8_t rbx = 3;
constexpr vmx::InstructionOperands at_rbx = memory_operand(rbx, rdx);
constexpr vmx::InstructionOperands rax_and_rdx = register_operand(rax, rdx);
}  // namespace

namespace {
nested::FieldSet fields_without(const std::set<std::uint32_t>& lacking) {
    nested::FieldSet fields = nested::FieldSet::all();
    for (const std::uint32_t encoding : lacking)
        fields.erase(static_cast<std::size_t>(vmx::dense_index(encoding)));
    return fields;
}
}  // namespace

VirtualCpu::VirtualCpu(const Options& options)
    : hardware(options.hardware),
      capabilities([&] {
          vmx::Capabilities offered = options.hardware;
          offered.misc.value &= ~options.withheld_misc;
          auto all = nested::make_capabilities(offered, physical_width, options.tags != tag::Policy::off,
                                               fields_without(options.lacking_fields),
                                               options.cr3_masking_bits, options.posted_interrupts);
          all.misreports_virtual_interrupts = options.misreports_virtual_interrupts;
          std::uint64_t& basic = all.promised.basic.value;
          if (options.promised_revision != 0) basic = (basic & ~0x7fff'ffffULL) | options.promised_revision;
          return all;
      }()),
      own_pool_(options.pool == nullptr ? std::make_unique<tag::VpidPool>() : nullptr),
      pool_(options.pool == nullptr ? own_pool_.get() : options.pool),
      options_(options) {
    port.lacking_fields = options.lacking_fields;
    port.cr3_masking_bits = options.cr3_masking_bits;
    port.takes_exit_information = hardware.misc.may_write_exit_information();
    port.takes_shadow_vmcss = hardware.secondary_processor_based.may_set(vmx::secondary::vmcs_shadowing);
    for (const std::uint16_t number : options.kept_ports) port.keep_port(number);
    port.memory.before_noticed_write = [this] { engine_->l1_writes_noticed_page(); };
    port.memory.share(options.shared);
    port.notices_writes = options.shared == nullptr;
    port.physical_cpu = options.physical_cpu;
    make_engine();
    set_up_l1_state();
}

// With a vmcs01 of its own, which is current.
void VirtualCpu::make_engine() {
    vmcs01_ = *port.allocate_page();
    (*port.page(vmcs01_)) = FakePort::revision;
    port.clear_vmcs(vmcs01_);
    port.load_vmcs(vmcs01_);
    engine_ = std::make_unique<nested::NestedVcpu<FakePort>>(
        port, capabilities, *pool_, vmcs01_,
        nested::Configuration{
            .tags = options_.tags, .shadow_vmcs = options_.shadow_vmcs, .learning = options_.learning});
}

// --- the nested state

std::vector<std::byte> VirtualCpu::save_state() {
    std::vector<std::byte> state(nested::NestedVcpu<FakePort>::most_state_bytes);
    const x86::Hpa current = port.current();
    const auto size = engine_->save(state);
    EXPECT_TRUE(size.has_value());
    EXPECT_EQ(port.current(), current);
    state.resize(size.has_value() ? *size : 0);
    return state;
}

std::optional<nested::StateError> VirtualCpu::save_error(std::span<std::byte> into) {
    const auto size = engine_->save(into);
    return size ? std::nullopt : std::optional{size.error()};
}

Outcome VirtualCpu::restore_and_enter(std::span<const std::byte> state) {
    const std::uint64_t rip = vmcs01().get(field::guest_rip);
    const auto entry = engine_->restore(state);
    if (!entry) return {};
    has_moved_ = true;
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
    engine_->prepare_reentry();
    return settle(*entry, rip);
}

std::optional<nested::StateError> VirtualCpu::restore_state(std::span<const std::byte> state) {
    const x86::Hpa current = port.current();
    const auto entry = engine_->restore(state);
    if (!entry) {
        EXPECT_EQ(port.current(), current);
        return entry.error();
    }
    EXPECT_EQ(port.current() != vmcs01_, in_l2());
    EXPECT_EQ(*entry, nested::Entry::vmlaunch);
    EXPECT_FALSE(vmcs01().launched);
    // L1 may be entered later than L2: whether rightly, settle() sees from now on.
    has_moved_ = true;
    if (in_l2()) {
        engine_->prepare_reentry();
        EXPECT_EQ(settle(*entry, 0), l2_runs);
    } else {
        vmcs01().launched = true;
    }
    return std::nullopt;
}

void VirtualCpu::begin_anew() {
    // The host took the processor: what was to be delivered is.
    if (in_l2()) {
        vmcs02().set(field::vm_entry_interruption_information,
                     vmcs02().get(field::vm_entry_interruption_information) &
                         ~vmx::InterruptionInformation::valid_bit);
    }
    const std::vector<std::byte> state = save_state();
    const FakeVmcs of_l1 = vmcs01();
    const nested::Counters counted = counters();
    engine_.reset();
    own_pool_ = std::make_unique<tag::VpidPool>();
    pool_ = own_pool_.get();
    port.physical_cpu ^= 1;
    make_engine();
    counters() = counted;
    // L1's state, and the controls that are the host's.
    FakeVmcs& v = vmcs01();
    v.words = of_l1.words;
    v.has_host_state = true;
    v.set(field::virtual_processor_identifier, vpid01());
    v.set(field::secondary_processor_based_vm_execution_controls,
          v.get(field::secondary_processor_based_vm_execution_controls) & ~vmx::secondary::vmcs_shadowing);
    v.set(field::vmread_bitmap_address, 0);
    v.set(field::vmwrite_bitmap_address, 0);
    v.set(field::vmcs_link_pointer, ~0ULL);
    v.set(field::cr0_guest_host_mask, x86::cr0::numeric_error);
    EXPECT_EQ(restore_state(state), std::nullopt);
    EXPECT_EQ(v.get(field::cr0_guest_host_mask), of_l1.get(field::cr0_guest_host_mask));
    EXPECT_EQ(v.get(field::secondary_processor_based_vm_execution_controls),
              of_l1.get(field::secondary_processor_based_vm_execution_controls));
    EXPECT_EQ(save_state(), state);
}

void VirtualCpu::reset_engine() {
    engine_->reset();
}

VirtualCpu::~VirtualCpu() = default;

// --- instructions

Outcome VirtualCpu::execute(ExitReason reason, const vmx::InstructionOperands& operands,
                            std::uint64_t displacement, std::uint64_t type) {
    if (operands.register2 != 4 && type != 0) port.registers.at(operands.register2) = type;
    // No mode but the 64-bit one has 64-bit addresses.
    vmx::InstructionOperands encoded = operands;
    if ((vmcs01().get(field::guest_ia32_efer) & x86::efer::long_mode_active) == 0)
        encoded.address_bits = std::min(encoded.address_bits, 32U);
    return execute_raw(reason, encoded.encode().value, displacement);
}

Outcome VirtualCpu::execute_raw(ExitReason reason, std::uint32_t instruction_information,
                                std::uint64_t displacement) {
    if (port.current() != vmcs01_) throw std::logic_error("L1 executes an instruction while L2 runs");
    FakeVmcs& v = vmcs01();
    v.set(field::exit_reason, static_cast<std::uint32_t>(reason));
    v.set(field::vm_exit_instruction_information, instruction_information);
    v.set(field::exit_qualification, displacement);
    v.set(field::vm_exit_instruction_length, instruction_length);
    // All six, so that VMsucceed has something to clear.
    v.set(field::guest_rflags, x86::rflags::fixed_one | x86::rflags::arithmetic | extra_rflags);
    const std::uint64_t rip = v.get(field::guest_rip);
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
    for (begun_again = 0;; ++begun_again) {
        const Outcome outcome = settle(engine_->handle_vmx_instruction(reason), rip);
        if (outcome.kind != Outcome::Kind::begins_again) return outcome;
        // The exit saves RF as 0 (SDM 3C 28.3.3).
        v.set(field::guest_rflags, v.get(field::guest_rflags) & ~x86::rflags::resume);
    }
}

Outcome VirtualCpu::with_pointer(ExitReason reason, std::uint64_t pointer) {
    port.memory.write(layout::operand, pointer);
    port.registers.at(rbx) = layout::operand;
    return execute(reason, at_rbx);
}

Outcome VirtualCpu::vmxon(std::uint64_t region) {
    if (L1Memory::has(region) && port.memory.read<std::uint32_t>(region & ~0xfffULL) == 0) {
        port.memory.write(region & ~0xfffULL, nested::vmcs12_revision);
    }
    return with_pointer(ExitReason::vmxon, region);
}

Outcome VirtualCpu::vmptrst() {
    port.registers.at(rbx) = layout::operand;
    return execute(ExitReason::vmptrst, at_rbx);
}

Outcome VirtualCpu::vmread(std::uint64_t encoding) {
    port.registers.at(rdx) = encoding;
    if (FakeVmcs* shadow = shadow_for(vmcs01(), encoding, false)) {
        port.registers.at(rax) = read_component(*shadow, encoding);
        return vm_succeed;
    }
    return execute(ExitReason::vmread, rax_and_rdx);
}

Outcome VirtualCpu::vmwrite(std::uint64_t encoding, std::uint64_t value) {
    port.registers.at(rdx) = encoding;
    port.registers.at(rax) = value;
    if (FakeVmcs* shadow = shadow_for(vmcs01(), encoding, true)) {
        write_component(*shadow, encoding, value);
        return vm_succeed;
    }
    return execute(ExitReason::vmwrite, rax_and_rdx);
}

Outcome VirtualCpu::l2_vmread(std::uint64_t encoding) {
    port.registers.at(rdx) = encoding;
    if (FakeVmcs* shadow = shadow_for(vmcs02(), encoding, false)) {
        port.registers.at(rax) = read_component(*shadow, encoding);
        return l2_runs;
    }
    return l2_exits({.reason = ExitReason::vmread,
                     .instruction_length = instruction_length,
                     .instruction_information = rax_and_rdx.encode().value});
}

Outcome VirtualCpu::l2_vmwrite(std::uint64_t encoding, std::uint64_t value) {
    port.registers.at(rdx) = encoding;
    port.registers.at(rax) = value;
    if (FakeVmcs* shadow = shadow_for(vmcs02(), encoding, true)) {
        write_component(*shadow, encoding, value);
        return l2_runs;
    }
    return l2_exits({.reason = ExitReason::vmwrite,
                     .instruction_length = instruction_length,
                     .instruction_information = rax_and_rdx.encode().value});
}

std::uint64_t VirtualCpu::read_component(FakeVmcs& vmcs, std::uint64_t encoding) {
    const std::uint64_t value = vmcs.word(static_cast<std::uint32_t>(encoding) & ~1U);
    return vmx::is_high(encoding) ? value >> 32 : value;
}

void VirtualCpu::write_component(FakeVmcs& vmcs, std::uint64_t encoding, std::uint64_t value) {
    const std::uint32_t whole = static_cast<std::uint32_t>(encoding) & ~1U;
    std::uint64_t& word = vmcs.word(whole);
    word = vmx::is_high(encoding) ? value << 32 | (word & 0xffff'ffff) : value & nested::field_mask(whole);
}

// As SDM 3C 31.3, VMREAD, does it in VMX non-root operation. nullptr: it exits, or there is no shadow VMCS.
FakeVmcs* VirtualCpu::shadow_for(FakeVmcs& v, std::uint64_t encoding, bool write) {
    if ((v.get(field::secondary_processor_based_vm_execution_controls) & vmx::secondary::vmcs_shadowing) ==
        0) {
        return nullptr;
    }
    if (encoding >= 0x8000) return nullptr;
    const x86::Hpa bitmap{write ? v.get(field::vmwrite_bitmap_address) : v.get(field::vmread_bitmap_address)};
    const auto* bits = reinterpret_cast<const std::uint8_t*>(port.page(bitmap));
    if ((bits[encoding / 8] >> (encoding % 8) & 1) != 0) return nullptr;
    const std::uint64_t link = v.get(field::vmcs_link_pointer);
    if (link == ~0ULL) return nullptr;
    FakeVmcs& shadow = port.vmcs(x86::Hpa{link});
    if (!shadow.shadow) throw std::logic_error("the VMCS link pointer names an ordinary VMCS");
    return &shadow;
}

Outcome VirtualCpu::invept(std::uint64_t type, std::uint64_t eptp, std::uint64_t reserved) {
    port.memory.write(layout::operand, eptp);
    port.memory.write(layout::operand + 8, reserved);
    port.registers.at(rbx) = layout::operand;
    port.registers.at(rdx) = type;
    return execute(ExitReason::invept, at_rbx);
}

Outcome VirtualCpu::invvpid(std::uint64_t type, std::uint64_t vpid, std::uint64_t address) {
    port.memory.write(layout::operand, vpid);
    port.memory.write(layout::operand + 8, address);
    port.registers.at(rbx) = layout::operand;
    port.registers.at(rdx) = type;
    return execute(ExitReason::invvpid, at_rbx);
}

std::uint64_t VirtualCpu::read_raw(std::uint32_t encoding) {
    const Outcome outcome = vmread(encoding);
    EXPECT_EQ(outcome, vm_succeed) << "VMREAD of " << vmx::name_of(encoding);
    return value_read();
}

void VirtualCpu::write_raw(std::uint32_t encoding, std::uint64_t value) {
    const Outcome outcome = vmwrite(encoding, value);
    EXPECT_EQ(outcome, vm_succeed) << "VMWRITE of " << vmx::name_of(encoding);
}

// --- what the processor does next

Outcome VirtualCpu::settle(nested::Entry entry, std::uint64_t rip_before) {
    // An entry may fail, which the engine hears of; then it has made L1 current.
    for (unsigned attempt = 0; attempt < 3; ++attempt) {
        if (entry == nested::Entry::the_hosts) {
            EXPECT_TRUE(in_l2());
            EXPECT_EQ(port.current(), vmcs02_);
            return hosts_exit;
        }
        look_at_events(entry);
        if (port.current() == vmcs01_) {
            EXPECT_EQ(entry == nested::Entry::vmresume, !has_moved_ || vmcs01().launched)
                << "the launch state of vmcs01";
            return enter_l1(rip_before);
        }
        vmcs02_ = port.current();
        FakeVmcs& v = vmcs02();
        EXPECT_TRUE(in_l2());
        EXPECT_FALSE(v.shadow) << "VM entry with a shadow VMCS";
        EXPECT_EQ(v.launched, entry == nested::Entry::vmresume) << "the launch state of vmcs02";
        expect_vmcs02_is_safe();
        if (before_entry) before_entry();
        if (refusal) {
            entry = refuse(v, *std::exchange(refusal, std::nullopt));
            continue;
        }
        injected_ = v.get(field::vm_entry_interruption_information);
        const auto verdict = processor_verdict(v, hardware, vmcs02_, port);
        if (verdict) {
            v.launched = true;
            note_taken(v, taken_by_l2);
            take_nmi(v, nmis_in_l2);
            take_machine_check(v, machine_checks_in_l2);
            return l2_runs;
        }
        refused_rule = name_of(verdict.error());
        if (nested::is_host_state_check(verdict.error())) {
            ADD_FAILURE() << "the processor refuses vmcs02's host state: " << name_of(verdict.error());
        }
        if (!nested::is_guest_state_check(verdict.error())) {
            const auto failed =
                engine_->handle_failed_entry(nested::is_control_check(verdict.error()) ? 7 : 8);
            EXPECT_TRUE(failed);
            entry = failed.value_or(nested::Entry::vmresume);
            continue;
        }
        v.set(field::exit_reason,
              vmx::ExitReasonField::entry_failure(ExitReason::entry_failure_guest_state).value);
        v.set(field::exit_qualification,
              static_cast<std::uint64_t>(nested::exit_qualification_of(verdict.error())));
        entry = engine_->handle_l2_exit(v.get(field::exit_reason));
    }
    ADD_FAILURE() << "no guest can be entered";
    return {};
}

// What the host has, right before an entry.
void VirtualCpu::look_at_events(nested::Entry& entry) {
    using nested::Event;
    const auto is_given = [&](const Event& event) {
        return engine_->deliver(event, entry) == nested::Delivery::given;
    };
    if (!has_one_queue) {
        if (port.machine_check_pending && is_given(Event::machine_check()))
            port.machine_check_pending = false;
        if (port.nmi_pending) {
            port.nmi_pending = false;
            if (!is_given(Event::nmi())) port.nmi_pending = true;
        }
        return;
    }
    if (std::exchange(port.machine_check_pending, false)) events.add(Event::machine_check());
    if (std::exchange(port.nmi_pending, false)) events.add(Event::nmi());
    for (const std::uint8_t vector : std::exchange(port.interrupts_returned, {}))
        events.add(Event::interrupt(vector));
    if (events.empty()) return;
    const nested::HostsPart hosts = engine_->deliver(events, entry);
    if (hosts.reset) left_to_host.push_back(Event::init());
    if (hosts.start_up) left_to_host.push_back(Event::start_up(*hosts.start_up));
}

// The entry fails: the processor leaves the event where it is.
nested::Entry VirtualCpu::refuse(FakeVmcs& v, Refusal how) {
    if (how == Refusal::vmfail) {
        const auto entry = engine_->handle_failed_entry(
            static_cast<std::uint32_t>(InstructionError::entry_with_invalid_control_fields));
        EXPECT_TRUE(entry);
        return entry.value_or(nested::Entry::vmresume);
    }
    const auto reason = how == Refusal::guest_state     ? ExitReason::entry_failure_guest_state
                        : how == Refusal::machine_check ? ExitReason::entry_failure_machine_check
                                                        : ExitReason::entry_failure_msr_loading;
    v.set(field::exit_reason, vmx::ExitReasonField::entry_failure(reason).value);
    v.set(field::exit_qualification, how == Refusal::msr_list ? 1 : 0);
    return engine_->handle_l2_exit(v.get(field::exit_reason));
}

// The entry succeeded: an NMI that it injects blocks further ones.
bool VirtualCpu::take_nmi(FakeVmcs& v, unsigned& taken) {
    if (v.get(field::vm_entry_interruption_information) != vmx::InterruptionInformation::nmi().value)
        return false;
    const std::uint32_t state = v.get(field::guest_interruptibility_state);
    v.set(field::guest_interruptibility_state, state | vmx::interruptibility::blocking_by_nmi);
    ++taken;
    return true;
}

void VirtualCpu::note_taken(FakeVmcs& v, std::vector<std::uint8_t>& taken) {
    const vmx::InterruptionInformation event{v.get(field::vm_entry_interruption_information)};
    if (event.is_valid()) taken.push_back(event.vector());
    // The guest runs again, and with something to do (SDM 3C 27.7.2), and its debug exception is delivered or
    // lost (27.7.3).
    if (!has_one_queue) return;
    if (event.is_valid()) v.set(field::guest_activity_state, 0);
    v.set(field::guest_pending_debug_exceptions, 0);
}

bool VirtualCpu::take_machine_check(FakeVmcs& v, unsigned& taken) {
    if (v.get(field::vm_entry_interruption_information) !=
        vmx::InterruptionInformation::exception(x86::Vector::machine_check).value)
        return false;
    ++taken;
    return true;
}

Outcome VirtualCpu::enter_l1(std::uint64_t rip_before) {
    FakeVmcs& v = vmcs01();
    EXPECT_FALSE(in_l2());
    const auto verdict = processor_verdict(v, hardware, vmcs01_, port);
    if (!verdict)
        ADD_FAILURE() << "the processor refuses vmcs01: " << name_of(verdict.error()) << std::hex << ", RIP "
                      << v.get(field::guest_rip);
    v.launched = true;
    vmx::InterruptionInformation event{v.get(field::vm_entry_interruption_information)};
    const bool is_hosts_interrupt =
        has_one_queue && event.is_valid() && event.type() == vmx::InterruptionType::external_interrupt;
    const bool is_hosts =
        take_nmi(v, nmis_in_l1) || take_machine_check(v, machine_checks_in_l1) || is_hosts_interrupt;
    if (is_hosts) {
        note_taken(v, taken_by_l1);
        v.set(field::vm_entry_interruption_information, 0);
        event = {};
    }
    const std::uint64_t rip = v.get(field::guest_rip);
    if (event.is_valid()) {
        v.set(field::vm_entry_interruption_information, 0);
        EXPECT_EQ(rip, rip_before) << "a fault leaves RIP at the instruction";
        EXPECT_NE(v.get(field::guest_rflags) & x86::rflags::resume, 0U) << "in the image that a fault saves";
        return {Outcome::Kind::faulted, event.vector(),
                event.has_error_code() ? std::optional{v.get(field::vm_entry_exception_error_code)}
                                       : std::nullopt};
    }
    const bool ia32e_mode = (v.get(field::guest_ia32_efer) & x86::efer::long_mode_active) != 0;
    if (rip == ((rip_before + instruction_length) & (ia32e_mode ? ~0ULL : 0xffff'ffff))) {
        const std::uint64_t rflags = v.get(field::guest_rflags);
        EXPECT_EQ(rflags & ~x86::rflags::arithmetic, x86::rflags::fixed_one | extra_rflags);
        switch (rflags & x86::rflags::arithmetic) {
            case 0:
                return vm_succeed;
            case x86::rflags::carry:
                return vm_fail_invalid;
            case x86::rflags::zero: {
                // Nothing comes while the test looks.
                const nested::PendingEvents kept = std::exchange(events, {});
                const auto error = static_cast<std::uint32_t>(read(field::vm_instruction_error));
                events = kept;
                return vm_fail(error);
            }
            default:
                ADD_FAILURE() << "RFLAGS are neither VMsucceed's nor VMfail's: " << std::hex << rflags;
                return {};
        }
    }
    if (rip == rip_before && (v.get(field::guest_rflags) & x86::rflags::resume) != 0)
        return {Outcome::Kind::begins_again, 0, {}};
    for (std::uint32_t reason = 0; reason < nested::exit_reason_count; ++reason) {
        if (counters().reflected.at(reason) != reflected_before_.at(reason)) {
            return {Outcome::Kind::l1_sees_exit, reason, {}};
        }
    }
    ADD_FAILURE() << "L1 is at " << std::hex << rip;
    return {};
}

// What no vmcs02 may ever hold, whatever L1 wrote.
void VirtualCpu::expect_vmcs02_is_safe() {
    FakeVmcs& v = vmcs02();
    EXPECT_TRUE(v.has_host_state);
    for (const vmx::NamedField& named : vmx::all_fields) {
        if (vmx::kind(named.encoding) != vmx::FieldKind::host_state) continue;
        EXPECT_EQ(v.word(named.encoding), l0_host_state(named.encoding)) << named.name;
    }
    EXPECT_EQ(v.get(field::vm_exit_msr_store_count), 0U);
    EXPECT_EQ(v.get(field::vm_exit_msr_load_count), 0U);
    EXPECT_EQ(v.get(field::vm_entry_msr_load_count), 0U);
    const std::uint32_t primary = v.get(field::primary_processor_based_vm_execution_controls);
    const std::uint32_t secondary = v.get(field::secondary_processor_based_vm_execution_controls);
    EXPECT_NE(secondary & vmx::secondary::enable_ept, 0U) << "L2 would run on physical memory";
    const std::uint64_t eptp = v.get(field::ept_pointer);
    EXPECT_TRUE(eptp == FakePort::ept01 || port.has_page(eptp));
    constexpr std::uint32_t never =
        vmx::secondary::enable_vm_functions | vmx::secondary::enable_pml | vmx::secondary::ept_violation_ve;
    EXPECT_EQ(secondary & never, 0U);
    expect_link_is_safe(v);
    if ((primary & vmx::primary::use_msr_bitmaps) != 0) {
        EXPECT_TRUE(port.has_page(v.get(field::address_of_msr_bitmaps)));
    }
    // A page of L1's, or the page that stands for none.
    const auto expect_not_l0s = [&](bool used, auto which) {
        const std::uint64_t address = v.get(which);
        // The processor writes to the virtual-APIC page: for none there is one that is ones at each entry.
        if (which.encoding == field::virtual_apic_address.encoding && used && port.is_all_ones(address))
            return;
        if (used && !L1Memory::has(address - FakePort::host_offset - port.moved_by)) {
            EXPECT_EQ(address & ~0xfffULL, port.host_mapping(x86::Gpa<x86::L1>{~0xfffULL}).address.value())
                << vmx::name_of(which.encoding);
        }
    };
    const bool io_bitmaps = (primary & vmx::primary::use_io_bitmaps) != 0;
    EXPECT_TRUE(port.kept_ports.empty() || io_bitmaps ||
                (primary & vmx::primary::unconditional_io_exiting) != 0);
    for (unsigned half = 0; half < 2; ++half) {
        const auto which = half == 0 ? field::address_of_io_bitmap_a : field::address_of_io_bitmap_b;
        // The host's own, or a copy.
        const bool is_l0s = !port.kept_ports.empty() && port.has_page(v.get(which));
        expect_not_l0s(io_bitmaps && !is_l0s, which);
        for (const std::uint16_t number : port.kept_ports) {
            if (!io_bitmaps || number >> 15 != half) continue;
            ASSERT_TRUE(is_l0s);
            const std::uint64_t word = port.page(x86::Hpa{v.get(which)})[(number & 0x7fff) / 64];
            EXPECT_NE(word & 1ULL << number % 64, 0U) << "port " << number << " is the host's";
        }
    }
    expect_not_l0s((primary & vmx::primary::use_tpr_shadow) != 0, field::virtual_apic_address);
    expect_not_l0s((secondary & vmx::secondary::virtualize_apic_accesses) != 0, field::apic_access_address);
    if (vpid01() != 0) {
        EXPECT_NE(secondary & vmx::secondary::enable_vpid, 0U);
    }
}

nested::FieldSet VirtualCpu::fields_of_l1() const {
    return nested::detail::supported_fields(capabilities);
}

// What L2 reaches by VMREAD and VMWRITE: a shadow VMCS of L0's, and of it nothing but L1's fields.
void VirtualCpu::expect_link_is_safe(FakeVmcs& v) {
    const std::uint64_t link = v.get(field::vmcs_link_pointer);
    if ((v.get(field::secondary_processor_based_vm_execution_controls) & vmx::secondary::vmcs_shadowing) ==
        0) {
        EXPECT_EQ(link, ~0ULL);
        return;
    }
    if (link != ~0ULL) {
        EXPECT_TRUE(port.vmcs(x86::Hpa{link}).shadow);
        EXPECT_NE(link, vmcs01().get(field::vmcs_link_pointer)) << "L1's own way to its VMCS";
    }
    const nested::FieldSet fields = fields_of_l1();
    for (const auto which : {field::vmread_bitmap_address, field::vmwrite_bitmap_address}) {
        ASSERT_TRUE(port.has_page(v.get(which)));
        const auto* bits = reinterpret_cast<const std::uint8_t*>(port.page(x86::Hpa{v.get(which)}));
        for (std::uint32_t encoding = 0; encoding < 0x8000; ++encoding) {
            if ((bits[encoding / 8] >> (encoding % 8) & 1) != 0) continue;
            const int index = vmx::is_well_formed(encoding) ? vmx::dense_index(encoding & ~1U) : -1;
            EXPECT_TRUE(index >= 0 && fields.contains(static_cast<std::size_t>(index)) &&
                        (!vmx::is_high(encoding) || vmx::width(encoding) == vmx::FieldWidth::bits64))
                << std::hex << encoding;
        }
    }
}

// --- L2

void VirtualCpu::put_exit(const L2Exit& exit) {
    if (port.current() != vmcs02_ || !in_l2()) throw std::logic_error("an exit of L2 while L1 runs");
    FakeVmcs& v = vmcs02();
    v.set(field::exit_reason, static_cast<std::uint32_t>(exit.reason));
    v.set(field::exit_qualification, exit.qualification);
    v.set(field::vm_exit_interruption_information, exit.interruption);
    v.set(field::vm_exit_interruption_error_code, exit.error_code);
    v.set(field::idt_vectoring_information, exit.vectoring);
    v.set(field::idt_vectoring_error_code, exit.vectoring_error_code);
    v.set(field::vm_exit_instruction_length, exit.instruction_length);
    v.set(field::vm_exit_instruction_information, exit.instruction_information);
    v.set(field::guest_physical_address, exit.guest_physical);
    v.set(field::guest_linear_address, exit.guest_linear);
    v.set(field::vm_entry_interruption_information,
          v.get(field::vm_entry_interruption_information) & ~vmx::InterruptionInformation::valid_bit);
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
}

Outcome VirtualCpu::l2_exits(const L2Exit& exit) {
    put_exit(exit);
    return settle(engine_->handle_l2_exit(static_cast<std::uint32_t>(exit.reason)), 0);
}

Outcome VirtualCpu::l2_meets_exception_for_the_host(const L2Exit& exit) {
    put_exit(exit);
    return settle(engine_->pass_exception_on(), 0);
}

Outcome VirtualCpu::resume() {
    return settle(engine_->resume(), 0);
}
Outcome VirtualCpu::resume_behind_instruction() {
    return settle(engine_->resume_behind_instruction(), 0);
}
Outcome VirtualCpu::resume_with_fault(const nested::Fault& fault) {
    return settle(engine_->resume_with_fault(fault), 0);
}

Outcome VirtualCpu::l2_executes_cpuid() {
    return l2_exits({.reason = ExitReason::cpuid, .instruction_length = 2});
}

Outcome VirtualCpu::hardware_refuses_entry(std::uint32_t error) {
    const std::uint64_t rip = vmcs01().get(field::guest_rip);
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
    const auto entry = engine_->handle_failed_entry(error);
    return entry ? settle(*entry, rip) : Outcome{};
}

Outcome VirtualCpu::hardware_refuses_state() {
    FakeVmcs& v = vmcs02();
    v.set(field::exit_reason,
          vmx::ExitReasonField::entry_failure(ExitReason::entry_failure_guest_state).value);
    std::copy(counters().reflected.begin(), counters().reflected.end(), reflected_before_.begin());
    return settle(engine_->handle_l2_exit(v.get(field::exit_reason)), 0);
}

std::optional<VirtualCpu::Leaf> VirtualCpu::ept02_leaf(std::uint64_t guest_physical) {
    const std::uint64_t eptp = vmcs02().get(field::ept_pointer);
    std::uint64_t table = vmx::Eptp{eptp}.root();
    std::uint64_t permissions = 7;
    for (unsigned level = 4;; --level) {
        const std::uint64_t entry = port.page(x86::Hpa{table})[x86::table_index(guest_physical, level)];
        permissions &= entry;
        if (!vmx::ept_entry::is_present(entry)) return std::nullopt;
        EXPECT_FALSE(vmx::is_ept_misconfigured(entry, level, hardware.ept_vpid, physical_width + 1))
            << std::hex << entry;
        if (vmx::ept_entry::is_leaf(entry, level)) {
            const std::uint64_t in_page = x86::bytes_per_entry(level) - 1;
            return Leaf{(entry & vmx::ept_entry::address_mask & ~in_page) | (guest_physical & in_page), entry,
                        12 + 9 * (level - 1), permissions};
        }
        table = vmx::ept_entry::table_address(entry);
    }
}

Outcome VirtualCpu::l2_touches(std::uint64_t guest_physical, std::uint64_t access,
                               std::uint64_t qualification_bits) {
    for (unsigned attempt = 0; attempt < 4; ++attempt) {
        const auto leaf = ept02_leaf(guest_physical);
        const std::uint64_t permissions = leaf ? leaf->permissions : 0;
        if ((access & ~permissions) == 0) return l2_runs;
        const Outcome outcome = l2_exits({.reason = ExitReason::ept_violation,
                                          .qualification = access | permissions << 3 | qualification_bits,
                                          .guest_physical = guest_physical,
                                          .guest_linear = guest_physical + 0x7000'0000});
        if (outcome != l2_runs) return outcome;
    }
    ADD_FAILURE() << "an EPT violation again and again at " << std::hex << guest_physical;
    return {};
}

std::uint16_t VirtualCpu::l2_tag() {
    const bool enabled = (vmcs02().get(field::secondary_processor_based_vm_execution_controls) &
                          vmx::secondary::enable_vpid) != 0;
    return enabled ? vmcs02().get(field::virtual_processor_identifier) : std::uint16_t{0};
}

}  // namespace flatback::nested_test
