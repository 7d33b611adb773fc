// A virtual CPU of L1 on a simulated processor: L1 executes VMX instructions, L2 exits, and after each the
// processor enters what the engine left current, with the checks that real hardware makes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string_view>
#include <vector>

#include "nested/capabilities.hpp"
#include "nested/counters.hpp"
#include "nested/demands.hpp"
#include "nested/fault.hpp"
#include "nested/pending_events.hpp"
#include "nested/port.hpp"
#include "nested/state/format.hpp"
#include "nested/vmcs/learned_fields.hpp"
#include "tag/vpid12_map.hpp"
#include "tests/nested/fake_port.hpp"
#include "tests/nested/outcome.hpp"
#include "vmx/exit_reason.hpp"
#include "vmx/field.hpp"
#include "vmx/instruction_information.hpp"

namespace flatback::nested {
template <Port P>
class NestedVcpu;
enum class Entry : std::uint8_t;
enum class Delivery : std::uint8_t;
}  // namespace flatback::nested

namespace flatback::nested_test {

namespace field = vmx::field;
using vmx::ExitReason;
using vmx::InstructionError;

// Where things lie in L1's memory. Linear addresses below 2 MB are mapped to themselves by 4 KB pages.
namespace layout {
inline constexpr std::uint64_t page_tables = 0x1000;  // PML4, PDPT, PD, PT
inline constexpr std::uint64_t level1_table = 0x4000;
inline constexpr std::uint64_t operand = 0x8010;
inline constexpr std::uint64_t vmxon_region = 0xf000;
constexpr std::uint64_t vmcs_region(unsigned n) {
    return 0x1'0000 + n * 0x1000ULL;
}
inline constexpr std::uint64_t msr_bitmap = 0x10'0000;
inline constexpr std::uint64_t io_bitmaps = 0x10'1000;
inline constexpr std::uint64_t msr_list = 0x10'4000;
inline constexpr std::uint64_t apic_page = 0x10'5000;
inline constexpr std::uint64_t ept_tables = 0x20'0000;
inline constexpr std::uint64_t host_rip = 0xffff'8000'0010'0000;
}  // namespace layout

// The real processor: one like a Skylake-X.
[[nodiscard]] vmx::Capabilities processor();
// With VMCS shadowing in use, or an older one, on which nobody writes exit information (SDM 3D A.6).
[[nodiscard]] inline vmx::Capabilities processor_for(bool shadow_vmcs) {
    vmx::Capabilities all = processor();
    if (!shadow_vmcs) all.misc.value &= ~vmx::MiscCapability::vmwrite_any_field;
    return all;
}
inline constexpr unsigned physical_width = 40;

// [base], and the register that has the type or the field's encoding.
constexpr vmx::InstructionOperands memory_operand(std::uint8_t base, std::uint8_t register2 = 2) {
    vmx::InstructionOperands operands;
    operands.base_register = base;
    operands.register2 = register2;
    return operands;
}
constexpr vmx::InstructionOperands register_operand(std::uint8_t register1, std::uint8_t register2 = 2) {
    vmx::InstructionOperands operands;
    operands.register1 = register1;
    operands.register2 = register2;
    return operands;
}

struct L2Exit {
    ExitReason reason = ExitReason::cpuid;
    std::uint64_t qualification = 0;
    std::uint32_t interruption = 0;
    std::uint32_t error_code = 0;
    std::uint32_t vectoring = 0;
    std::uint32_t vectoring_error_code = 0;
    std::uint32_t instruction_length = 0;
    std::uint32_t instruction_information = 0;
    std::uint64_t guest_physical = 0;
    std::uint64_t guest_linear = 0;
};

class VirtualCpu {
public:
    struct Options {
        tag::Policy tags = tag::Policy::mapped;
        bool shadow_vmcs = false;
        tag::VpidPool* pool = nullptr;  // its own where there is none
        vmx::Capabilities hardware = processor();
        std::set<std::uint32_t> lacking_fields{};
        std::set<std::uint16_t> kept_ports{};  // by the host
        std::uint64_t cr3_masking_bits = 0;    // that the processor has
        SharedL1Pages* shared = nullptr;       // memory that it has in common with others
        unsigned physical_cpu = 0;
        nested::LearningRule learning{};
        bool posted_interrupts = false;
        bool misreports_virtual_interrupts = false;  // this processor
        std::uint64_t withheld_misc = 0;             // of IA32_VMX_MISC, by the host from L1
        std::uint32_t promised_revision = 0;         // to L1, where it is not the engine's
    };

    explicit VirtualCpu(const Options& options);
    VirtualCpu() : VirtualCpu(Options{}) {}
    VirtualCpu(const VirtualCpu&) = delete;
    VirtualCpu& operator=(const VirtualCpu&) = delete;
    ~VirtualCpu();

    // --- L1 executes; memory operands are at layout::operand unless said otherwise
    Outcome vmxon(std::uint64_t region = layout::vmxon_region);
    Outcome vmxoff() { return execute(ExitReason::vmxoff); }
    Outcome vmcall() { return execute(ExitReason::vmcall); }
    Outcome vmclear(std::uint64_t region) { return with_pointer(ExitReason::vmclear, region); }
    Outcome vmptrld(std::uint64_t region) { return with_pointer(ExitReason::vmptrld, region); }
    Outcome vmptrst();  // then see operand()
    Outcome vmlaunch() { return execute(ExitReason::vmlaunch); }
    Outcome vmresume() { return execute(ExitReason::vmresume); }
    // With register operands. Where the processor shadows the field, the engine sees nothing of it.
    Outcome vmread(std::uint64_t encoding);  // then see value_read()
    Outcome vmwrite(std::uint64_t encoding, std::uint64_t value);
    Outcome invept(std::uint64_t type, std::uint64_t eptp = 0, std::uint64_t reserved = 0);
    Outcome invvpid(std::uint64_t type, std::uint64_t vpid = 0, std::uint64_t address = 0);
    Outcome execute(ExitReason reason, const vmx::InstructionOperands& operands = {},
                    std::uint64_t displacement = 0, std::uint64_t type = 0);
    Outcome execute_raw(ExitReason reason, std::uint32_t instruction_information, std::uint64_t displacement);
    [[nodiscard]] std::uint64_t value_read() const { return port.registers.at(0); }
    [[nodiscard]] std::uint64_t operand() { return port.memory.read<std::uint64_t>(layout::operand); }

    // VMREAD and VMWRITE that must succeed.
    [[nodiscard]] std::uint64_t read(const auto& which) { return read_raw(which.encoding); }
    void write(const auto& which, std::uint64_t value) { write_raw(which.encoding, value); }
    [[nodiscard]] std::uint64_t read_raw(std::uint32_t encoding);
    void write_raw(std::uint32_t encoding, std::uint64_t value);
    void raise(const auto& which, std::uint64_t bits) { write(which, read(which) | bits); }
    void lower(const auto& which, std::uint64_t bits) { write(which, read(which) & ~bits); }

    // --- in one sentence
    void enter_vmx_operation();
    // VMCLEAR and VMPTRLD of region n, and every field such that VMLAUNCH enters a 64-bit L2 without EPT or
    // VPID.
    void make_vmcs(unsigned n);
    void use_vpid(std::uint16_t vpid12);
    void use_secondary(std::uint32_t bits);
    void use_ept(std::uint64_t eptp12);
    // VMXON, VMCS 0 current and valid.
    void prepare() {
        enter_vmx_operation();
        make_vmcs(0);
    }
    void prepare_and_launch();
    // L1 in 32-bit code with PAE paging, by the same page tables; and in 64-bit code again.
    void leave_64_bit_mode(std::uint32_t code_rights = 0xc09b);
    void return_to_64_bit_mode();

    // --- L2
    Outcome l2_exits(const L2Exit& exit);
    // An exception that only the host asked for, and passes on.
    Outcome l2_meets_exception_for_the_host(const L2Exit& exit);
    // The host goes on with its exit.
    Outcome resume();
    Outcome resume_behind_instruction();
    Outcome resume_with_fault(const nested::Fault& fault);
    // An exit that L1 always sees.
    Outcome l2_executes_cpuid();
    // With register operands. l2_runs: done, by the processor in its shadow VMCS or by L0; see value_read().
    Outcome l2_vmread(std::uint64_t encoding);
    Outcome l2_vmwrite(std::uint64_t encoding, std::uint64_t value);
    struct Leaf {
        std::uint64_t host = 0;  // of the byte
        std::uint64_t entry = 0;
        unsigned shift = 0;
        std::uint64_t permissions = 0;  // of the whole walk
    };
    [[nodiscard]] std::optional<Leaf> ept02_leaf(std::uint64_t guest_physical);
    // Reads, writes or fetches (RWX bits) as L2: with the EPT violations it takes, until the access is
    // allowed or L1 sees an exit.
    Outcome l2_touches(std::uint64_t guest_physical, std::uint64_t access,
                       std::uint64_t qualification_bits = 0x180);

    // --- what the host hypervisor calls
    [[nodiscard]] bool set_demands(const nested::Demands& demands);
    [[nodiscard]] bool l1_wants_hosts_exit() const;
    void l2_translations_changed();
    void prepare_first_entry();
    void prepare_reentry();
    [[nodiscard]] std::optional<std::uint64_t> l1_ept_pointer() const;
    void l1_translations_changed();
    void l1_msr_changed();
    void ept01_changed();
    void write_vanished();
    bool deliver_nmi();
    [[nodiscard]] nested::Delivery deliver(const nested::Event& event);
    // The virtual CPU leaves its processor and enters another, on which the guest that is current runs on.
    Outcome move_to(unsigned cpu);
    void leave_processor();
    Outcome enter_processor();
    void enter_processor_without_entry();  // the host goes on with its exit first
    [[nodiscard]] bool reset(bool by_init);
    void close_window();
    void retry_l1();
    [[nodiscard]] std::vector<std::byte> save_state();
    [[nodiscard]] std::optional<nested::StateError> save_error(std::span<std::byte> into);
    // A state that is good: what becomes of the entry.
    Outcome restore_and_enter(std::span<const std::byte> state);
    // The error, if there is one; else the guest that is current is entered.
    std::optional<nested::StateError> restore_state(std::span<const std::byte> state);
    // All that L0 has of the virtual CPU is saved and thrown away. Another engine, on another processor and
    // with another pool of tags, gets it back, and what it saves is the same.
    void begin_anew();
    void reset_engine();
    void inject_general_protection();
    // INS or OUTS of L1's at a port that the host keeps.
    Outcome string_io(vmx::IoAccess access, const vmx::InstructionOperands& operands = {});
    // Of L1's. nullopt: they are not to be had any more.
    [[nodiscard]] std::optional<std::vector<std::uint8_t>> read_l1_code(std::uint64_t linear, unsigned size);
    [[nodiscard]] std::optional<std::uint64_t> read_guest_msr(std::uint32_t msr);
    [[nodiscard]] bool write_guest_msr(std::uint32_t msr, std::uint64_t value);
    // Called between an exit and an entry of L2.
    std::function<void()> before_entry;
    // How the processor refuses the next entry of L2, whatever its checks say.
    enum class Refusal : std::uint8_t { vmfail, guest_state, msr_list, machine_check };
    std::optional<Refusal> refusal;
    // The processor refuses vmcs02 with VMfail, or its guest state, right after a call that made L2 current.
    Outcome hardware_refuses_entry(std::uint32_t error);
    Outcome hardware_refuses_state();

    // --- what there is to see
    [[nodiscard]] bool in_l2() const;
    [[nodiscard]] bool in_vmx_operation() const;
    [[nodiscard]] std::uint16_t vpid01() const;
    [[nodiscard]] std::size_t tag_capacity() const;
    [[nodiscard]] bool shadows_vmcs() const;
    [[nodiscard]] bool offers_invvpid() const;
    [[nodiscard]] nested::FieldSet fields_of_l1() const;
    [[nodiscard]] nested::Counters& counters();
    [[nodiscard]] tag::MapStatistics tag_statistics() const;
    [[nodiscard]] std::uint64_t leaves_filled() const;
    [[nodiscard]] std::uint64_t ept02_pages() const;
    [[nodiscard]] std::uint64_t hardware_invepts() const;
    [[nodiscard]] FakeVmcs& vmcs01() { return port.vmcs(vmcs01_); }
    // The hardware VMCS that L2 last ran under.
    [[nodiscard]] FakeVmcs& vmcs02() { return port.vmcs(vmcs02_); }
    [[nodiscard]] x86::Hpa vmcs02_page() const { return vmcs02_; }
    // The tag under which L2 last entered; 0 where "enable VPID" was clear.
    [[nodiscard]] std::uint16_t l2_tag();
    // What the hardware injected into L2 at the last entry.
    [[nodiscard]] std::uint32_t injected() const { return injected_; }
    [[nodiscard]] std::vector<Flush> invvpids() const;
    [[nodiscard]] std::vector<Flush> invepts() const;
    void forget_flushes() { port.flushes.clear(); }
    [[nodiscard]] tag::VpidPool& pool() { return *pool_; }
    // NMIs that reached a guest through its IDT; port.nmi_pending is one that L0 has to give.
    unsigned nmis_in_l1 = 0;
    unsigned nmis_in_l2 = 0;
    // All that the host has for this virtual CPU, in the order in which it comes; what is given back returns
    // here. For tests that use it, and neither of the port's two flags.
    nested::PendingEvents events;
    bool has_one_queue = false;
    // What a guest took through its IDT, in order: vectors.
    std::vector<std::uint8_t> taken_by_l1;
    std::vector<std::uint8_t> taken_by_l2;
    std::vector<nested::Event> left_to_host;  // INIT and start-up IPIs outside of VMX operation
    // Likewise of machine checks and port.machine_check_pending.
    unsigned machine_checks_in_l1 = 0;
    unsigned machine_checks_in_l2 = 0;
    std::uint64_t extra_rflags = 0;  // of L1
    unsigned begun_again = 0;        // how often L1's last instruction was executed again
    std::string_view refused_rule;   // by which the processor last refused vmcs02

    const vmx::Capabilities hardware;
    const nested::Capabilities capabilities;
    FakePort port;

private:
    Outcome with_pointer(ExitReason reason, std::uint64_t pointer);
    Outcome settle(nested::Entry entry, std::uint64_t rip_before);
    [[nodiscard]] Outcome enter_l1(std::uint64_t rip_before);
    [[nodiscard]] FakeVmcs* shadow_for(FakeVmcs& v, std::uint64_t encoding, bool write);
    [[nodiscard]] static std::uint64_t read_component(FakeVmcs& vmcs, std::uint64_t encoding);
    static void write_component(FakeVmcs& vmcs, std::uint64_t encoding, std::uint64_t value);
    void expect_vmcs02_is_safe();
    void expect_link_is_safe(FakeVmcs& v);
    nested::Entry refuse(FakeVmcs& v, Refusal how);
    bool take_nmi(FakeVmcs& v, unsigned& taken);
    void look_at_events(nested::Entry& entry);
    void note_taken(FakeVmcs& v, std::vector<std::uint8_t>& taken);
    static bool take_machine_check(FakeVmcs& v, unsigned& taken);
    void set_up_l1_state();
    void make_engine();

    std::unique_ptr<tag::VpidPool> own_pool_;
    tag::VpidPool* pool_;
    x86::Hpa vmcs01_{};
    void put_exit(const L2Exit& exit);

    x86::Hpa vmcs02_{};
    bool has_moved_ = false;
    std::uint32_t injected_ = 0;
    std::array<std::uint64_t, nested::exit_reason_count> reflected_before_{};
    std::unique_ptr<nested::NestedVcpu<FakePort>> engine_;
    const Options options_;
};

}  // namespace flatback::nested_test
