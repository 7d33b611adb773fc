// The C functions over NestedVcpu, and a Port that asks a table of functions.
#include "flatback.h"

#include <cstddef>
#include <cstdint>
#include <flatback/host/l1_exits.hpp>
#include <flatback/host/l1_state.hpp>
#include <flatback/host/msrs.hpp>
#include <flatback/host/vmcs01.hpp>
#include <flatback/nested/state/kvm.hpp>
#include <flatback/nested/vcpu.hpp>
#include <flatback/nested/vmcs/current_vmcs.hpp>
#include <flatback/vmx/field_table.hpp>
#include <new>
#include <optional>
#include <utility>

// FLATBACK_C_VMCS_ACCESS names a header of the host's with its VMREAD and VMWRITE, to be compiled into the
// engine:
//     static inline std::uint64_t flatback_host_vmread(void* host, std::uint32_t encoding);
//     static inline void flatback_host_vmwrite(void* host, std::uint32_t encoding, std::uint64_t value);
// The table's are not called then.
#ifdef FLATBACK_C_VMCS_ACCESS
#include FLATBACK_C_VMCS_ACCESS
#endif

namespace flatback::c {
namespace {

class TablePort final {
public:
    TablePort(const flatback_operations& operations, void* host) : do_(operations), host_(host) {}

#ifdef FLATBACK_C_VMCS_ACCESS
    [[gnu::always_inline]] std::uint64_t vmread(std::uint32_t encoding) {
        return flatback_host_vmread(host_, encoding);
    }
    [[gnu::always_inline]] void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        flatback_host_vmwrite(host_, encoding, value);
    }
#else
    std::uint64_t vmread(std::uint32_t encoding) {
        return do_.vmread(host_, encoding);
    }
    void vmwrite(std::uint32_t encoding, std::uint64_t value) {
        do_.vmwrite(host_, encoding, value);
    }
#endif
    void load_vmcs(x86::Hpa page) {
        do_.load_vmcs(host_, page.value());
    }
    void clear_vmcs(x86::Hpa page) {
        do_.clear_vmcs(host_, page.value());
    }
    std::uint32_t hardware_vmcs_revision() {
        return do_.hardware_vmcs_revision(host_);
    }
    void write_host_state() {
        do_.write_host_state(host_);
    }
    void invvpid(vmx::InvvpidType type, tag::TagNumber tag, x86::LinearAddress linear_address) {
        do_.invvpid(host_, static_cast<std::uint32_t>(type), tag::raw(tag), linear_address.value());
    }
    void invept(vmx::InveptType type, vmx::Eptp eptp) {
        do_.invept(host_, static_cast<std::uint32_t>(type), eptp.value);
    }
    std::byte* l1_page(x86::Gpa<x86::L1> address) {
        return static_cast<std::byte*>(do_.l1_page(host_, address.value()));
    }
    nested::HostMapping host_mapping(x86::Gpa<x86::L1> address) {
        const flatback_mapping mapping = do_.host_mapping(host_, address.value());
        return {x86::Hpa{mapping.address}, mapping.page_shift,
                static_cast<x86::MemoryType>(mapping.memory_type), mapping.writable};
    }
    std::optional<x86::Hpa> allocate_page() {
        std::uint64_t page = 0;
        if (!do_.allocate_page(host_, &page)) return std::nullopt;
        return x86::Hpa{page};
    }
    std::uint64_t* page(x86::Hpa address) {
        return do_.page(host_, address.value());
    }
    std::uint64_t& general_register(unsigned number) {
        return *do_.general_register(host_, number);
    }
    std::optional<std::uint64_t> read_l1_msr(std::uint32_t msr) {
        return host::read_msr(*this, msr);
    }
    bool write_l1_msr(std::uint32_t msr, std::uint64_t value) {
        return !host::is_vmx_capability(msr) && host::write_msr(*this, msr, value);
    }
    x86::Hpa l0_msr_bitmap() {
        return x86::Hpa{do_.l0_msr_bitmap(host_)};
    }
    vmx::Eptp ept01_pointer() {
        return vmx::Eptp{do_.ept01_pointer(host_)};
    }
    void set_cr2(std::uint64_t value) {
        do_.set_cr2(host_, value);
    }
    bool handle_ept01_violation(std::uint64_t address) {
        return do_.handle_ept01_violation(host_, address);
    }
    void return_nmi() {
        do_.return_nmi(host_);
    }
    [[noreturn]] void l1_shutdown(const char* why) {
        do_.l1_shutdown(host_, why);
        __builtin_trap();
    }
    [[noreturn]] void fatal(const char* why) {
        do_.fatal(host_, why);
        __builtin_trap();
    }
    tag::Cpu cpu() {
        return tag::Cpu{do_.cpu(host_)};
    }

    bool unwritten_since_last_asked(x86::Gpa<x86::L1> page) {
        return do_.unwritten_since_last_asked != nullptr &&
               do_.unwritten_since_last_asked(host_, page.value());
    }
    bool take_ept01_change() {
        return do_.take_ept01_change != nullptr && do_.take_ept01_change(host_);
    }
    std::uint64_t debug_address(unsigned number) {
        // Without the host's word: an address that no access has.
        return do_.debug_address != nullptr ? do_.debug_address(host_, number) : std::uint64_t{1} << 63;
    }
    std::uint32_t protection_key_rights() {
        return do_.protection_key_rights != nullptr ? do_.protection_key_rights(host_) : 0;
    }
    bool let_write_vanish() {
        return do_.let_write_vanish != nullptr && do_.let_write_vanish(host_);
    }
    void return_interrupt(std::uint8_t vector) {
        if (do_.return_interrupt == nullptr) fatal("return_interrupt is missing in flatback_operations");
        do_.return_interrupt(host_, vector);
    }
    void return_machine_check() {
        if (do_.return_machine_check != nullptr) do_.return_machine_check(host_);
    }
    std::uint8_t acknowledge_interrupt() {
        if (do_.acknowledge_interrupt == nullptr)
            fatal("acknowledge_interrupt is missing in flatback_operations");
        return do_.acknowledge_interrupt(host_);
    }
    [[nodiscard]] bool has_time_stamp_counter() const {
        return do_.time_stamp_counter != nullptr;
    }
    std::uint64_t time_stamp_counter() {
        return do_.time_stamp_counter(host_);
    }
    void notice(nested::Notice what, std::uint64_t detail) {
        if (do_.notice != nullptr) do_.notice(host_, static_cast<std::uint32_t>(what), detail);
    }

    void set_promise(const vmx::Capabilities& promised) {
        promised_ = &promised;
    }

    // For host/msrs.hpp.
    [[nodiscard]] const vmx::Capabilities* promise() const {
        return promised_;
    }
    [[nodiscard]] host::MsrBitmap msr_bitmap() {
        return host::MsrBitmap{page(l0_msr_bitmap())};
    }
    [[nodiscard]] std::optional<std::uint64_t> read_processor_msr(std::uint32_t msr) {
        std::uint64_t value = 0;
        if (!do_.read_l1_msr(host_, msr, &value)) return std::nullopt;
        return value;
    }
    [[nodiscard]] bool write_processor_msr(std::uint32_t msr, std::uint64_t value) {
        return do_.write_l1_msr(host_, msr, value);
    }
    [[nodiscard]] bool takes_debugctl(std::uint64_t value) {
        return do_.write_l1_msr(host_, x86::msr::ia32_debugctl, value);
    }

    // For host/l1_exits.hpp.
    [[nodiscard]] host::CpuidRegisters cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
        return do_.cpuid != nullptr ? wide(do_.cpuid(host_, leaf, subleaf)) : host::CpuidRegisters{};
    }
    [[nodiscard]] host::CpuidRegisters hypervisor_leaf(std::uint32_t leaf, std::uint32_t subleaf) {
        return do_.hypervisor_leaf != nullptr ? wide(do_.hypervisor_leaf(host_, leaf, subleaf))
                                              : host::CpuidRegisters{};
    }
    [[nodiscard]] bool apic_enabled() {
        return do_.apic_enabled == nullptr || do_.apic_enabled(host_);
    }
    void set_cache_control(std::uint64_t bits) {
        if (do_.set_cache_control != nullptr) do_.set_cache_control(host_, bits);
    }
    [[nodiscard]] bool write_xcr0(std::uint64_t value) {
        return do_.write_xcr0 != nullptr && do_.write_xcr0(host_, value);
    }
    void write_back_caches() {
        if (do_.write_back_caches != nullptr) do_.write_back_caches(host_);
    }

    [[nodiscard]] vmx::Capabilities capabilities_of_processor() {
        return vmx::Capabilities::from_msrs(
            [this](std::uint32_t msr) { return do_.read_capability_msr(host_, msr); });
    }

private:
    static host::CpuidRegisters wide(const flatback_cpuid& answer) {
        return {answer.eax, answer.ebx, answer.ecx, answer.edx};
    }

    const flatback_operations do_;
    void* host_;
    const vmx::Capabilities* promised_ = nullptr;
};

static_assert(nested::Port<TablePort> && host::MsrHost<TablePort> && host::Processor<TablePort>);

nested::Capabilities capabilities(const flatback_operations& operations, void* host,
                                  const flatback_configuration& configuration) {
    nested::FieldSet fields = nested::FieldSet::all();
    if (operations.has_vmcs_field != nullptr) {
        fields = {};
        for (std::size_t index = 0; index < vmx::field_count; ++index)
            if (operations.has_vmcs_field(host, vmx::all_fields[index].encoding)) fields.insert(index);
    }
    const auto hardware = vmx::Capabilities::from_msrs(
        [&](std::uint32_t msr) { return operations.read_capability_msr(host, msr); });
    nested::Capabilities all = nested::make_capabilities(hardware, configuration.physical_address_width,
                                                         configuration.tags != FLATBACK_TAGS_OFF, fields);
    if (configuration.kvm_revision) nested::kvm::promise_revision(all);
    return all;
}

nested::Configuration engine_configuration(const flatback_configuration& configuration) {
    constexpr tag::Policy policies[] = {tag::Policy::mapped, tag::Policy::single, tag::Policy::off};
    return {.tags = policies[configuration.tags], .shadow_vmcs = configuration.shadow_vmcs};
}

// Every pointer from vmread to the last that must be there.
bool is_complete(const flatback_operations& it) {
    return it.vmread && it.vmwrite && it.load_vmcs && it.clear_vmcs && it.hardware_vmcs_revision &&
           it.write_host_state && it.invvpid && it.invept && it.l1_page && it.host_mapping &&
           it.allocate_page && it.page && it.general_register && it.read_l1_msr && it.write_l1_msr &&
           it.l0_msr_bitmap && it.ept01_pointer && it.set_cr2 && it.handle_ept01_violation && it.return_nmi &&
           it.l1_shutdown && it.fatal && it.cpu && it.read_capability_msr;
}

bool is_room(const void* storage, std::size_t size, std::size_t needed) {
    return storage != nullptr && size >= needed &&
           reinterpret_cast<std::uintptr_t>(storage) % FLATBACK_ALIGNMENT == 0;
}

}  // namespace
}  // namespace flatback::c

using namespace flatback;

struct flatback_pool {
    explicit flatback_pool(std::uint16_t tags) : all(tags) {}
    tag::VpidPool all;
};

struct flatback_vcpu {
    flatback_vcpu(const flatback_operations& operations, void* host,
                  const flatback_configuration& configuration, tag::VpidPool& pool, x86::Hpa vmcs01)
        : port(operations, host),
          promised(c::capabilities(operations, host, configuration)),
          engine(port, promised, pool, vmcs01, c::engine_configuration(configuration)) {
        port.set_promise(promised.promised);
    }

    c::TablePort port;
    nested::Capabilities promised;
    nested::NestedVcpu<c::TablePort> engine;
};

static_assert(sizeof(flatback_pool) <= FLATBACK_POOL_SIZE && alignof(flatback_pool) <= FLATBACK_ALIGNMENT);
static_assert(sizeof(flatback_vcpu) <= FLATBACK_VCPU_SIZE && alignof(flatback_vcpu) <= FLATBACK_ALIGNMENT);

namespace {

flatback_entry c_entry(nested::Entry entry) {
    return static_cast<flatback_entry>(entry);
}
static_assert(static_cast<unsigned>(nested::Entry::vmresume) == FLATBACK_VMRESUME &&
              static_cast<unsigned>(nested::Entry::vmlaunch) == FLATBACK_VMLAUNCH &&
              static_cast<unsigned>(nested::Entry::the_hosts) == FLATBACK_THE_HOSTS);
static_assert(static_cast<unsigned>(nested::EventKind::machine_check) == FLATBACK_MACHINE_CHECK &&
              static_cast<unsigned>(nested::EventKind::init) == FLATBACK_INIT &&
              static_cast<unsigned>(nested::EventKind::start_up) == FLATBACK_START_UP &&
              static_cast<unsigned>(nested::EventKind::nmi) == FLATBACK_NMI &&
              static_cast<unsigned>(nested::EventKind::external_interrupt) == FLATBACK_INTERRUPT);
static_assert(static_cast<unsigned>(nested::Delivery::given) == FLATBACK_GIVEN &&
              static_cast<unsigned>(nested::Delivery::shown) == FLATBACK_SHOWN &&
              static_cast<unsigned>(nested::Delivery::waits) == FLATBACK_WAITS &&
              static_cast<unsigned>(nested::Delivery::discarded) == FLATBACK_DISCARDED &&
              static_cast<unsigned>(nested::Delivery::reset) == FLATBACK_RESET);

constexpr flatback_error c_error(nested::StateError error) {
    return static_cast<flatback_error>(FLATBACK_NO_ROOM + static_cast<unsigned>(error));
}
static_assert(c_error(nested::StateError::no_room) == FLATBACK_NO_ROOM &&
              c_error(nested::StateError::hosts_exit) == FLATBACK_EXIT_IS_THE_HOSTS &&
              c_error(nested::StateError::not_a_state) == FLATBACK_NOT_A_STATE &&
              c_error(nested::StateError::other_version) == FLATBACK_OTHER_STATE_VERSION &&
              c_error(nested::StateError::promise_not_kept) == FLATBACK_PROMISE_NOT_KEPT &&
              c_error(nested::StateError::unknown_field) == FLATBACK_UNKNOWN_FIELD &&
              c_error(nested::StateError::fields_not_sorted) == FLATBACK_FIELDS_NOT_SORTED &&
              c_error(nested::StateError::value_too_wide) == FLATBACK_VALUE_TOO_WIDE &&
              c_error(nested::StateError::bad_pointer) == FLATBACK_BAD_POINTER &&
              c_error(nested::StateError::impossible) == FLATBACK_IMPOSSIBLE_STATE &&
              c_error(nested::StateError::no_memory) == FLATBACK_NO_MEMORY);

static_assert(FLATBACK_KVM_STATE_SIZE == nested::kvm::header_size + nested::kvm::vmcs_size);
static_assert(nested::kvm::most_vmcss == nested::NestedVcpu<c::TablePort>::vmcs_slots);

nested::kvm::Beside cxx_beside(const flatback_beside_kvm& beside) {
    constexpr std::uint32_t first = nested::state::first_capability_msr;
    return {.promised = vmx::Capabilities::from_msrs(
                [&beside](std::uint32_t msr) { return beside.capability_msrs[msr - first]; }),
            .time_stamp_counter = beside.time_stamp_counter,
            .dr7 = beside.dr7,
            .debugctl = beside.debugctl,
            .pat = beside.pat,
            .efer = beside.efer,
            .event = beside.event,
            .event_error_code = beside.event_error_code,
            .event_instruction_length = beside.event_instruction_length};
}
flatback_beside_kvm c_beside(const nested::kvm::Beside& beside) {
    flatback_beside_kvm all{};
    all.size = sizeof all;
    std::uint32_t msr = nested::state::first_capability_msr;
    for (std::uint64_t& value : all.capability_msrs) value = beside.promised.read_msr(msr++).value_or(0);
    all.time_stamp_counter = beside.time_stamp_counter;
    all.dr7 = beside.dr7;
    all.debugctl = beside.debugctl;
    all.pat = beside.pat;
    all.efer = beside.efer;
    all.event = beside.event;
    all.event_error_code = beside.event_error_code;
    all.event_instruction_length = beside.event_instruction_length;
    return all;
}

nested::Fault cxx_fault(const flatback_fault& fault) {
    return {.vector = fault.vector,
            .has_error_code = fault.has_error_code,
            .error_code = fault.error_code,
            .page_fault_address = fault.page_fault_address};
}

host::L1<c::TablePort, c::TablePort> l1_of(flatback_vcpu& vcpu) {
    return {vcpu.engine, vcpu.port, vcpu.port};
}

flatback_l1_state c_state(const host::L1State& state) {
    flatback_l1_state all{};
    all.cr0 = state.cr0;
    all.cr3 = state.cr3;
    all.cr4 = state.cr4;
    all.efer = state.efer;
    all.pat = state.pat;
    all.dr7 = state.dr7;
    all.rip = state.rip;
    all.rsp = state.rsp;
    all.rflags = state.rflags;
    for (std::size_t i = 0; i < state.segments.size(); ++i) {
        const host::L1Segment& segment = state.segments[i];
        all.segments[i] = {segment.selector, segment.base, segment.limit, segment.access_rights};
    }
    all.gdtr = {state.gdtr.base, state.gdtr.limit};
    all.idtr = {state.idtr.base, state.idtr.limit};
    return all;
}

host::L1State cxx_state(const flatback_l1_state& all) {
    host::L1State state{.cr0 = all.cr0,
                        .cr3 = all.cr3,
                        .cr4 = all.cr4,
                        .efer = all.efer,
                        .pat = all.pat,
                        .dr7 = all.dr7,
                        .rip = all.rip,
                        .rsp = all.rsp,
                        .rflags = all.rflags,
                        .gdtr = {all.gdtr.base, all.gdtr.limit},
                        .idtr = {all.idtr.base, all.idtr.limit}};
    for (std::size_t i = 0; i < state.segments.size(); ++i) {
        const flatback_segment& segment = all.segments[i];
        state.segments[i] = {segment.selector, segment.base, segment.limit, segment.access_rights};
    }
    return state;
}

}  // namespace

extern "C" {

std::size_t flatback_pool_size() {
    return sizeof(flatback_pool);
}
std::size_t flatback_vcpu_size() {
    return sizeof(flatback_vcpu);
}

flatback_error flatback_pool_create(void* storage, std::size_t size, std::uint16_t tags,
                                    flatback_pool** pool) {
    if (!c::is_room(storage, size, sizeof(flatback_pool))) return FLATBACK_STORAGE_TOO_SMALL;
    *pool = new (storage) flatback_pool{tags};
    return FLATBACK_OK;
}
void flatback_pool_destroy(flatback_pool* pool) {
    pool->~flatback_pool();
}

flatback_error flatback_vcpu_create(void* storage, std::size_t size, const flatback_operations* operations,
                                    void* host, const flatback_configuration* configuration,
                                    flatback_pool* pool, std::uint64_t vmcs01, flatback_vcpu** vcpu) {
    if (!c::is_room(storage, size, sizeof(flatback_vcpu))) return FLATBACK_STORAGE_TOO_SMALL;
    if (operations->size != sizeof(flatback_operations) ||
        configuration->size != sizeof(flatback_configuration) ||
        static_cast<unsigned>(configuration->tags) > FLATBACK_TAGS_OFF) {
        return FLATBACK_OF_ANOTHER_VERSION;
    }
    if (!c::is_complete(*operations)) return FLATBACK_OPERATION_MISSING;
    *vcpu = new (storage) flatback_vcpu{*operations, host, *configuration, pool->all, x86::Hpa{vmcs01}};
    return FLATBACK_OK;
}
void flatback_vcpu_destroy(flatback_vcpu* vcpu) {
    vcpu->~flatback_vcpu();
}

void flatback_fill_msr_bitmap(std::uint64_t* page) {
    host::fill_msr_bitmap(host::MsrBitmap{page});
}
flatback_l1_state flatback_state_at_reset() {
    return c_state(host::state_at_reset());
}
flatback_l1_state flatback_state_in_protected_mode(std::uint16_t code, std::uint16_t data,
                                                   std::uint64_t rip) {
    return c_state(host::state_in_protected_mode(code, data, rip));
}
flatback_l1_state flatback_state_in_long_mode(std::uint16_t code, std::uint16_t data, std::uint64_t rip,
                                              std::uint64_t cr3) {
    return c_state(host::state_in_long_mode(code, data, rip, cr3));
}
flatback_error flatback_set_up_vmcs01(flatback_vcpu* vcpu, const flatback_l1_state* start) {
    c::TablePort& port = vcpu->port;
    port.write_host_state();
    nested::CurrentVmcs vmcs{port};
    const host::Vmcs01Places places{.ept01_pointer = port.ept01_pointer(),
                                    .msr_bitmap = port.l0_msr_bitmap(),
                                    .tag = vcpu->engine.vpid01()};
    const auto done = host::set_up_vmcs01(vmcs, port.capabilities_of_processor(), places, cxx_state(*start));
    return done ? FLATBACK_OK : FLATBACK_NOTHING;
}

bool flatback_in_vmx_operation(const flatback_vcpu* vcpu) {
    return vcpu->engine.in_vmx_operation();
}
bool flatback_in_l2(const flatback_vcpu* vcpu) {
    return vcpu->engine.in_l2();
}
std::uint16_t flatback_vpid01(const flatback_vcpu* vcpu) {
    return tag::raw(vcpu->engine.vpid01());
}
bool flatback_is_vmx_instruction(std::uint32_t exit_reason) {
    const vmx::ExitReasonField reason{exit_reason};
    return !reason.is_entry_failure() && vmx::is_vmx_instruction(reason.basic());
}
void flatback_get_promise(const flatback_vcpu* vcpu, flatback_promise* promise) {
    const vmx::Capabilities& promised = vcpu->promised.promised;
    *promise = {promised.cr0.fixed0, promised.cr0.fixed1, promised.cr4.fixed0, promised.cr4.fixed1,
                vcpu->promised.unpromised_cr4};
}
flatback_error flatback_l1_ept_pointer(const flatback_vcpu* vcpu, std::uint64_t* ept_pointer) {
    const auto pointer = vcpu->engine.l1_ept_pointer();
    if (!pointer) return FLATBACK_NOTHING;
    *ept_pointer = pointer->value;
    return FLATBACK_OK;
}
void flatback_get_counters(flatback_vcpu* vcpu, flatback_counters* counters) {
    const nested::Counters& of = vcpu->engine.counters();
    *counters = {of.l2_entries,     of.l2_reentries,   of.exits_from_l2,    of.exits_reflected,
                 of.l2_tag_flushes, of.l1_tag_flushes, of.hardware_invepts, of.vmreads,
                 of.vmwrites,       of.vmptrlds};
}

flatback_entry flatback_handle_l2_exit(flatback_vcpu* vcpu, std::uint32_t exit_reason) {
    return c_entry(vcpu->engine.handle_l2_exit(exit_reason));
}
flatback_entry flatback_handle_vmx_instruction(flatback_vcpu* vcpu, std::uint32_t exit_reason) {
    return c_entry(vcpu->engine.handle_vmx_instruction(vmx::ExitReasonField{exit_reason}.basic()));
}
flatback_error flatback_handle_failed_entry(flatback_vcpu* vcpu, std::uint32_t vm_instruction_error,
                                            flatback_entry* entry) {
    const auto failed = vcpu->engine.handle_failed_entry(vm_instruction_error);
    if (!failed) return FLATBACK_HOST_STATE_REFUSED;
    *entry = c_entry(*failed);
    return FLATBACK_OK;
}
void flatback_prepare_first_entry(flatback_vcpu* vcpu) {
    vcpu->engine.prepare_first_entry();
}
void flatback_prepare_reentry(flatback_vcpu* vcpu) {
    vcpu->engine.prepare_reentry();
}
void flatback_leave_processor(flatback_vcpu* vcpu) {
    vcpu->engine.leave_processor();
}
flatback_entry flatback_enter_processor(flatback_vcpu* vcpu) {
    return c_entry(vcpu->engine.enter_processor());
}
flatback_error flatback_reset(flatback_vcpu* vcpu, bool by_init) {
    return vcpu->engine.reset(by_init ? nested::Reset::init : nested::Reset::power_on) ? FLATBACK_OK
                                                                                       : FLATBACK_NOTHING;
}

std::size_t flatback_most_state_bytes() {
    return nested::NestedVcpu<c::TablePort>::most_state_bytes;
}
flatback_error flatback_save(flatback_vcpu* vcpu, void* into, std::size_t size, std::size_t* used) {
    const auto saved = vcpu->engine.save({static_cast<std::byte*>(into), size});
    if (!saved) return c_error(saved.error());
    *used = *saved;
    return FLATBACK_OK;
}
flatback_error flatback_restore(flatback_vcpu* vcpu, const void* from, std::size_t size,
                                flatback_entry* entry) {
    const auto restored = vcpu->engine.restore({static_cast<const std::byte*>(from), size});
    if (!restored) return c_error(restored.error());
    *entry = c_entry(*restored);
    return FLATBACK_OK;
}

flatback_error flatback_state_from_kvm(const void* kvm, std::size_t size, const flatback_beside_kvm* beside,
                                       void* into, std::size_t room, std::size_t* used) {
    if (beside->size != sizeof(flatback_beside_kvm)) return FLATBACK_OF_ANOTHER_VERSION;
    const auto made = nested::kvm::from_kvm({static_cast<const std::byte*>(kvm), size}, cxx_beside(*beside),
                                            {static_cast<std::byte*>(into), room});
    if (!made) return c_error(made.error());
    *used = *made;
    return FLATBACK_OK;
}
flatback_error flatback_state_to_kvm(const void* state, std::size_t size, flatback_beside_kvm* beside,
                                     void* kvm, std::size_t room, std::size_t* used,
                                     void* (*region)(void* host, std::uint64_t l1_physical), void* host) {
    if (beside->size != sizeof(flatback_beside_kvm)) return FLATBACK_OF_ANOTHER_VERSION;
    nested::kvm::Beside all = cxx_beside(*beside);
    const auto made = nested::kvm::to_kvm(
        {static_cast<const std::byte*>(state), size}, all, {static_cast<std::byte*>(kvm), room},
        [&](std::uint64_t address) { return static_cast<std::byte*>(region(host, address)); });
    if (!made) return c_error(made.error());
    *beside = c_beside(all);
    *used = *made;
    return FLATBACK_OK;
}
flatback_error flatback_region_from_kvm(void* page) {
    const auto done = nested::kvm::region_from_kvm(static_cast<std::byte*>(page));
    return done ? FLATBACK_OK : c_error(done.error());
}
flatback_error flatback_region_to_kvm(void* page) {
    const auto done = nested::kvm::region_to_kvm(static_cast<std::byte*>(page));
    return done ? FLATBACK_OK : c_error(done.error());
}

bool flatback_handle_l1_exit(flatback_vcpu* vcpu, std::uint32_t exit_reason) {
    auto l1 = l1_of(*vcpu);
    return host::handle_l1_exit(l1, vmx::ExitReasonField{exit_reason}.basic());
}
flatback_error flatback_read_guest_msr(flatback_vcpu* vcpu, std::uint32_t msr, std::uint64_t* value) {
    const auto read = vcpu->engine.read_guest_msr(msr);
    if (!read) return FLATBACK_GENERAL_PROTECTION;
    *value = *read;
    return FLATBACK_OK;
}
flatback_error flatback_write_guest_msr(flatback_vcpu* vcpu, std::uint32_t msr, std::uint64_t value) {
    return vcpu->engine.write_guest_msr(msr, value) ? FLATBACK_OK : FLATBACK_GENERAL_PROTECTION;
}
void flatback_l1_msr_changed(flatback_vcpu* vcpu) {
    vcpu->engine.l1_msr_changed();
}
void flatback_l1_translations_changed(flatback_vcpu* vcpu) {
    vcpu->engine.l1_translations_changed();
}
void flatback_ept01_changed(flatback_vcpu* vcpu) {
    vcpu->engine.ept01_changed();
}
void flatback_complete_instruction(flatback_vcpu* vcpu) {
    l1_of(*vcpu).complete();
}
void flatback_inject(flatback_vcpu* vcpu, const flatback_fault* fault) {
    vcpu->engine.inject(cxx_fault(*fault));
}
void flatback_retry_l1(flatback_vcpu* vcpu) {
    vcpu->engine.retry_l1();
}
flatback_entry flatback_pass_exception_on(flatback_vcpu* vcpu) {
    return c_entry(vcpu->engine.pass_exception_on());
}
void flatback_write_vanished(flatback_vcpu* vcpu) {
    vcpu->engine.write_vanished();
}

flatback_delivery flatback_deliver(flatback_vcpu* vcpu, const flatback_event* event, flatback_entry* entry) {
    nested::Entry now = *entry == FLATBACK_VMLAUNCH ? nested::Entry::vmlaunch : nested::Entry::vmresume;
    const auto delivery = vcpu->engine.deliver({.kind = static_cast<nested::EventKind>(event->kind),
                                                .vector = event->vector,
                                                .unacknowledged = event->unacknowledged},
                                               now);
    *entry = c_entry(now);
    return static_cast<flatback_delivery>(delivery);
}
void flatback_close_window(flatback_vcpu* vcpu) {
    vcpu->engine.close_window();
}

flatback_error flatback_set_demands(flatback_vcpu* vcpu, const flatback_demands* demands) {
    if (demands->size != sizeof(flatback_demands)) return FLATBACK_OF_ANOTHER_VERSION;
    nested::Demands wanted{
        .external_interrupts = demands->external_interrupts,
        .acknowledge_interrupts = demands->acknowledge_interrupts,
        .nmis = demands->nmis,
        .instructions = demands->instructions,
        .secondary_instructions = demands->secondary_instructions,
        .exceptions = demands->exceptions,
        .cr0_mask = demands->cr0_mask,
        .cr4_mask = demands->cr4_mask,
        .all_ports = demands->all_ports,
        .kept_msrs = demands->kept_msrs,
        .tsc_multiplier = demands->tsc_multiplier != 0 ? demands->tsc_multiplier : nested::Demands::same_rate,
        .tsc_offset = demands->tsc_offset};
    if (demands->has_turn_end) {
        if (!vcpu->port.has_time_stamp_counter()) return FLATBACK_NOTHING;
        wanted.turn_ends = demands->turn_ends;
    }
    return vcpu->engine.set_demands(wanted) ? FLATBACK_OK : FLATBACK_NOTHING;
}
bool flatback_l1_wants_hosts_exit(const flatback_vcpu* vcpu) {
    return vcpu->engine.l1_wants_hosts_exit();
}
flatback_entry flatback_resume(flatback_vcpu* vcpu) {
    return c_entry(vcpu->engine.resume());
}
flatback_entry flatback_resume_behind_instruction(flatback_vcpu* vcpu) {
    return c_entry(vcpu->engine.resume_behind_instruction());
}
flatback_entry flatback_resume_with_fault(flatback_vcpu* vcpu, const flatback_fault* fault) {
    return c_entry(vcpu->engine.resume_with_fault(cxx_fault(*fault)));
}
void flatback_l2_translations_changed(flatback_vcpu* vcpu) {
    vcpu->engine.l2_translations_changed();
}

}  // extern "C"
