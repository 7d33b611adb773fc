// L0 proper: into VMX operation, one L1 started, and from then on only its exits.
#include <new>

#include "metal/ground/faulting_instructions.hpp"
#include "metal/ground/instructions.hpp"
#include "metal/ground/interrupts.hpp"
#include "metal/ground/log.hpp"
#include "metal/ground/machine_check.hpp"
#include "metal/ground/panic.hpp"
#include "metal/ground/serial.hpp"
#include "metal/ground/this_processor.hpp"
#include "metal/l0/cpu.hpp"
#include "metal/l0/demands.hpp"
#include "metal/l0/exit_handler.hpp"
#include "metal/l0/hole_writes.hpp"
#include "metal/l0/l1_exits.hpp"
#include "metal/l0/recorder.hpp"
#include "metal/l0/start_l1.hpp"
#include "metal/l0/turn_requests.hpp"
#include "metal/l0/turns.hpp"
#include "metal/memory/ept01.hpp"
#include "metal/memory/page_pool.hpp"
#include "metal/processors/boot_apic.hpp"
#include "metal/processors/given_processors.hpp"
#include "tag/owed_flush.hpp"
#include "vmx/field.hpp"

namespace flatback::metal {

namespace {

alignas(tag::VpidPool) std::byte vpid_storage[sizeof(tag::VpidPool)];
alignas(4096) std::byte cpu_storage[sizeof(Cpu)];

bool has_linear_address_masking() {
    if (cpuid(x86::cpuid::leaf_vendor).eax < x86::cpuid::leaf_extended_features) return false;
    return cpuid(x86::cpuid::leaf_extended_features).eax >= 1 &&
           (cpuid(x86::cpuid::leaf_extended_features, 1).eax & x86::cpuid::extended_1_eax_lam) != 0;
}

// What all processors run L1 with.
struct Shared {
    nested::Capabilities promised;
    tag::VpidPool* vpids = nullptr;
    tag::Policy policy = tag::Policy::mapped;
};
constinit Shared shared{};

// There is one at most: another one within it would have been a shutdown.
void put_off_machine_check() {
    if ((this_processor().nmi_state & nmi_state::machine_check) == 0) return;
    set_nmi_state(nmi_state::machine_check_waits);
    clear_nmi_state(nmi_state::machine_check_came);
}

void give_machine_check(Cpu& cpu, nested::Entry& entry) {
    put_off_machine_check();
    if (cpu.vcpu.deliver(nested::Event::machine_check(), entry) != nested::Delivery::given) return;
    clear_nmi_state(nmi_state::machine_check_waits);
    log::info("a machine check while L0 ran: it is given to the guest");
}

}  // namespace

extern "C" {

void vm_first_entry(ExitFrame& frame, bool launch);

nested::Entry handle_exit(ExitFrame& frame) {
    Cpu& cpu = *frame.cpu;
    const std::uint32_t reason = get(vmx::field::exit_reason);
    if (cpu.vcpu.in_l2()) return cpu.vcpu.handle_l2_exit(reason);
    return handle_l1_exit(cpu, reason);
}

// What came while L0 ran, or waits: an NMI that is the guest's, another processor's request. What the guest
// cannot take at this entry stays.
nested::Entry look_before_entry(ExitFrame& entered, nested::Entry entry) {
    // The second VM is told of nothing.
    ExitFrame& frame = entered.cpu != nullptr ? entered : first_vm_instead(entry);
    if (frame.cpu == nullptr) [[unlikely]] {
        clear_nmi_state(nmi_state::came | nmi_state::waits);  // the first has ended
        if ((this_processor().nmi_state & nmi_state::machine_check) != 0) forget_machine_check();
        clear_nmi_state(nmi_state::machine_check);
        return entry;
    }
    Cpu& cpu = *frame.cpu;
    ProcessorLocal& here = this_processor();
    if (processors_stop.load(std::memory_order_relaxed)) [[unlikely]]
        stop_this_processor(get(vmx::field::guest_rip), cpu.vcpu.in_l2() ? StoppedIn::l2 : StoppedIn::l1);
    // Once only: what comes from here on may be a kick, and is looked at again (metal/l0/entry.S).
    if (take_nmi()) set_nmi_state(nmi_state::waits);
    if (here.requests.load(std::memory_order_relaxed) != 0) [[unlikely]]
        set_nmi_state(nmi_state::asked);
    // One instruction, behind which L0 has the guest again: to put it off for an NMI that cannot be given
    // would keep the guest there for ever.
    if (hole_write_is_under_way()) {
        put_off_machine_check();
        return entry;
    }
    // What is entered now is no longer what the trace says: one exit and one entry more make it true.
    const bool from_l2 = cpu.vcpu.in_l2();
    const std::uint64_t l2_rip = get(vmx::field::guest_rip);
    const auto l2 = cpu.vcpu.running();
    if ((here.nmi_state & nmi_state::asked) != 0) [[unlikely]]
        entry = answer_requests(cpu, entry);
    if ((here.nmi_state & nmi_state::machine_check) != 0) [[unlikely]]
        give_machine_check(cpu, entry);
    if ((here.nmi_state & nmi_state::waits) != 0 &&
        cpu.vcpu.deliver(nested::Event::nmi(), entry) == nested::Delivery::given) {
        clear_nmi_state(nmi_state::waits);
    }
    if (from_l2 && !cpu.vcpu.in_l2()) recorder::record_nmi_exit(cpu, l2, l2_rip);
    return entry;
}

nested::Entry handle_failed_entry(ExitFrame& frame) {
    const std::uint32_t error = get(vmx::field::vm_instruction_error);
    if (frame.cpu == nullptr) return handle_second_vms_failed_entry(error);
    Cpu& cpu = *frame.cpu;
    recorder::record_refused_entry(cpu, error);
    put_off_hole_write(cpu);
    const auto entry = cpu.vcpu.handle_failed_entry(error);
    if (!entry) panic("the processor refused vmcs01, VM-instruction error ", error);
    recorder::record_entry(cpu);
    return *entry;
}

}  // extern "C"

namespace {

// The local APIC as some firmware leaves it: only then are L1's x2APIC registers the processor's own
// (host/local_apic.hpp).
void enter_x2apic_mode() {
    namespace bit = x86::apic_base;
    const bool has_it = (cpuid(x86::cpuid::leaf_features).ecx & x86::cpuid::features_ecx_x2apic) != 0;
    const std::uint64_t base = read_msr(x86::msr::ia32_apic_base);
    if (has_it && (base & bit::global_enable) != 0)
        write_msr(x86::msr::ia32_apic_base, base | bit::x2apic_enable);
}

// What this processor wants of its control registers and MSRs before VMXON.
void prepare_processor(const BootResult& boot) {
    const vmx::Capabilities& hardware = boot.processor.capabilities;
    if (boot.options.x2apic) enter_x2apic_mode();
    // Without CR4.MCE a machine check in L0 is a shutdown that nothing tells of
    // (metal/ground/machine_check.hpp).
    constexpr std::uint64_t wanted = x86::cr4::vmx_enable | x86::cr4::machine_check_enable;
    const std::uint64_t cr4 = (read_cr4() | hardware.cr4.fixed0 | wanted) & hardware.cr4.fixed1;
    const std::uint64_t cr0 = (read_cr0() | hardware.cr0.fixed0) & hardware.cr0.fixed1;
    // XSETBV is executed here for L1.
    const bool has_xsave = (cpuid(x86::cpuid::leaf_features).ecx & x86::cpuid::features_ecx_xsave) != 0;
    asm volatile("mov %0, %%cr0; mov %1, %%cr4" ::"r"(cr0),
                 "r"(cr4 | (has_xsave ? x86::cr4::xsave_enable : 0))
                 : "memory");
    // What the firmware may have left there L1 must not have either (host/msrs.hpp).
    if (const auto states = try_read_msr(x86::msr::ia32_xss)) {
        if ((*states & host::hidden::state_components) != 0)
            write_msr(x86::msr::ia32_xss, *states & ~std::uint64_t{host::hidden::state_components});
    }
}

x86::Hpa make_vmcs01(const BootResult& boot) {
    auto* page = static_cast<std::uint32_t*>(boot.pages->allocate_page_or_panic("vmcs01"));
    *page = boot.processor.capabilities.basic.revision();
    const x86::Hpa vmcs01 = physical_of(page);
    vmclear(vmcs01);
    vmptrld(vmcs01);
    return vmcs01;
}

// This processor's, in VMX operation and with its vmcs01 current.
Cpu& make_cpu(void* storage, BootResult& boot, x86::Hpa vmcs01) {
    Cpu& cpu = *new (storage) Cpu(boot, *shared.vpids, vmcs01, shared.promised,
                                  {.tags = shared.policy,
                                   .shadow_vmcs = boot.options.shadow_vmcs,
                                   .host_takes_nmis = given_processors().size() > 1});
    cpu.mode = boot.options.nested_vpid;
    cpu.port.set_promise(&cpu.capabilities.promised);
    // The exit stub finds the frame again at the top of its stack.
    ProcessorLocal& local = this_processor();
    auto* top = reinterpret_cast<std::uint64_t*>(local.exit_stack.data() + local.exit_stack.size() - 16);
    *top = reinterpret_cast<std::uint64_t>(&cpu.frame);
    cpu.frame.stack_top = reinterpret_cast<std::uint64_t>(top);
    cpu.frame.handler = handle_exit;
    local.cpu = &cpu;
    if (boot.options.trace) recorder::set_up(*boot.pages);
    prepare_hole_writes(boot);
    return cpu;
}

// What another processor has of its own beside ProcessorLocal.
struct OtherCpu {
    BootResult boot;
    alignas(Ept01) std::array<std::byte, sizeof(Ept01)> ept01;
    alignas(Cpu) std::array<std::byte, sizeof(Cpu)> cpu;
};

// On another processor, alone: the first one waits for it.
void enter_other_processor(ProcessorLocal& local) {
    auto& own = *static_cast<OtherCpu*>(local.enter_argument);
    prepare_processor(own.boot);
    own.boot.ept01 = new (own.ept01.data())
        Ept01(*own.boot.pages, *own.boot.memory_types, own.boot.region, own.boot.processor);
    Cpu& cpu = make_cpu(own.cpu.data(), own.boot, make_vmcs01(own.boot));
    local.ready.store(true);
    start_first(cpu);
    recorder::record_entry(cpu);
    vm_first_entry(cpu.frame, true);
    panic("vm_first_entry returned");
}

void lead_on_other_processors(const BootResult& boot) {
    for (ProcessorLocal* const each : given_processors().subspan(1)) {
        constexpr std::size_t pages_of_one = (sizeof(OtherCpu) + x86::page_size_4k - 1) / x86::page_size_4k;
        void* const memory = boot.pages->allocate_contiguous(pages_of_one);
        if (memory == nullptr) panic("L0 is out of memory for its processors; boot with a smaller cpus=");
        each->enter_argument = new (memory) OtherCpu{.boot = boot, .ept01 = {}, .cpu = {}};
        each->enter.store(enter_other_processor);
        constexpr unsigned longest_wait = 1000;  // ms
        for (unsigned waited = 0; !each->ready.load(); ++waited) {
            if (waited == longest_wait)
                panic("the processor with APIC identifier ", each->apic_id, " does not get ready");
            wait_microseconds(1000);
        }
    }
}

}  // namespace

void run_l1(BootResult& boot) {
    const vmx::Capabilities& hardware = boot.processor.capabilities;
    prepare_processor(boot);
    auto* region = static_cast<std::uint32_t*>(boot.pages->allocate_page_or_panic("the VMXON region"));
    *region = hardware.basic.revision();
    vmxon(physical_of(region));
    const x86::Hpa vmcs01 = make_vmcs01(boot);

    // Asked once: hypervisors beneath, and old processors, have fewer fields than there are.
    nested::FieldSet fields;
    for (std::size_t index = 0; index < vmx::field_count; ++index) {
        if (try_vmread(vmx::all_fields[index].encoding)) fields.insert(index);
    }
    static constexpr tag::Policy policies[] = {tag::Policy::mapped, tag::Policy::single, tag::Policy::off};
    const tag::Policy policy = policies[static_cast<unsigned>(boot.options.nested_vpid)];
    shared.policy = policy;
    // The emulator Bochs, by the identifier that its VMCSs have. Who writes exit information can mend most of
    // it (docs/engine.md); so L1 gets it there where the command line says so.
    constexpr std::uint32_t emulated_vmcs = 0x2b;
    const bool misreports = hardware.basic.revision() == emulated_vmcs;
    vmx::Capabilities offered = hardware;
    if (!boot.options.apicv.value_or(!misreports) ||
        (misreports && !hardware.misc.may_write_exit_information())) {
        offered.secondary_processor_based.allowed1 &=
            ~(vmx::secondary::apic_register_virtualization | vmx::secondary::virtual_interrupt_delivery);
    }
    // It wakes no guest that was entered halted by an interrupt window, or by an interrupt where RFLAGS.IF is
    // 0.
    if (!boot.options.hlt_state.value_or(!misreports))
        offered.misc.value &= ~std::uint64_t{vmx::MiscCapability::activity_hlt};
    shared.promised =
        nested::make_capabilities(offered, boot.processor.physical_address_width, policy != tag::Policy::off,
                                  fields, has_linear_address_masking() ? x86::cr3::linear_address_masking : 0,
                                  /*posted_interrupts=*/!boot.second_vm);
    shared.promised.misreports_virtual_interrupts =
        misreports && offered.secondary_processor_based.may_set(vmx::secondary::virtual_interrupt_delivery);
    // In that state nothing but a start-up IPI ends an L2's turn (SDM 3C 26.2, 26.5.1).
    if (boot.second_vm)
        shared.promised.promised.misc.value &= ~std::uint64_t{vmx::MiscCapability::activity_wait_for_sipi};
    // Two VMs are to show that a tag may go from one to the other.
    constexpr std::uint16_t tags_of_two_vms = 96;
    const std::uint16_t tags = boot.second_vm ? tags_of_two_vms : tag::VpidPool::most_tags;
    shared.vpids = new (vpid_storage) tag::VpidPool(boot.processor.has_vpid ? tags : 0);
    Cpu& cpu = make_cpu(cpu_storage, boot, vmcs01);
    lead_on_other_processors(boot);

    set_panic_stop(stop_other_processors);
    set_panic_report([] {
        tell_of_stopped_processors();
        recorder::print_last_events();
    });
    set_up_vmcs01(cpu, boot);
    if (boot.options.demands && !boot.second_vm) set_up_demands(cpu);
    cpu.vcpu.prepare_first_entry();
    if (boot.second_vm) set_up_turns(cpu, boot, *shared.vpids, shared.promised, policy);
    log::info("nested VPID ",
              policy == tag::Policy::mapped   ? "mapped"
              : policy == tag::Policy::single ? "single"
                                              : "off",
              ", ", cpu.vcpu.tag_capacity(), " slots; VMCS shadowing ",
              cpu.vcpu.shadows_vmcs() ? "on" : "off", "; ", boot.pages->free_pages() * 4,
              " KB left for tables");
    // Where who watches memory finds how many exits of L2s there were (docs/watch.md).
    log::line("FLATBACK text l0.exits_from_l2 ", log::hex(physical_of(&cpu.vcpu.counters().exits_from_l2)));
    log::line("FLATBACK text l0.vmcs01 ", log::hex(vmcs01));
    announce_mark();
    log::line("FLATBACK stage l1-entry");
    // The last record before L1: by it the tools know that what follows may be L1's.
    log::line("FLATBACK value l0.l1_entry_tsc ", read_tsc());
    log::leave_screen();
    serial::drain();  // L1 may set the UART up anew, which cuts what is still in it
    recorder::record_entry(cpu);
    vm_first_entry(cpu.frame, true);
    panic("vm_first_entry returned");
}

}  // namespace flatback::metal

// A flush that L0 took and neither ran nor kept: stale translations may be next, so this is where L0 stops.
void flatback::tag::unpaid_flush(const FlushTarget& target) noexcept {
    metal::panic("a TLB flush of tag ", tag::raw(target.tag), " was dropped");
}
