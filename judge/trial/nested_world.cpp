#include "judge/trial/nested_world.hpp"

#include <algorithm>
#include <array>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "host/l1_exits.hpp"
#include "host/vmcs01.hpp"
#include "judge/trial/l1_space.hpp"
#include "judge/trial/machine_port.hpp"
#include "machine/program/layout.hpp"
#include "nested/vcpu.hpp"
#include "vmx/controls.hpp"
#include "vmx/ept.hpp"
#include "vmx/exit_qualification.hpp"
#include "vmx/field.hpp"
#include "vmx/field_table.hpp"
#include "vmx/interruption.hpp"
#include "x86/control_registers.hpp"
#include "x86/msr.hpp"

namespace flatback::tag {

// An exception of the machine (a bound was reached) may pass through the engine.
void unpaid_flush(const FlushTarget&) noexcept {
    if (std::uncaught_exceptions() == 0) std::terminate();
}

}  // namespace flatback::tag

namespace flatback::machine {

namespace field = vmx::field;

namespace {

using Engine = nested::NestedVcpu<MachinePort>;

/// What host/ asks of the processor itself, of which the machine models little: of CPUID no leaf, no caches
/// and no XCR0.
struct TrialProcessor {
    Registers& registers;

    static host::CpuidRegisters cpuid(std::uint32_t, std::uint32_t) { return {}; }
    static host::CpuidRegisters hypervisor_leaf(std::uint32_t, std::uint32_t) { return {}; }
    static bool apic_enabled() { return true; }
    void set_cache_control(std::uint64_t bits) {
        constexpr std::uint64_t all = x86::cr0::cache_disable | x86::cr0::not_write_through;
        registers.cr0 = (registers.cr0 & ~all) | bits;
    }
    static bool write_xcr0(std::uint64_t) { return false; }
    static void write_back_caches() {}
};
static_assert(host::Processor<TrialProcessor>);

/// As the boot loader leaves them; it sets CR4.VMXE (machine/program/runner.cpp).
host::L1State state_of(const Registers& start) {
    host::L1State state{.cr0 = start.cr0,
                        .cr3 = start.cr3,
                        .cr4 = start.cr4 | x86::cr4::vmx_enable,
                        .efer = start.efer,
                        .pat = start.pat,
                        .dr7 = start.dr7,
                        .rip = start.rip,
                        .rflags = start.rflags,
                        .gdtr = {start.gdtr.base, start.gdtr.limit},
                        .idtr = {start.idtr.base, start.idtr.limit}};
    for (std::size_t index = 0; index < start.segments.size(); ++index) {
        const Segment& segment = start.segments[index];
        state.segments[index] = {segment.selector, segment.base, segment.limit, segment.access_rights};
    }
    return state;
}

vmx::Capabilities capabilities_of(const ProcessorModel& hardware) {
    return vmx::Capabilities::from_msrs(
        [&](std::uint32_t msr) { return hardware.vmx.read(msr).value_or(0); });
}

Machine::Options machine_options(const NestedWorld::Options& options) {
    Machine::Options machine;
    machine.cpus = options.processors;
    machine.memory.limit_bytes = options.memory_bytes;
    machine.retentive.entry_limit = options.entry_limit;
    // L1's counter begins at 0.
    if (options.random_host != 0)
        machine.tsc = 0 - RandomHost::tsc_offset / (options.host_scales_tsc ? RandomHost::tsc_rate : 1);
    return machine;
}

NestedWorld::Options::Interrupts interrupts_of(const NestedWorld::Options& options) {
    using Interrupts = NestedWorld::Options::Interrupts;
    constexpr std::array all = {Interrupts::are_l1s, Interrupts::l0_acknowledges_as_they_go_in,
                                Interrupts::l0_knows_the_vector};
    return options.random_host == 0 ? options.interrupts : all[options.random_host % all.size()];
}

/// Of the host's own; no program has it.
constexpr std::uint8_t hosts_vector = 0xF3;

/// As a host learns of them: by RDMSR, and by a VMREAD of each field.
nested::Capabilities capabilities_for(const ProcessorModel& hardware, tag::Policy tags) {
    nested::FieldSet fields;
    for (std::size_t index = 0; index < vmx::field_count; ++index) {
        if (hardware.has_field(vmx::all_fields[index].encoding)) fields.insert(index);
    }
    return nested::make_capabilities(capabilities_of(hardware), hardware.physical_address_bits,
                                     tags != tag::Policy::off, fields);
}

/// What a host that moves a virtual CPU takes along of vmcs01, beside what the engine saves.
const std::vector<std::uint32_t>& l1s_own_in_vmcs01() {
    static const std::vector<std::uint32_t> encodings = [] {
        std::vector<std::uint32_t> found{field::cr0_read_shadow.encoding,
                                         field::cr4_read_shadow.encoding,
                                         field::vm_entry_controls.encoding,
                                         field::vm_entry_interruption_information.encoding,
                                         field::vm_entry_exception_error_code.encoding,
                                         field::vm_entry_instruction_length.encoding};
        const ProcessorModel model = full_processor_model();
        for (const vmx::NamedField& named : vmx::all_fields) {
            if (vmx::kind(named.encoding) == vmx::FieldKind::guest_state &&
                named.encoding != field::vmcs_link_pointer.encoding && model.has_field(named.encoding))
                found.push_back(named.encoding);
        }
        return found;
    }();
    return encodings;
}

const char* name_of_check(const Completion& completion) {
    return completion.failed_check != nullptr ? completion.failed_check : "";
}

}  // namespace

struct NestedWorld::Host {
    Host(Machine& machine, const Options& options)
        : pages(machine.memory(),
                std::min(options.memory_bytes / x86::page_size, options.l0_pages) * x86::page_size),
          capabilities(capabilities_for(machine.model(), options.tags)),
          l0{.machine = machine,
             .pages = pages,
             .capabilities = capabilities,
             .msr_bitmap = pages.allocate().value_or(0),
             .nothing = pages.allocate().value_or(0),
             .defect = options.defect,
             .record_flushes = options.record_flushes,
             .keeps_pages = options.keeps_bitmaps} {
        pools.push_back(std::make_unique<tag::VpidPool>(options.vpids));
        host::fill_msr_bitmap(host::MsrBitmap{machine.memory().direct_page(l0.msr_bitmap)});
        machine.memory().note_direct_writes();
        for (unsigned cpu = 0; cpu < machine.cpu_count(); ++cpu) {
            const std::uint64_t region = pages.allocate().value_or(0);
            machine.memory().write(region, machine.model().vmx.revision());
            machine.start_vmx_operation(cpu, region);
        }
    }

    [[nodiscard]] tag::VpidPool& pool() { return *pools.back(); }

    L0Pages pages;
    std::vector<std::unique_ptr<tag::VpidPool>> pools{};  // of this L0, and of those before it
    nested::Capabilities capabilities;
    L0Host l0;
};

struct NestedWorld::VirtualCpu {
    VirtualCpu(Host& host, L1Space& space, const Options& options, unsigned of_vm, unsigned processor)
        : vm(of_vm),
          port(host.l0, space, apic, processor),
          vmcs01(first_page(port)),
          engine(port, host.capabilities, host.pool(), vmcs01,
                 {.tags = options.tags, .shadow_vmcs = options.shadow_vmcs, .learning = options.learning}) {}

    static x86::Hpa first_page(MachinePort& port) {
        const x86::Hpa page = *port.allocate_page();
        port.set_vmcs01(page);
        return page;
    }

    unsigned vm;
    LocalApic apic;  // as L1 has it; where L0 has the interrupts, one that L0 makes
    MachinePort port;
    x86::Hpa vmcs01;
    Engine engine;
    /// What no VMCS holds, while the virtual CPU is off its processor.
    Registers saved = kernel_registers(0);
    bool on_processor = false;
    // An NMI of this virtual CPU's: still to come, at the next exit; with the processor, which cannot take
    // it; with L0.
    bool nmi_armed = false;
    bool nmi_latched = false;
    bool nmi_with_l0 = false;
    bool nmi_owed = false;  // the same, whatever a defective L0 makes of it
    // The same of an INIT; and a start-up IPI that has just come.
    bool init_armed = false;
    bool init_latched = false;
    bool init_with_l0 = false;
    bool init_offered = false;  // to the engine, since it was last told what the host demands
    std::optional<std::uint8_t> start_up_with_l0{};
    bool restored = false;  // and has not run since
    bool has_left = false;  // its processor, and has entered none yet
    // External interrupts that are still to come, at the next exit; where L0 has them all: with the
    // processor's own interrupt controller, which cannot interrupt the guest yet.
    std::vector<std::uint8_t> interrupts_armed{};
    LocalApic controller{};
    bool acknowledges = false;                 // L0 demands it, of L2's exits
    std::optional<std::uint64_t> turn_ends{};  // that L0 demands
    bool offered = false;                      // L0 had something for the guest at its last entry
    bool needs_an_offer = false;  // L0 has had no occasion, since it took over or demanded something else
    bool forgot = false;          // a defective L0
    bool drops_taken_page_late = false;  // a defective L0 again: behind its next entry

    template <vmx::FieldWidth W, vmx::FieldKind K>
    vmx::field_value_t<W> get(vmx::Field<W, K> what) {
        return static_cast<vmx::field_value_t<W>>(port.vmread(what.encoding));
    }
    void put(auto what, std::uint64_t value) { port.vmwrite(what.encoding, value); }
    void set_up_vmcs01(const Host& host, const L1Space& space, const host::L1State& state);
};

struct NestedWorld::VirtualMachine {
    VirtualMachine(PhysicalMemory& memory, L0Pages& pages, unsigned vm) : space(memory, pages, vm) {}

    L1Space space;
    std::vector<std::unique_ptr<VirtualCpu>> vcpus{};
};

ProcessorModel NestedWorld::l1_model(const Options& options) {
    ProcessorModel model = full_processor_model();
    const nested::Capabilities capabilities = capabilities_for(model, options.tags);
    // What the promise means is for the machine's own rules to say.
    model.under_hypervisor = true;
    model.vmx =
        rules::capabilities_of([&](std::uint32_t msr) { return capabilities.promised.read_msr(msr); });
    return model;
}

NestedWorld::NestedWorld(const Options& options)
    : options_(options),
      model_(l1_model(options)),
      machine_(machine_options(options)),
      host_(std::make_unique<Host>(machine_, options)),
      running_(options.processors),
      interrupts_(interrupts_of(options)),
      random_(options.random_host) {
    create_vm(0, options.vcpus);
}

NestedWorld::~NestedWorld() = default;

unsigned NestedWorld::vcpu_count(unsigned vm) const {
    return vm < vms_.size() && vms_[vm] != nullptr ? static_cast<unsigned>(vms_[vm]->vcpus.size()) : 0;
}

Actor NestedWorld::running(unsigned vm, unsigned vcpu) const {
    return vms_[vm]->vcpus[vcpu]->engine.in_l2() ? Actor::l2 : Actor::l1;
}

Registers& NestedWorld::registers(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    // The caller may change them.
    machine_.registers_changed(guest.port.processor());
    return machine_.cpu(guest.port.processor()).registers;
}

Registers NestedWorld::visible_registers(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    Registers seen = machine_.cpu(guest.port.processor()).registers;
    const auto visible = [&](std::uint64_t real, auto mask, auto shadow) {
        return (real & ~guest.get(mask)) | (guest.get(shadow) & guest.get(mask));
    };
    seen.cr0 = visible(seen.cr0, field::cr0_guest_host_mask, field::cr0_read_shadow);
    seen.cr4 = visible(seen.cr4, field::cr4_guest_host_mask, field::cr4_read_shadow);
    return seen;
}

unsigned NestedWorld::processor_of(unsigned vm, unsigned vcpu) const {
    return vms_[vm]->vcpus[vcpu]->port.processor();
}

std::uint16_t NestedWorld::running_tag(unsigned vm, unsigned vcpu) {
    return machine_.translation_context(on_processor(vm, vcpu).port.processor()).vpid;
}

std::uint16_t NestedWorld::vpid01(unsigned vm, unsigned vcpu) const {
    return tag::raw(vms_[vm]->vcpus[vcpu]->engine.vpid01());
}

std::uint32_t NestedWorld::tags_owned() const {
    return host_->pool().owned();
}

std::uint64_t NestedWorld::copies_taken_for_current() const {
    std::uint64_t times = 0;
    for (const auto& machine : vms_) {
        if (machine == nullptr) continue;
        for (const auto& vcpu : machine->vcpus) times += vcpu->port.copies_taken_for_current();
    }
    return times;
}

const nested::Counters& NestedWorld::counters(unsigned vm, unsigned vcpu) {
    return vms_[vm]->vcpus[vcpu]->engine.counters();
}

std::vector<HardwareFlush> NestedWorld::take_flushes() {
    return std::exchange(host_->l0.flushes, {});
}

std::uint64_t NestedWorld::read(unsigned vm, std::uint64_t l1_physical) const {
    const auto place = vms_[vm]->space.host_of(l1_physical);
    return place ? machine_.memory().read(place->host) : 0;
}

void NestedWorld::write(unsigned vm, std::uint64_t l1_physical, std::uint64_t value) {
    if (const auto place = vms_[vm]->space.host_of(l1_physical)) machine_.memory().write(place->host, value);
}

// --- virtual CPUs and processors ---

void NestedWorld::VirtualCpu::set_up_vmcs01(const Host& host, const L1Space& space,
                                            const host::L1State& state) {
    port.write_host_state();
    nested::CurrentVmcs vmcs{port};
    const host::Vmcs01Places places{.ept01_pointer = vmx::Eptp{space.ept01_pointer()},
                                    .msr_bitmap = x86::Hpa{host.l0.msr_bitmap},
                                    .tag = engine.vpid01()};
    const auto done = host::set_up_vmcs01(vmcs, capabilities_of(host.l0.machine.model()), places, state);
    if (!done) throw EngineFailure(std::string("the processor lacks ") + done.error().name);
}

/// vmcs01 is current.
std::unique_ptr<NestedWorld::VirtualCpu> NestedWorld::make_vcpu(VirtualMachine& owner, unsigned vm,
                                                                unsigned processor) {
    auto guest = std::make_unique<VirtualCpu>(*host_, owner.space, options_, vm, processor);
    *guest->port.page(guest->vmcs01) = machine_.model().vmx.revision();
    guest->port.clear_vmcs(guest->vmcs01);
    guest->port.load_vmcs(guest->vmcs01);
    guest->set_up_vmcs01(*host_, owner.space, state_of(kernel_registers(0)));
    set_controls_of_vmcs01(*guest);
    demand(*guest, fewest_demands());
    if (host_->l0.keeps_pages) {
        VirtualCpu& it = *guest;
        it.port.share_kept_pages([&it](const std::byte* page) { it.engine.notice_writes_to(page); },
                                 [&it] { return it.engine.written_by_l0(); });
    }
    return guest;
}

/// What this host wants of L1 besides.
void NestedWorld::set_controls_of_vmcs01(VirtualCpu& guest) const {
    if (holds_interrupts()) {
        guest.put(field::pin_based_vm_execution_controls,
                  guest.get(field::pin_based_vm_execution_controls) | vmx::pin::external_interrupt_exiting);
    }
    if (options_.random_host != 0) {
        guest.put(field::primary_processor_based_vm_execution_controls,
                  guest.get(field::primary_processor_based_vm_execution_controls) |
                      vmx::primary::use_tsc_offsetting);
        guest.put(field::tsc_offset, RandomHost::tsc_offset);
    }
    if (options_.host_scales_tsc) {
        guest.put(field::secondary_processor_based_vm_execution_controls,
                  guest.get(field::secondary_processor_based_vm_execution_controls) |
                      vmx::secondary::use_tsc_scaling);
        guest.put(field::tsc_multiplier, RandomHost::tsc_multiplier);
    }
}

bool NestedWorld::create_vm(unsigned vm, unsigned vcpus) {
    if (vm >= vms_.size() || vms_[vm] != nullptr || vcpus == 0 || vcpus > layout::vcpus) return false;
    vms_[vm] = std::make_unique<VirtualMachine>(machine_.memory(), host_->pages, vm);
    VirtualMachine& made = *vms_[vm];
    for (unsigned index = 0; index < vcpus; ++index) {
        const unsigned processor = index % options_.processors;
        if (running_[processor] != nullptr) take_off(*running_[processor]);
        auto guest = make_vcpu(made, vm, processor);
        made.vcpus.push_back(std::move(guest));
    }
    return true;
}

bool NestedWorld::destroy_vm(unsigned vm) {
    if (vcpu_count(vm) == 0) return false;
    bool in_l2 = false;
    for (const auto& guest : vms_[vm]->vcpus) {
        in_l2 = in_l2 || guest->engine.in_l2();
        take_off(*guest);
        guest->port.move_to(guest->port.processor());  // clears what is active
    }
    if (options_.defect != nullptr && !options_.defect->gives_back(in_l2))
        kept_.push_back(std::move(vms_[vm]));
    vms_[vm].reset();
    return true;
}

bool NestedWorld::move_vcpu(unsigned vm, unsigned vcpu, unsigned processor) {
    if (processor >= options_.processors) return true;  // no bare machine can tell
    VirtualCpu& guest = *vms_[vm]->vcpus[vcpu];
    take_off(guest);
    guest.port.move_to(processor);
    return true;
}

// --- the nested state ---

std::vector<std::byte> NestedWorld::save_state(VirtualCpu& guest) {
    std::vector<std::byte> state(Engine::most_state_bytes);
    const auto size = guest.engine.save(state);
    if (!size) throw EngineFailure("the nested state cannot be saved");
    state.resize(*size);
    return state;
}
std::vector<std::byte> NestedWorld::save_state(unsigned vm, unsigned vcpu) {
    return save_state(between_turns(vm, vcpu));
}
/// No guest has its processor, and its VMCS is current there.
NestedWorld::VirtualCpu& NestedWorld::between_turns(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = *vms_[vm]->vcpus[vcpu];
    const unsigned processor = guest.port.processor();
    if (running_[processor] != nullptr) take_off(*running_[processor]);
    guest.port.load_vmcs(guest.port.current());
    return guest;
}

std::optional<nested::StateError> NestedWorld::restore_state(unsigned vm, unsigned vcpu,
                                                             std::span<const std::byte> state) {
    VirtualCpu& guest = between_turns(vm, vcpu);
    const auto entry = guest.engine.restore(state);
    return entry ? std::nullopt : std::optional{entry.error()};
}

/// Between an exit and the entry behind it, in place. How the guest is to be entered.
bool NestedWorld::save_and_restore(VirtualCpu& guest) {
    std::vector<std::byte> state = save_state(guest);
    if (options_.defect != nullptr) options_.defect->saved(state);
    if (options_.defect != nullptr) options_.defect->restores(true);
    const auto entry = guest.engine.restore(state);
    if (!entry)
        throw EngineFailure("a state of L0's own is refused, error " +
                            std::to_string(static_cast<unsigned>(entry.error())));
    guest.engine.prepare_reentry();
    if (options_.defect != nullptr) options_.defect->restores(false);
    return *entry == nested::Entry::vmlaunch;
}

/// Another L0, with a pool of tags of its own, takes over every virtual CPU, and runs it on any processor.
void NestedWorld::change_l0() {
    struct Saved {
        VirtualMachine& owner;
        std::unique_ptr<VirtualCpu> vcpu;
        std::vector<std::byte> state;
        std::vector<std::uint64_t> vmcs01;
    };
    std::vector<Saved> all;
    for (VirtualCpu* guest : running_) {
        if (guest != nullptr) take_off(*guest);
    }
    for (const auto& machine : vms_) {
        if (machine == nullptr) continue;
        for (auto& vcpu : machine->vcpus) {
            vcpu->port.load_vmcs(vcpu->port.current());
            std::vector<std::byte> state = save_state(*vcpu);
            if (options_.defect != nullptr) options_.defect->saved(state);
            vcpu->port.load_vmcs(vcpu->vmcs01);
            std::vector<std::uint64_t> words;
            for (const std::uint32_t encoding : l1s_own_in_vmcs01())
                words.push_back(vcpu->port.vmread(encoding));
            vcpu->port.move_to(vcpu->port.processor());  // clears what is active
            all.push_back({*machine, std::move(vcpu), std::move(state), std::move(words)});
        }
        machine->vcpus.clear();
    }
    // All that the old one had is given back before the new one begins, or kept where a defect says so.
    std::vector<std::unique_ptr<VirtualCpu>> before;
    for (Saved& each : all) before.push_back(std::move(each.vcpu));
    host_->pools.push_back(std::make_unique<tag::VpidPool>(options_.vpids));
    for (std::size_t index = 0; index < all.size(); ++index) {
        Saved& each = all[index];
        const VirtualCpu& was = *before[index];
        const auto processor = static_cast<unsigned>(random_.below(options_.processors));
        std::unique_ptr<VirtualCpu> guest = make_vcpu(each.owner, was.vm, processor);
        for (std::size_t number = 0; number < each.vmcs01.size(); ++number)
            guest->port.vmwrite(l1s_own_in_vmcs01()[number], each.vmcs01[number]);
        guest->saved = was.saved;
        guest->nmi_armed = was.nmi_armed;
        guest->nmi_latched = was.nmi_latched;
        guest->nmi_with_l0 = was.nmi_with_l0;
        guest->nmi_owed = was.nmi_owed;
        guest->init_armed = was.init_armed;
        guest->init_latched = was.init_latched;
        guest->init_with_l0 = was.init_with_l0;
        guest->apic = was.apic;
        guest->controller = was.controller;
        guest->interrupts_armed = was.interrupts_armed;
        guest->forgot = was.forgot;
        if (options_.defect != nullptr && !options_.defect->hands_on_what_waits()) {
            guest->nmi_with_l0 = false;
            guest->forgot = true;
        }
        guest->restored = true;
        if (options_.defect != nullptr) options_.defect->restores(true);
        if (const auto entry = guest->engine.restore(each.state); !entry)
            throw EngineFailure("a state of an L0's own is refused, error " +
                                std::to_string(static_cast<unsigned>(entry.error())));
        if (options_.defect != nullptr) options_.defect->restores(false);
        // It has its turn later, and its vmcs01 is a new one.
        guest->port.move_to(processor);
        each.owner.vcpus.push_back(std::move(guest));
    }
}

// --- time ---

std::uint64_t NestedWorld::l1_time() const {
    return machine_.tsc() * (options_.host_scales_tsc ? RandomHost::tsc_rate : 1) +
           (options_.random_host != 0 ? RandomHost::tsc_offset : 0);
}

/// L0 has had an exit, and looks at it.
void NestedWorld::host_works() {
    machine_.pass_time(options_.random_host != 0 ? random_.below(20) : 5);
}

/// Soon, or at once.
void NestedWorld::end_turn_later(nested::Demands& wanted) {
    wanted.turn_ends = machine_.tsc() + random_.below(80);
}

/// L2 has executed an instruction that it began then, or is halted: had its turn ended?
void NestedWorld::watch_turn(const VirtualCpu& guest, std::uint64_t begun) const {
    // An L2 that waits for a start-up IPI nothing else ends.
    if (!guest.turn_ends || waits_for_start_up(guest)) return;
    // In whole units of the timer; the counter begins beneath 0.
    const auto late = static_cast<std::int64_t>(begun - *guest.turn_ends);
    if (late >= std::int64_t{1} << model_.vmx.timer_rate())
        throw EngineFailure("the host's turn has ended, and L2 runs on");
}

/// L2 has executed an instruction, or had an exception delivered, without an exit: had the host demanded one?
void NestedWorld::watch_demands(VirtualCpu& guest, const Instruction& instruction,
                                const Completion& completion, const Registers& before) const {
    namespace primary = vmx::primary;
    const nested::Demands& demands = guest.engine.demands();
    const auto fail = [](const char* what) {
        throw EngineFailure(std::string("L2 does not exit for what the host demands: ") + what);
    };
    if (completion.kind == Completion::Kind::event) {
        // INT n is no exception.
        if (instruction.opcode == Opcode::int_n && completion.event->vector == instruction.address) return;
        if (completion.event->vector < 32 && (demands.exceptions >> completion.event->vector & 1) != 0)
            fail("an exception");
        return;
    }
    if (completion.kind != Completion::Kind::done) return;
    const Registers& now = machine_.cpu(guest.port.processor()).registers;
    switch (instruction.opcode) {
        case Opcode::mov_to_cr0:
            if (((now.cr0 ^ before.cr0) & demands.cr0_mask) != 0) fail("CR0");
            return;
        case Opcode::mov_to_cr4:
            if (((now.cr4 ^ before.cr4) & demands.cr4_mask) != 0) fail("CR4");
            return;
        case Opcode::out:
            if (demands.all_ports) fail("a port");
            return;
        case Opcode::lidt:
            if ((demands.secondary_instructions & vmx::secondary::descriptor_table_exiting) != 0)
                fail("a descriptor table");
            return;
        case Opcode::wbinvd:
            if ((demands.secondary_instructions & vmx::secondary::wbinvd_exiting) != 0) fail("WBINVD");
            return;
        case Opcode::rdmsr:
        case Opcode::wrmsr:
            return;  // which MSRs the host keeps exit always
        default:
            break;
    }
    const std::uint32_t control = [&] {
        switch (instruction.opcode) {
            case Opcode::hlt:
                return primary::hlt_exiting;
            case Opcode::pause:
                return primary::pause_exiting;
            case Opcode::rdtsc:
                return primary::rdtsc_exiting;
            case Opcode::invlpg:
            case Opcode::invpcid:
                return primary::invlpg_exiting;
            case Opcode::mov_to_cr3:
                return primary::cr3_load_exiting;
            case Opcode::mov_from_cr3:
                return primary::cr3_store_exiting;
            default:
                return 0U;
        }
    }();
    if ((demands.instructions & control) != 0) fail("an instruction");
}

/// Between two steps: the host has the processor for a while, may have other wishes then, and may give the
/// guest another processor; or another host takes over. The guest as it is then.
NestedWorld::VirtualCpu& NestedWorld::host_acts(unsigned vm, unsigned vcpu) {
    if (options_.saves_states && random_.once_in(12)) change_l0();
    VirtualCpu& guest = on_processor(vm, vcpu);
    if (holds_interrupts() && options_.random_host != 0 && random_.once_in(5))
        guest.controller.request(hosts_vector);
    if (options_.random_host == 0 || !random_.once_in(4)) return guest;
    take_off(guest);
    if (random_.once_in(2)) {
        guest.port.load_vmcs(guest.port.current());
        // Of its wishes those that this processor can meet.
        const vmx::Capabilities& has = host_->capabilities.promised;
        nested::Demands wanted = random_.demands(false);
        wanted.instructions &= has.primary_processor_based.allowed1;
        wanted.secondary_instructions &= has.secondary_processor_based.allowed1;
        wanted.all_ports =
            wanted.all_ports && has.primary_processor_based.may_set(vmx::primary::unconditional_io_exiting);
        wanted.external_interrupts = holds_interrupts();
        wanted.acknowledge_interrupts = holds_interrupts() && random_.once_in(2);
        if (random_.once_in(2)) end_turn_later(wanted);
        demand(guest, wanted);
    }
    if (random_.once_in(4)) {
        // By the engine's means, or by the host's own, which clears what it knows to be active.
        if (random_.once_in(2)) {
            guest.port.load_vmcs(guest.port.current());
            guest.engine.leave_processor();
            guest.has_left = true;
            guest.init_offered = false;
            guest.needs_an_offer = true;  // no window is open for what was offered
            if (guest.port.leaves_vmcs_active(true)) throw EngineFailure("a move leaves a VMCS active");
        }
        guest.port.move_to(static_cast<unsigned>(random_.below(options_.processors)));
    }
    put_on(guest);
    return guest;
}

/// An exit of L2's that the host has demanded, and that it lets L1 know nothing of: it does the instruction
/// in L2's place, or has no such wish until L2 has executed it.
NestedWorld::HostsTurn NestedWorld::handle_hosts_exit(VirtualCpu& guest, vmx::ExitReason reason) {
    const auto turn = [](nested::Entry entry, bool done) {
        return HostsTurn{.launch = entry == nested::Entry::vmlaunch, .done = done};
    };
    if (guest.engine.l1_wants_hosts_exit()) {
        if (random_.once_in(3)) return turn(guest.engine.resume_behind_instruction(), true);
        if (random_.once_in(3)) return turn(guest.engine.resume_with_fault({.vector = 13}), true);
        return turn(guest.engine.resume(), true);
    }
    if (reason == vmx::ExitReason::vmx_preemption_timer_expired) {
        if (static_cast<std::int64_t>(machine_.tsc() - *guest.turn_ends) < 0)
            throw EngineFailure("L2 exits to the host before the host's turn ends");
        // Another turn, or L2 has the processor for as long as it likes.
        nested::Demands wanted = guest.engine.demands();
        wanted.turn_ends.reset();
        if (!random_.once_in(4)) end_turn_later(wanted);
        demand(guest, wanted);
        return turn(guest.engine.resume(), false);
    }
    using Act = Defect::HostsAct;
    const Act act = options_.defect != nullptr ? options_.defect->hosts_act() : Act::right;
    if (reason == vmx::ExitReason::exception_or_nmi)
        return turn(act == Act::swallow ? guest.engine.resume_behind_instruction() : guest.engine.resume(),
                    true);
    if (act == Act::resume) return turn(guest.engine.resume(), true);
    if (act == Act::behind) return turn(guest.engine.resume_behind_instruction(), true);
    if (act == Act::fault)
        return turn(guest.engine.resume_with_fault({.vector = 13, .has_error_code = true}), true);
    if (random_.once_in(2)) {
        Registers& registers = machine_.cpu(guest.port.processor()).registers;
        // What the SDM says of each; the machine's own checks were before the exit (SDM 3C 26.1.1).
        switch (reason) {
            case vmx::ExitReason::rdtsc: {
                std::uint64_t tsc = machine_.tsc();
                if (act == Act::l1s_tsc) {
                    tsc = l1_time();
                } else if (act != Act::plain_tsc) {
                    // L1s under such hosts have multipliers without a fraction.
                    const bool scales = (guest.get(field::secondary_processor_based_vm_execution_controls) &
                                         vmx::secondary::use_tsc_scaling) != 0;
                    tsc *= scales ? guest.get(field::tsc_multiplier) >> 48 : 1;
                    tsc += guest.get(field::tsc_offset);
                }
                registers.general[0] = tsc & 0xFFFF'FFFF;
                registers.general[2] = tsc >> 32;
                return turn(guest.engine.resume_behind_instruction(), true);
            }
            case vmx::ExitReason::pause:
            case vmx::ExitReason::io_instruction:
            case vmx::ExitReason::wbinvd_or_wbnoinvd:
                return turn(guest.engine.resume_behind_instruction(), true);
            case vmx::ExitReason::hlt:
                guest.put(field::guest_activity_state, static_cast<std::uint64_t>(vmx::ActivityState::hlt));
                return turn(guest.engine.resume_behind_instruction(), true);
            case vmx::ExitReason::invlpg:
                if (act != Act::keep_tlb) guest.engine.l2_translations_changed();
                return turn(guest.engine.resume_behind_instruction(), true);
            default:
                break;
        }
    }
    // It has no such wish while L2 executes it.
    demand(guest, fewest_demands());
    note(guest, OutsideEvent::Kind::resume, {calls_, true});
    return turn(guest.engine.resume(), false);
}

/// The host's side of taking a page (rule 6): the EPT first, then each virtual CPU, which must leave its
/// processor.
bool NestedWorld::take_page(unsigned vm, std::uint64_t l1_physical) {
    VirtualMachine& owner = *vms_[vm];
    if (!owner.space.host_of(l1_physical)) return true;
    if (!owner.space.move_page(l1_physical)) return false;
    machine_.memory().note_direct_writes();
    if (options_.defect != nullptr && !options_.defect->tells_of_taken_page()) return true;
    for (const auto& guest : owner.vcpus) {
        using Answer = Defect::Answer;
        const Answer answer = options_.defect != nullptr
                                  ? options_.defect->answers(Defect::Request::drop_taken_page)
                                  : Answer::before_next_entry;
        if (answer == Answer::never) continue;
        if (answer == Answer::behind_next_entry) {
            guest->drops_taken_page_late = true;
            continue;
        }
        const unsigned processor = guest->port.processor();
        if (running_[processor] != nullptr) take_off(*running_[processor]);
        guest->port.load_vmcs(guest->port.current());
        guest->engine.ept01_changed();
    }
    return true;
}

/// The processor takes what waits for it, in whatever guest that is.
bool NestedWorld::takes_latched_nmi(VirtualCpu& guest) {
    return guest.nmi_latched && machine_.can_take_nmi(guest.port.processor()) &&
           std::exchange(guest.nmi_latched, false);
}

/// Of what L0 always wants.
nested::Demands NestedWorld::fewest_demands() const {
    return {.external_interrupts = holds_interrupts(),
            .tsc_offset = options_.random_host != 0 ? RandomHost::tsc_offset : 0};
}

void NestedWorld::demand(VirtualCpu& guest, nested::Demands wanted) {
    if (options_.host_scales_tsc) wanted.tsc_multiplier = RandomHost::tsc_multiplier;
    if (!guest.engine.set_demands(wanted)) throw EngineFailure("the host's demands are refused");
    guest.acknowledges = wanted.acknowledge_interrupts;
    guest.turn_ends = wanted.turn_ends;
    guest.init_offered = false;
    guest.needs_an_offer = true;  // what was asked for before is no longer
}

bool NestedWorld::nmi(unsigned vm, unsigned vcpu, bool meets_l0) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    if (meets_l0) {
        guest.nmi_armed = true;
        return true;
    }
    guest.nmi_latched = true;
    Completion seen;
    static_cast<void>(settle(guest, {}, seen));
    return true;
}

bool NestedWorld::interrupt(unsigned vm, unsigned vcpu, std::uint8_t vector, bool meets_l0) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    if (meets_l0) {
        guest.interrupts_armed.push_back(vector);
        return true;
    }
    if (holds_interrupts()) {
        guest.controller.request(vector);
    } else {
        request(guest, vector, {});
    }
    Completion seen;
    static_cast<void>(settle(guest, {}, seen));
    return true;
}

// --- INIT and start-up IPIs ---
//
// Where L0 leaves interrupts to L1, an INIT comes to the processor, and makes whatever guest runs exit. A
// host that has the interrupts makes an INIT itself, and brings it to the guest by one of its own interrupts.
// A start-up IPI for an L2 that waits for one comes to the processor, as nothing else reaches that.

Defect::Inits NestedWorld::inits() const {
    return options_.defect != nullptr ? options_.defect->inits() : Defect::Inits{};
}

bool NestedWorld::waits_for_start_up(const VirtualCpu& guest) const {
    return machine_.waits_for_start_up(guest.port.processor());
}

bool NestedWorld::init(unsigned vm, unsigned vcpu, bool meets_l0) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    if (meets_l0) {
        guest.init_armed = true;
        return true;
    }
    send_init(guest, {});
    // An L1 that waits for its start no host keeps on a processor.
    if (waits_for_start_up(guest) && !guest.engine.in_l2()) {
        kick(guest);
    } else if (guest.init_with_l0) {
        guest.controller.request(hosts_vector);
    }
    Completion seen;
    static_cast<void>(settle(guest, {}, seen));
    return true;
}

void NestedWorld::send_init(VirtualCpu& guest, Place place) {
    note(guest, OutsideEvent::Kind::init_sent, place);
    const bool l1_waits = waits_for_start_up(guest) && !guest.engine.in_l2();
    if (!holds_interrupts() && !l1_waits) {
        guest.init_latched = !guest.init_with_l0;
    } else {
        guest.init_with_l0 = inits().keeps;
    }
}

bool NestedWorld::start_up(unsigned vm, unsigned vcpu, std::uint8_t page) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    if (!guest.engine.in_l2()) {
        guest.start_up_with_l0 = page;
        kick(guest);
        return true;
    }
    if (!waits_for_start_up(guest)) return true;
    const Completion exit = machine_.take_start_up(guest.port.processor(), page);
    const std::uint64_t exited_at = l1_time();
    host_works();
    const bool launch = handle_outside_exit(guest, exit, {}, exited_at);
    Completion seen;
    Entered entered = enter(guest, launch);
    note_given(guest, entered, {}, seen);
    static_cast<void>(settle(guest, {}, seen));
    return true;
}

/// L0 interrupts L1, whatever it does, since it has something for it.
void NestedWorld::kick(VirtualCpu& guest) {
    Completion seen;
    kick(guest, {}, seen);
    static_cast<void>(settle(guest, {}, seen));
}
void NestedWorld::kick(VirtualCpu& guest, Place place, Completion& seen) {
    machine_.take_from_guest(guest.port.processor());
    host_works();
    Entered entered = enter(guest, false);
    note_given(guest, entered, place, seen);
}

/// An L0 that has an event for a guest asks for its window before each entry. Where this one has put the
/// guest on a processor without, it does so at once, by an exit: an interrupt of L1's, which L0 does not see,
/// would else overtake the event.
bool NestedWorld::has_to_offer(const VirtualCpu& guest) const {
    return guest.needs_an_offer && !holds_interrupts() && (guest.nmi_with_l0 || guest.init_with_l0);
}

/// SDM 3A table 10-1.
void NestedWorld::begin_anew(VirtualCpu& guest) {
    constexpr std::uint64_t caching = x86::cr0::cache_disable | x86::cr0::not_write_through;
    // What INIT leaves as it is.
    constexpr std::array kept = {field::guest_ia32_pat.encoding, field::guest_ia32_debugctl.encoding,
                                 field::guest_ia32_sysenter_cs.encoding,
                                 field::guest_ia32_sysenter_esp.encoding,
                                 field::guest_ia32_sysenter_eip.encoding};
    const Defect::Inits does = inits();
    Registers& registers = machine_.cpu(guest.port.processor()).registers;
    std::array<std::uint64_t, kept.size()> values{};
    const auto kind = does.asks_the_engine ? nested::Reset::init : nested::Reset::power_on;
    if (guest.engine.in_l2()) guest.port.load_vmcs(guest.vmcs01);
    std::ranges::transform(kept, values.begin(),
                           [&](std::uint32_t encoding) { return guest.port.vmread(encoding); });
    const std::uint64_t mask = guest.get(field::cr0_guest_host_mask);
    const std::uint64_t cr0 =
        (guest.get(field::guest_cr0) & ~mask) | (guest.get(field::cr0_read_shadow) & mask);
    if (does.resets_engine && !guest.engine.reset(kind)) throw EngineFailure("the engine refuses an INIT");
    if (does.resets_registers) {
        host::L1State state = host::state_at_reset();
        state.cr0 = (state.cr0 & ~caching) | (cr0 & caching);
        guest.set_up_vmcs01(*host_, owner_of(guest).space, state);
        set_controls_of_vmcs01(guest);
        for (std::size_t number = 0; number < kept.size(); ++number)
            guest.port.vmwrite(kept[number], values[number]);
        registers.general = {};
        registers.cr2 = 0;
    }
    guest.put(field::guest_activity_state, static_cast<std::uint64_t>(vmx::ActivityState::wait_for_sipi));
    if (does.resets_local_apic) guest.apic = {};
    if (guest.port.leaves_vmcs_active()) throw EngineFailure("an INIT leaves a VMCS of L2's active");
}

/// SDM 3A 10.4.4.1. vmcs01 is current.
void NestedWorld::start(VirtualCpu& guest, std::uint8_t page) {
    guest.put(field::guest_cs_selector, std::uint64_t{page} << 8);
    guest.put(field::guest_cs_base, std::uint64_t{page} << 12);
    guest.put(field::guest_rip, 0);
    guest.put(field::guest_activity_state, static_cast<std::uint64_t>(vmx::ActivityState::active));
}

bool NestedWorld::withholds_init(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    const unsigned processor = guest.port.processor();
    if (guest.init_latched) return machine_.can_take_init(processor);
    // One that L0 does not have any longer is lost.
    if (!guest.init_with_l0) return true;
    return guest.init_offered && !guest.controller.pending() && !machine_.is_exit_due(processor);
}

/// L1's local APIC is as it was, but for what L0 has to give it: where L0 made it, that is an exit to L0.
bool NestedWorld::end_of_interrupt(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    guest.apic.end_of_interrupt();
    return apic_was_written(guest);
}
bool NestedWorld::set_task_priority(unsigned vm, unsigned vcpu, std::uint8_t priority) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    guest.apic.set_task_priority(priority);
    return apic_was_written(guest);
}
bool NestedWorld::apic_was_written(VirtualCpu& guest) {
    if (holds_interrupts()) guest.controller.request(hosts_vector);
    Completion seen;
    static_cast<void>(settle(guest, {}, seen));
    return true;
}

const LocalApic& NestedWorld::local_apic(unsigned vm, unsigned vcpu) const {
    return vms_[vm]->vcpus[vcpu]->apic;
}

bool NestedWorld::withholds_interrupt(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    const unsigned processor = guest.port.processor();
    // L1's own reaches the guest by itself: one that was put on the processor since, before it goes on.
    if (!holds_interrupts() && machine_.can_take_interrupt(processor)) return false;
    return guest.apic.pending() && !(holds_interrupts() && guest.needs_an_offer) &&
           !guest.controller.pending() && !machine_.is_exit_due(processor);
}

void NestedWorld::note(VirtualCpu& guest, OutsideEvent::Kind kind, Place place, std::uint8_t vector,
                       std::optional<std::uint64_t> taken_at) {
    events_.push_back({.call = place.call,
                       .early = place.early,
                       .kind = kind,
                       .vector = vector,
                       .nmi_waits = guest.nmi_owed,
                       .tsc = taken_at.value_or(l1_time()),
                       .done = l1_time()});
}

void NestedWorld::request(VirtualCpu& guest, std::uint8_t vector, Place place) {
    guest.apic.request(vector);
    guest.forgot = false;
    note(guest, OutsideEvent::Kind::request, place, vector);
}

/// Between two instructions: what the processor takes that waits for it, in whatever guest that is. What is
/// delivered stands in `seen`; an exit is returned.
std::optional<Completion> NestedWorld::take_what_waits(VirtualCpu& guest, Place place, Completion& seen) {
    const unsigned processor = guest.port.processor();
    if (guest.init_latched && machine_.can_take_init(processor)) {
        guest.init_latched = false;
        return machine_.take_init(processor);
    }
    if (takes_latched_nmi(guest)) {
        const Completion nmi = machine_.take_nmi(processor);
        if (!nmi.began) return nmi;
        note(guest, OutsideEvent::Kind::nmi, place);
        seen.nmi = true;
        if (nmi.kind == Completion::Kind::vm_exit) return nmi;
    }
    LocalApic& apic = holds_interrupts() ? guest.controller : guest.apic;
    if (!apic.pending() || !machine_.can_take_interrupt(processor)) return std::nullopt;
    const Completion interrupt = machine_.take_interrupt(processor, apic);
    if (!interrupt.began) return interrupt;
    if (holds_interrupts()) throw EngineFailure("an interrupt of the host's goes into a guest");
    note(guest, OutsideEvent::Kind::interrupt, place);
    seen.interrupt = interrupt.began->vector;
    return interrupt.kind == Completion::Kind::vm_exit ? std::optional{interrupt} : std::nullopt;
}

/// An exit in the delivery of an NMI or interrupt, which has been noted. How the guest is to be entered.
bool NestedWorld::handle_exit_in_delivery(VirtualCpu& guest, const Completion& exit) {
    const vmx::ExitReason reason = exit.exit_reason.basic();
    if (!guest.engine.in_l2()) {
        handle_l1_exit(guest, reason);
        return false;
    }
    const nested::Entry entry = guest.engine.handle_l2_exit(exit.exit_reason.value);
    if (entry == nested::Entry::the_hosts) return handle_hosts_exit(guest, reason).launch;
    return entry == nested::Entry::vmlaunch;
}

/// An exit that no instruction caused, but what came from outside. How the guest is to be entered.
bool NestedWorld::handle_outside_exit(VirtualCpu& guest, const Completion& exit, Place place,
                                      std::uint64_t exited_at) {
    if (exit.began) return handle_exit_in_delivery(guest, exit);
    const vmx::ExitReason reason = exit.exit_reason.basic();
    const bool in_l2 = guest.engine.in_l2();
    const bool is_interrupt = reason == vmx::ExitReason::external_interrupt;
    const vmx::InterruptionInformation information{guest.get(field::vm_exit_interruption_information)};
    const auto page_of_start_up = static_cast<std::uint8_t>(guest.get(field::exit_qualification));
    bool launch = false;
    bool is_l1s = false;
    if (in_l2) {
        nested::Entry entry = guest.engine.handle_l2_exit(static_cast<std::uint32_t>(reason));
        is_l1s = !guest.engine.in_l2();
        if (entry == nested::Entry::the_hosts) entry = guest.engine.resume();
        launch = entry == nested::Entry::vmlaunch;
    } else if (reason == vmx::ExitReason::init_signal) {
        guest.init_with_l0 = inits().keeps;
        return launch;
    } else if (!is_interrupt) {
        handle_l1_exit(guest, reason);
    }
    if (reason == vmx::ExitReason::init_signal || reason == vmx::ExitReason::startup_ipi) {
        if (!is_l1s) throw EngineFailure("an INIT or a start-up IPI for L2 is no exit to L1");
        // One that waited with L0 is the same.
        if (reason == vmx::ExitReason::init_signal) guest.init_with_l0 = false;
        const std::uint8_t page = reason == vmx::ExitReason::startup_ipi ? page_of_start_up : 0;
        note(guest,
             reason == vmx::ExitReason::init_signal ? OutsideEvent::Kind::init : OutsideEvent::Kind::start_up,
             place, page, exited_at);
        return launch;
    }
    if (is_interrupt && !is_l1s && information.is_valid() != (in_l2 && guest.acknowledges))
        throw EngineFailure("an interrupt of the host's is acknowledged otherwise than it demands");
    if (is_l1s) {
        note(guest, is_interrupt ? OutsideEvent::Kind::interrupt : OutsideEvent::Kind::nmi, place, 0,
             exited_at);
    } else if (is_interrupt) {
        take_interrupts_of_host(guest, information, place);
    } else {
        // L0's own, which waits to give another: then it has one NMI, as the processor keeps one.
        guest.nmi_owed = true;
    }
    if (guest.port.take_returned_nmi()) guest.nmi_with_l0 = true;
    return launch;
}

/// L0 learns which interrupt made the guest exit, from the exit or from the processor's interrupt controller,
/// and whose it is.
void NestedWorld::take_interrupts_of_host(VirtualCpu& guest, vmx::InterruptionInformation information,
                                          Place place) {
    const std::uint8_t vector =
        information.is_valid() ? information.vector() : guest.controller.acknowledge();
    guest.controller.end_of_interrupt();
    const bool knows = options_.defect == nullptr || options_.defect->knows_its_own_interrupts();
    if (vector != hosts_vector) {
        request(guest, vector, place);
    } else if (!knows) {
        guest.apic.request(vector);
    }
}

/// All that waits between two instructions, with the exits and entries that it takes. True: it took the guest
/// from L2 to L1.
bool NestedWorld::settle(VirtualCpu& guest, Place place, Completion& seen) {
    const bool in_l2 = guest.engine.in_l2();
    if (!in_l2 && has_to_offer(guest)) kick(guest, place, seen);
    while (const auto exit = take_what_waits(guest, place, seen)) {
        const std::uint64_t exited_at = l1_time();
        host_works();
        const bool launch = handle_outside_exit(guest, *exit, place, exited_at);
        Entered entered = enter(guest, launch);
        note_given(guest, entered, place, seen);
    }
    return in_l2 && !guest.engine.in_l2();
}

/// What L0 gave is for the reader of `seen`, and no event of the guest's own.
void NestedWorld::note_given(VirtualCpu& guest, Entered& entered, Place place, Completion& seen) {
    if (entered.init) note(guest, OutsideEvent::Kind::init, place, 0, entered.given_at);
    if (entered.start_up) note(guest, OutsideEvent::Kind::start_up, place, *entered.start_up);
    const auto note_one = [&](Given given, std::uint64_t at) {
        if (given == Given::nothing) return;
        if (given == Given::nmi) unsent_ = unsent_ || !std::exchange(guest.nmi_owed, false);
        note(guest, given == Given::nmi ? OutsideEvent::Kind::nmi : OutsideEvent::Kind::interrupt, place, 0,
             at);
    };
    bool is_not_the_guests = false;
    for (const Entered::Begun& each : entered.begun) {
        note_one(each.given, each.at);
        is_not_the_guests = tell_delivered(each, seen) || is_not_the_guests;
    }
    note_one(entered.delivered != Given::nothing ? entered.delivered : entered.exits, entered.given_at);
    is_not_the_guests =
        tell_delivered({.given = entered.delivered, .event = entered.completion.began}, seen) ||
        is_not_the_guests;
    if (is_not_the_guests) entered.completion.event.reset();
}

/// What the processor says that it began to deliver, whatever came of it.
bool NestedWorld::tell_delivered(const Entered::Begun& what, Completion& seen) {
    if (what.given == Given::nmi && what.event == Event{2, false, 0}) {
        seen.nmi = true;
        return true;
    }
    if (what.given != Given::interrupt || !what.event || !what.event->is_interrupt) return false;
    seen.interrupt = what.event->vector;
    return true;
}

void NestedWorld::set_step(std::uint64_t step) {
    calls_ = 0;
    events_.clear();
    times_.clear();
    withheld_ = false;
    unsent_ = false;
    for (unsigned cpu = 0; cpu < machine_.cpu_count(); ++cpu) machine_.retentive_tlb(cpu).set_step(step);
}

/// An external interrupt ends the guest's turn; L1 sees nothing of it.
void NestedWorld::take_off(VirtualCpu& guest) {
    if (!guest.on_processor) return;
    const unsigned processor = guest.port.processor();
    machine_.take_from_guest(processor);
    host_works();
    guest.saved = machine_.cpu(processor).registers;
    guest.on_processor = false;
    running_[processor] = nullptr;
}

void NestedWorld::put_on(VirtualCpu& guest) {
    const unsigned processor = guest.port.processor();
    if (running_[processor] != nullptr) take_off(*running_[processor]);
    Registers& now = machine_.cpu(processor).registers;
    const Registers host = std::exchange(now, guest.saved);
    // What VM entry loads is the host's until then.
    // Of CR0 no entry loads CD and NW (SDM 3C 27.3.2.1): they go with the guest.
    constexpr std::uint64_t caching = x86::cr0::cache_disable | x86::cr0::not_write_through;
    now.cr0 = (host.cr0 & ~caching) | (now.cr0 & caching);
    now.cr3 = host.cr3;
    now.cr4 = host.cr4;
    now.efer = host.efer;
    now.segments = host.segments;
    now.rflags = host.rflags;
    now.activity = vmx::ActivityState::active;
    now.interruptibility = 0;
    machine_.registers_changed(processor);
    if (!guest.has_left) guest.port.load_vmcs(guest.port.current());
    if (guest.engine.in_l2() && has_to_offer(guest)) {
        // The timer counts whole units.
        nested::Demands wanted = guest.engine.demands();
        wanted.turn_ends = machine_.tsc() >> model_.vmx.timer_rate() << model_.vmx.timer_rate();
        demand(guest, wanted);
    }
    if (options_.defect != nullptr) options_.defect->restores(guest.restored);
    if (std::exchange(guest.has_left, false)) {
        if (guest.engine.enter_processor() != nested::Entry::vmlaunch)
            throw EngineFailure("a virtual CPU that has moved is not launched");
    } else if (options_.defect == nullptr || options_.defect->enters_processor()) {
        guest.engine.prepare_reentry();
    }
    if (options_.defect != nullptr) options_.defect->restores(false);
    guest.restored = false;
    const bool launch = machine_.current_vmcs(processor)->launch_state == Vmcs::LaunchState::clear;
    guest.on_processor = true;
    running_[processor] = &guest;
    // What L0 has for the guest waits for the next exit, so that a step says where it came.
    const Entered entered = enter(guest, launch, false);
    if (entered.completion.event)
        throw EngineFailure("an event was left to be delivered when the guest was interrupted");
}

NestedWorld::VirtualCpu& NestedWorld::on_processor(unsigned vm, unsigned vcpu) {
    VirtualCpu& guest = *vms_[vm]->vcpus[vcpu];
    if (!guest.on_processor) put_on(guest);
    return guest;
}

Defect::Gate NestedWorld::gate_of(VirtualCpu& guest) {
    const std::uint32_t blocking = guest.get(field::guest_interruptibility_state);
    return {.interrupts_on = (guest.get(field::guest_rflags) & x86::rflags::interrupt_enable) != 0,
            .by_sti = (blocking & vmx::interruptibility::blocking_by_sti) != 0,
            .by_mov_ss = (blocking & vmx::interruptibility::blocking_by_mov_ss) != 0,
            .waiting = (guest.get(field::vm_entry_interruption_information) >> 31) != 0,
            .in_l2 = guest.engine.in_l2()};
}

/// Right before an entry: the engine decides what becomes of that which L0 has for the guest.
void NestedWorld::give_events(VirtualCpu& guest, Entered& entered, bool& launch) {
    Defect* const defect = options_.defect;
    const bool nmi = guest.nmi_with_l0;
    guest.needs_an_offer = false;
    std::optional<std::uint8_t> vector;
    if (holds_interrupts() && !guest.forgot) vector = guest.apic.pending();
    if (defect != nullptr && holds_interrupts()) vector = defect->offered(vector);
    const bool init = guest.init_with_l0;
    const std::optional<std::uint8_t> page = std::exchange(guest.start_up_with_l0, std::nullopt);
    if (!nmi && !vector && !init && !page) {
        if (std::exchange(guest.offered, false)) guest.engine.close_window();
        return;
    }
    guest.offered = true;
    if (nmi && defect != nullptr && !defect->asks_the_engine_about_nmis()) {
        guest.put(field::vm_entry_interruption_information, vmx::InterruptionInformation::nmi().value);
        guest.nmi_with_l0 = false;
        entered.delivered = Given::nmi;
        entered.given_at = l1_time();
        return;
    }
    if (vector && defect != nullptr && defect->injects_itself(gate_of(guest))) {
        guest.put(field::vm_entry_interruption_information,
                  vmx::InterruptionInformation::external(*vector).value);
        guest.apic.acknowledge();
        entered.delivered = Given::interrupt;
        entered.given_at = l1_time();
        return;
    }
    // A vector that the APIC does not have pending is one of a defective L0.
    const bool in_order = vector == guest.apic.pending();
    const bool late = in_order && interrupts_ == Options::Interrupts::l0_acknowledges_as_they_go_in;
    nested::PendingEvents events;
    if (init) events.add(nested::Event::init());
    guest.init_offered = init;
    if (page) events.add(nested::Event::start_up(*page));
    if (nmi) events.add(nested::Event::nmi());
    if (vector) {
        events.add(late ? nested::Event::interrupt_to_acknowledge() : nested::Event::interrupt(*vector));
    }
    const bool in_l2 = guest.engine.in_l2();
    nested::Entry entry = launch ? nested::Entry::vmlaunch : nested::Entry::vmresume;
    if (nmi && vector && defect != nullptr && !defect->offers_nmis_first()) {
        const nested::Event interrupt = *events.first(nested::EventKind::external_interrupt);
        if (guest.engine.deliver(interrupt, entry) == nested::Delivery::given) events.remove(interrupt);
    }
    nested::HostsPart hosts;
    const std::uint64_t now = l1_time();
    if (inits().asks_the_engine) {
        hosts = guest.engine.deliver(events, entry);
    } else if (init || page) {
        hosts.reset = init;
        hosts.start_up = page;
    }
    if (hosts.reset) {
        guest.init_with_l0 = !inits().gave;
        begin_anew(guest);
        entered.init = true;
        entered.given_at = now;
        launch = machine_.current_vmcs(guest.port.processor())->launch_state == Vmcs::LaunchState::clear;
        return;
    }
    launch = entry == nested::Entry::vmlaunch;
    if (hosts.start_up) {
        const bool waits = guest.get(field::guest_activity_state) ==
                           static_cast<std::uint32_t>(vmx::ActivityState::wait_for_sipi);
        const Defect::Inits does = inits();
        if (waits ? !does.starts_who_waits : does.knows_who_waits) return;
        start(guest, static_cast<std::uint8_t>(*hosts.start_up + (does.knows_the_page ? 0 : 1)));
        entered.start_up = *hosts.start_up;
        return;
    }
    const bool gave_init = init && !events.has(nested::EventKind::init);
    if (gave_init) guest.init_with_l0 = !inits().gave;
    entered.init = entered.init || gave_init;
    const bool left = in_l2 && !guest.engine.in_l2() && !gave_init;
    Given given = Given::nothing;
    if (vector && !events.has(nested::EventKind::external_interrupt)) given = Given::interrupt;
    if (nmi && !events.has(nested::EventKind::nmi)) given = Given::nmi;
    const bool shown = left && given == Given::nothing;
    if (shown && !vector) throw EngineFailure("L2 is left for nothing");
    if (gave_init || shown || given != Given::nothing) entered.given_at = now;
    (left ? entered.exits : entered.delivered) = shown ? Given::interrupt : given;
    if (given == Given::nmi) guest.nmi_with_l0 = defect != nullptr && !defect->gave_nmi();
    if (given != Given::interrupt && !shown) return;
    const bool acknowledges = defect == nullptr ? !shown : defect->acknowledges(shown);
    if (acknowledges && (shown || !late) && guest.apic.pending()) guest.apic.acknowledge();
}

/// VM entries until one comes to stand: what the processor refuses is the engine's to deal with.
NestedWorld::Entered NestedWorld::enter(VirtualCpu& guest, bool engine_says_launch, bool may_give_events) {
    const unsigned processor = guest.port.processor();
    Entered result;
    machine_.memory().note_direct_writes();
    guest.port.answer_close_requests();
    for (bool launch = engine_says_launch;;) {
        const Given given_before = result.delivered;
        if (may_give_events) give_events(guest, result, launch);
        // What an entry before this one began was not that.
        if (result.delivered != given_before) result.completion.began.reset();
        if (options_.defect != nullptr) {
            const Vmcs& vmcs = *machine_.current_vmcs(processor);
            options_.defect->before_entry(guest.engine.in_l2(), vmcs.get(field::virtual_processor_identifier),
                                          [&](const HardwareFlush& it) { guest.port.run(it); });
            launch = options_.defect->enters_by_vmlaunch(guest.engine.in_l2(), launch);
        }
        const Completion entered = guest.port.enter(launch);
        if (entered.began && !result.completion.began) result.completion.began = entered.began;
        if (options_.defect != nullptr) {
            options_.defect->after_entry(entered.kind == Completion::Kind::vm_entry,
                                         [&](const HardwareFlush& it) { guest.port.run(it); });
        }
        if (entered.kind == Completion::Kind::vm_entry) {
            const std::optional<Event> began = result.completion.began;
            result.completion = entered;
            result.completion.began = began;
            return result;
        }
        nested::Entry next = nested::Entry::vmresume;
        if (entered.kind == Completion::Kind::vm_exit) {
            if (!entered.exit_reason.is_entry_failure()) {
                // In the delivery of what was injected.
                if (result.delivered != Given::nothing) {
                    result.begun.push_back({result.delivered, entered.began, result.given_at});
                    result.delivered = Given::nothing;
                }
                host_works();
                const bool by_launch = handle_exit_in_delivery(guest, entered);
                next = by_launch ? nested::Entry::vmlaunch : nested::Entry::vmresume;
            } else if (!guest.engine.in_l2()) {
                throw EngineFailure(std::string("L1's state is refused: ") + name_of_check(entered));
            } else {
                next = guest.engine.handle_l2_exit(entered.exit_reason.value);
            }
        } else {
            const auto failed = guest.engine.handle_failed_entry(guest.get(field::vm_instruction_error));
            if (!failed)
                throw EngineFailure(std::string("the VM entry into L1 fails: ") + name_of_check(entered));
            next = *failed;
        }
        if (guest.port.take_returned_nmi()) {
            guest.nmi_with_l0 = true;
            result.delivered = Given::nothing;
            result.completion.began.reset();
        }
        if (guest.port.take_returned_interrupt()) {
            result.delivered = Given::nothing;
            result.completion.began.reset();
        }
        machine_.memory().note_direct_writes();
        launch = next == nested::Entry::vmlaunch;
    }
}

// --- exits ---

Completion NestedWorld::execute(unsigned vm, unsigned vcpu, const Instruction& instruction) {
    VirtualCpu& guest = host_acts(vm, vcpu);
    const bool l1_reads =
        options_.defect != nullptr && instruction.opcode == Opcode::vmread && !guest.engine.in_l2();
    const std::uint64_t encoding = registers(vm, vcpu).general[instruction.b];
    const Completion completion = execute(guest, vm, instruction);
    Registers& now = registers(vm, vcpu);
    constexpr std::uint64_t failed = x86::rflags::carry | x86::rflags::zero;
    if (l1_reads && completion.kind == Completion::Kind::done && (now.rflags & failed) == 0) {
        std::uint64_t& value = now.general[instruction.a];
        value = options_.defect->read_by_l1(encoding, value);
    }
    return completion;
}

Completion NestedWorld::execute(VirtualCpu& guest, unsigned vm, const Instruction& instruction) {
    const unsigned processor = guest.port.processor();
    nested::Counters& counters = guest.engine.counters();
    ++calls_;
    times_.push_back({l1_time(), l1_time()});
    withheld_ = false;
    Completion before;  // with what came since this instruction was begun
    const auto with_events = [](Completion completion, const Completion& seen) {
        completion.nmi = seen.nmi;
        completion.interrupt = seen.interrupt;
        return completion;
    };
    if (guest.needs_an_offer && holds_interrupts()) guest.controller.request(hosts_vector);
    // Called for what was asked of it, it has left its guest and come back by now.
    guest.port.answer_close_requests();
    if (instruction.opcode == Opcode::store && !guest.engine.in_l2() &&
        guest.port.let_write(instruction.address))
        guest.engine.l1_writes_noticed_page();
    if (settle(guest, {calls_, true}, before))
        return with_events({.kind = Completion::Kind::vm_exit}, before);
    while (true) {
        bool from_l2 = guest.engine.in_l2();
        // A VMWRITE of L1's as a defect has it, whether it exits or goes to a shadow VMCS.
        const bool changed = options_.defect != nullptr && instruction.opcode == Opcode::vmwrite && !from_l2;
        std::uint64_t& source = machine_.cpu(processor).registers.general[instruction.a];
        const std::uint64_t written = source;
        if (changed) {
            const std::uint64_t encoding = machine_.cpu(processor).registers.general[instruction.b];
            source = options_.defect->written_by_l1(encoding, written);
        }
        const std::uint64_t begun = machine_.tsc();
        times_.back() = {l1_time(), l1_time()};
        const bool watches = from_l2 && options_.random_host != 0;
        const Registers registers_before = watches ? machine_.cpu(processor).registers : Registers{};
        Completion completion = machine_.execute(processor, instruction);
        times_.back().done = l1_time();
        if (watches && completion.kind != Completion::Kind::vm_exit) {
            watch_turn(guest, begun);
            watch_demands(guest, instruction, completion, registers_before);
        }
        Completion now = before;
        bool done = true;                    // the instruction is over, in whatever way
        bool from_outside = false;           // the exit is none of an instruction's
        std::optional<Completion> executed;  // how the instruction ended, where it did so by itself
        std::optional<Event> delivered;      // else: what an entry delivered of the guest's own
        bool through_idt = false;
        if (completion.kind != Completion::Kind::vm_exit) {
            if (changed) source = written;
            const auto exit = take_what_waits(guest, {calls_, false}, now);
            if (!exit) return with_events(completion, now);
            executed = std::exchange(completion, *exit);
            from_outside = true;
        }

        const std::uint64_t reflected = counters.exits_reflected;
        const bool l1_executed = !from_l2;
        Entered entered;
        // Once, or again where what waited is an exit right behind the entry.
        for (bool exited = true; std::exchange(exited, false);) {
            const vmx::ExitReason reason = completion.exit_reason.basic();
            const std::uint64_t reflected_before = counters.exits_reflected;
            const std::uint64_t exited_at = l1_time();
            host_works();
            if (!from_outside) times_.back().done = l1_time();
            if (options_.defect != nullptr) {
                const Vmcs& vmcs = *machine_.current_vmcs(processor);
                options_.defect->after_exit(from_l2, vmcs.get(field::virtual_processor_identifier),
                                            [&](const HardwareFlush& it) { guest.port.run(it); });
            }
            if (std::exchange(guest.drops_taken_page_late, false)) guest.engine.ept01_changed();
            const bool nmi_waited = guest.nmi_owed;
            // L0's own handler takes an NMI that comes now, if the guest did not leave NMIs blocked.
            if (std::exchange(guest.nmi_armed, false)) guest.nmi_latched = true;
            if (takes_latched_nmi(guest)) {
                guest.nmi_owed = true;
                guest.nmi_with_l0 = options_.defect == nullptr || options_.defect->keeps_nmi();
            }

            bool launch = false;
            const std::uint64_t rip = guest.get(field::guest_rip);
            // Then it is over when what it raised is delivered: by the entry, where L0 shows L1 nothing.
            const bool in_delivery = (guest.get(field::idt_vectoring_information) >> 31) != 0;
            if (from_outside) {
                const std::size_t noted = events_.size();
                launch = handle_outside_exit(guest, completion, {calls_, !done}, exited_at);
                // One that has come since did not wait when this exit was made.
                for (std::size_t at = noted; at < events_.size(); ++at) events_[at].nmi_waits = nmi_waited;
            } else if (from_l2) {
                if (reason == vmx::ExitReason::vmx_preemption_timer_expired && options_.defect != nullptr &&
                    !options_.defect->knows_its_own_turns()) {
                    nested::Demands others = guest.engine.demands();
                    others.turn_ends.reset();
                    demand(guest, others);
                }
                std::optional<Defect::Violation> violation;
                if (options_.defect != nullptr && reason == vmx::ExitReason::ept_violation) {
                    violation = {.guest_physical = guest.get(field::guest_physical_address),
                                 .write = (guest.get(field::exit_qualification) & 2) != 0,
                                 .load = [&](std::uint64_t address) { return read(vm, address); },
                                 .store = [&](std::uint64_t address,
                                              std::uint64_t value) { write(vm, address, value); }};
                    options_.defect->before_violation(*violation);
                }
                const nested::Entry entry = guest.engine.handle_l2_exit(completion.exit_reason.value);
                if (violation) options_.defect->behind_violation(*violation);
                launch = entry == nested::Entry::vmlaunch;
                // Where it is L0's own, behind what the entry delivered, L1's timer may have ended since,
                // while L0 worked: L2 has not begun an instruction before.
                if (reason == vmx::ExitReason::vmx_preemption_timer_expired && guest.offered &&
                    counters.exits_reflected != reflected_before)
                    times_.back() = {l1_time(), l1_time()};
                if (entry == nested::Entry::the_hosts) {
                    const HostsTurn turn = handle_hosts_exit(guest, reason);
                    launch = turn.launch;
                    done = turn.done;
                }
            } else if (!handle_l1_exit(guest, reason)) {
                launch = handle_vmx_instruction(guest, reason, instruction);
            }
            if (changed) source = written;
            // The instruction is still to be executed: EPT02 has now what it lacked, or the window for an
            // event is open, VMXOFF begins again where L1 left many VMCSs active, or L1's VMREAD and VMWRITE
            // bitmaps are not what they were at the entry.
            const bool of_l0 = counters.exits_reflected == reflected_before;
            const bool of_vmcs = reason == vmx::ExitReason::vmread || reason == vmx::ExitReason::vmwrite;
            if ((of_l0 && from_l2 && of_vmcs && guest.get(field::guest_rip) == rip) ||
                (of_l0 && from_l2 && reason == vmx::ExitReason::ept_violation && !in_delivery) ||
                (of_l0 &&
                 (reason == vmx::ExitReason::interrupt_window || reason == vmx::ExitReason::nmi_window ||
                  reason == vmx::ExitReason::vmx_preemption_timer_expired)) ||
                (!from_l2 && reason == vmx::ExitReason::vmxoff && guest.engine.in_vmx_operation())) {
                done = false;
            }
            // Outside of VMX operation an INIT comes before a fault that L0 has for L1: as if before the
            // instruction.
            if ((guest.init_armed || guest.init_with_l0) && !guest.engine.in_vmx_operation() &&
                (guest.get(field::vm_entry_interruption_information) >> 31) != 0)
                done = false;
            const Place place{calls_, !done};
            if (std::exchange(guest.init_armed, false)) send_init(guest, place);
            for (const std::uint8_t vector : std::exchange(guest.interrupts_armed, {})) {
                request(guest, vector, place);
            }
            if (options_.saves_states && random_.once_in(8)) launch = save_and_restore(guest);
            entered = enter(guest, launch);
            const bool nmi_before = before.nmi;
            note_given(guest, entered, place, now);
            // What came from outside is not the guest's own, though its delivery was begun again.
            if (from_outside && completion.began) entered.completion.event.reset();
            if (entered.completion.event) {
                delivered = entered.completion.event;
                through_idt = entered.completion.through_idt;
            }
            withheld_ = guest.nmi_owed && done && !entered.completion.began && now.nmi == nmi_before;
            const auto exit = take_what_waits(guest, place, now);
            exited = from_outside = exit.has_value();
            if (exited) {
                completion = *exit;
                from_l2 = guest.engine.in_l2();
            }
        }
        Completion& entry = entered.completion;
        const bool into_l2 = guest.engine.in_l2();
        if (counters.exits_reflected != reflected) {
            return with_events({.kind = Completion::Kind::vm_exit, .exit_reason = completion.exit_reason},
                               now);
        }
        if (!done) {
            before = now;
            continue;
        }
        if (into_l2 && l1_executed && !executed) {
            entry.event = delivered;
            return with_events(entry, now);
        }
        if (delivered) {
            return with_events(
                {.kind = Completion::Kind::event, .event = delivered, .through_idt = through_idt}, now);
        }
        return with_events(executed.value_or(Completion{}), now);
    }
}

/// False: one of the VMX instructions, which are the engine's.
bool NestedWorld::handle_l1_exit(VirtualCpu& guest, vmx::ExitReason reason) {
    if (vmx::is_vmx_instruction(reason)) return false;
    if (reason == vmx::ExitReason::triple_fault) throw L1Shutdown("a triple fault");
    ++guest.engine.counters().handled_by_l0[static_cast<std::size_t>(reason)];
    TrialProcessor here{machine_.cpu(guest.port.processor()).registers};
    host::L1 l1{guest.engine, guest.port, here};
    if (!host::handle_l1_exit(l1, reason)) throw EngineFailure("an exit of L1's that L0 did not ask for");
    return true;
}

/// True: the guest must be entered by VMLAUNCH.
bool NestedWorld::handle_vmx_instruction(VirtualCpu& guest, vmx::ExitReason reason,
                                         const Instruction& instruction) {
    using nested::Entry;
    if (options_.defect == nullptr) return guest.engine.handle_vmx_instruction(reason) == Entry::vmlaunch;

    // The operand as L1 has it in memory: programs put it where linear and L1-physical addresses are the
    // same.
    Registers& registers = machine_.cpu(guest.port.processor()).registers;
    const std::array<std::uint64_t, 16> general = registers.general;
    const auto place = owner_of(guest).space.host_of(instruction.address);
    std::uint64_t* operand = nullptr;
    std::array<std::uint64_t, 2> words{};
    if (place && (place->host & 0xFFF) <= 0xFF0) {
        operand = machine_.memory().direct_page(place->host) + (place->host & 0xFFF) / 8;
        words = {operand[0], operand[1]};
    }
    bool launch = false;
    switch (
        options_.defect->handle({instruction.opcode, registers, operand, guest.engine.in_vmx_operation()})) {
        case Defect::Handling::engine:
            launch = guest.engine.handle_vmx_instruction(reason) == Entry::vmlaunch;
            break;
        case Defect::Handling::succeed: {
            guest.put(field::guest_rflags, guest.get(field::guest_rflags) & ~x86::rflags::arithmetic);
            TrialProcessor here{registers};
            host::L1{guest.engine, guest.port, here}.complete();
            break;
        }
        case Defect::Handling::fail_28:
            // The engine's own way to say so: an INVVPID of no type.
            registers.general[instruction.b] = ~std::uint64_t{0};
            guest.engine.handle_vmx_instruction(vmx::ExitReason::invvpid);
            break;
        case Defect::Handling::stay:
            break;
    }
    if (instruction.opcode == Opcode::invvpid || instruction.opcode == Opcode::invept) {
        registers.general = general;
        if (operand != nullptr) std::copy(words.begin(), words.end(), operand);
    }
    return launch;
}

// --- permitted outcomes ---

NestedWorld::VirtualMachine& NestedWorld::owner_of(const VirtualCpu& guest) {
    return *vms_[guest.vm];
}

/// nullopt: an EPT violation that L0 deals with, after which the access is made again.
std::optional<Outcome> NestedWorld::as_l1_sees(VirtualCpu& guest, const Outcome& outcome) {
    const L1Space& space = owner_of(guest).space;
    switch (outcome.kind) {
        case Outcome::Kind::page_fault:
            return outcome;
        case Outcome::Kind::translated: {
            const auto seen = space.l1_of(outcome.physical);
            return Outcome::translated(seen ? *seen : outcome.physical | foreign);
        }
        case Outcome::Kind::ept_misconfiguration:
            throw EngineFailure("L0 made an EPT entry that is misconfigured");
        case Outcome::Kind::ept_violation:
            break;
    }
    // As the engine will: EPT12 decides.
    const std::optional<vmx::Eptp> eptp = guest.engine.l1_ept_pointer();
    if (!eptp) return std::nullopt;
    std::uint64_t table = eptp->root();
    std::uint64_t rights = vmx::ept_entry::permissions;
    for (unsigned level = 4;; --level) {
        const auto place = space.host_of(table + 8 * ((outcome.physical >> (12 + 9 * (level - 1))) & 511));
        const std::uint64_t entry = place ? machine_.memory().read(place->host) : 0;
        rights &= entry;
        if ((entry & vmx::ept_entry::permissions) == 0) break;
        if (vmx::is_ept_misconfigured(entry, level, host_->capabilities.promised.ept_vpid,
                                      host_->capabilities.physical_address_width)) {
            return Outcome::ept_misconfiguration(outcome.physical);
        }
        if (level == 1 || (entry & vmx::ept_entry::page_size) != 0) break;
        table = entry & vmx::ept_entry::address_mask;
    }
    const vmx::EptViolation violation{outcome.exit_qualification};
    if ((violation.access() & ~rights) == 0) return std::nullopt;
    return Outcome::ept_violation(outcome.physical,
                                  violation.with_permissions(static_cast<std::uint8_t>(rights & 7)).value);
}

PermittedOutcomes NestedWorld::permitted(unsigned vm, unsigned vcpu, std::uint64_t linear_address,
                                         Access access) {
    VirtualCpu& guest = on_processor(vm, vcpu);
    PermittedOutcomes seen;
    for (const PermittedOutcome& each : machine_.permitted(guest.port.processor(), linear_address, access)) {
        const std::optional<Outcome> outcome = as_l1_sees(guest, each.outcome);
        if (!outcome) continue;
        const auto is_it = [&](const PermittedOutcome& other) { return other.outcome == *outcome; };
        if (std::ranges::none_of(seen, is_it)) seen.push_back({*outcome, each.provenance});
    }
    return seen;
}

}  // namespace flatback::machine
