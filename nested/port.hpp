// The one seam between the engine and its host: what a hypervisor gives so that its guests may run guests of
// their own. Every privileged operation of the engine passes here; metal/l0/port.hpp is the one for real
// VT-x, tests bring a fake.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../tag/cpu.hpp"
#include "../tag/numbers.hpp"
#include "../vmx/ept.hpp"
#include "../vmx/invalidation.hpp"
#include "../x86/address.hpp"
#include "../x86/msr.hpp"

namespace flatback::nested {

// Where a page of L1's guest-physical memory lies: the largest aligned block around it that EPT01 maps in one
// piece.
struct HostMapping {
    x86::Hpa address;             // of the very byte that was asked for
    unsigned page_shift;          // 12, 21 or 30: size of the block that is contiguous in both spaces
    x86::MemoryType memory_type;  // of EPT01 (SDM 3C 29.3.7)
    // False: what a guest writes there is to vanish, as where there is no memory (let_write_vanish below).
    bool writable;
    // False: nor is what a guest reads there what lies there, so that each access comes to let_write_vanish.
    // Only where `writable` is false, and page_shift 12.
    bool readable = true;
};

// A port may also have, for speed:
//   bool unwritten_since_last_asked(x86::Gpa<x86::L1> page)
//       L1 has not written to the page since this was last asked of it. The engine knows of its own writes.
//   std::uint64_t vmread_in_row(std::uint32_t encoding)
//   void vmwrite_in_row(std::uint32_t encoding, std::uint64_t value)
//       vmread() and vmwrite() of a field that every processor with VT-x and EPT has, while a VMCS is
//       current: they cannot fail, and the port need not look whether they did.
//   std::uint64_t time_stamp_counter()
//       The processor's own (RDTSC as L0 has it), by which L1's VMX-preemption timer goes on while L0 works,
//       and for a host whose demands end L2's turns (nested/demands.hpp).
//   void notice(Notice, std::uint64_t); void notice(EntryCheck, const Vmcs12&);
//   void notice(Notice, const RefusedMsr&)
//       Something to be logged; those with values come instead of the first, to a port that has them.
//   bool take_ept01_change()
//       Whether the write of IA32_APIC_BASE just done changed EPT01, as by moving the APIC's page. The host
//       has executed its INVEPT then; the engine does what ept01_changed() does.
// and where its host_mapping() may say that something is not writable:
//   bool let_write_vanish()
//       L2, whose VMCS is current, is about to write there, and EPT02 now lets it (or to read, as for a page
//       that is not readable). True: the host enters L2
//       for no more than this instruction (or this delivery of an event), makes the page again what it was,
//       and calls NestedVcpu::write_vanished() before any guest runs on. False, or without it: #GP(0).
//   HostMapping page_for_write(x86::Gpa<x86::L1> address)
//       Asked for right before it: the page in which that access lands meanwhile, where it is not
//       host_mapping()'s own, as for registers of a device that the host writes to in L2's place.
// and where the host keeps I/O ports from its guests:
//   x86::Hpa l0_io_bitmap(unsigned half)
//       I/O bitmap A (half 0) or B (SDM 3C 25.6.4) with those ports; read once, by the engine's constructor.
//       At most 8 of the 1,024 quadwords of both are not zero. write_host_state() writes their addresses.
//   bool handle_io()
//       L2, whose VMCS is current, has exited at such a port, and L1 did not ask for it. True: the host has
//       executed the instruction. False, or without it: #GP(0).
//   std::uint32_t input(vmx::IoAccess access)
//   void output(vmx::IoAccess access, std::uint32_t value)
//       One element of INS or OUTS there: of L1's (NestedVcpu::string_io()), and L2's.
//   bool keep_unwritten(x86::Gpa<x86::L1> page)
//       For speed. True: L1, and an L2 under EPT01, will exit by an EPT violation before the next write to
//       the page. When it does, the host lets it, and calls NestedVcpu::l1_writes_noticed_page() (L2's
//       violations pass through the engine, which needs no call). The engine knows of its own writes.
//   std::uint64_t writes_elsewhere()
//       Where several processors run one L1: another value than before where another of them may have written
//       to a page for which keep_unwritten() was true, or NestedVcpu::written_by_l0() of one of them is
//       another. unwritten_since_last_asked() heeds the same.
//   void return_machine_check()
//       The entry that was to deliver a machine check of NestedVcpu::deliver() failed, or an entry of L2 that
//       L1 did not ask for failed by one (SDM 3C 27.9): it is the host's again. Without it the former is
//       lost, and the latter ends L2.
//   void return_interrupt(std::uint8_t vector)
//       The entry that was to deliver an external interrupt of NestedVcpu::deliver() failed: it is the host's
//       again, as one that is acknowledged. Without it the host must give none.
//   std::uint8_t acknowledge_interrupt()
//       A guest takes the interrupt of Event::interrupt_to_acknowledge() now: its vector, as the interrupt
//       controller gives it to a processor that acknowledges.
//   void end_interrupt(std::uint8_t vector)
//       L2 has met this interrupt of L1's, which is acknowledged, by posted-interrupt processing (SDM
//       3C 30.6): the end of interrupt that the processor then writes to the local APIC. Without it L1 is to
//       be promised no posted interrupts (make_capabilities()).
// and as the processor has what they serve:
//   std::uint64_t debug_address(unsigned number)
//       L1's DR0 to DR3. Without it a data breakpoint does not see the operands of L1's VMX instructions.
//   std::uint32_t protection_key_rights()
//       L1's PKRU; asked for only where L1 set CR4.PKE, which a host without this must not offer.
// and for a trace, called instead of those below (nested/notice.hpp):
//   void invvpid(type, tag, linear_address, tag::FlushCause, tag::Vpid12)
//       As below, and why it comes.
//   void invept(type, eptp, tag::FlushCause)
//       As below, and why it comes.
//
// All functions are called by the virtual CPU's own physical CPU, with interrupts disabled.
template <typename P>
concept Port = requires(P& port, std::uint32_t encoding, std::uint64_t value, x86::Hpa page,
                        x86::Gpa<x86::L1> l1_physical, x86::LinearAddress linear_address, tag::TagNumber tag,
                        vmx::Eptp eptp, unsigned number) {
    // The current hardware VMCS. A field that the processor does not have is a bug of the engine: the port
    // stops.
    { port.vmread(encoding) } -> std::same_as<std::uint64_t>;
    {port.vmwrite(encoding, value)};
    {port.load_vmcs(page)};   // VMPTRLD
    {port.clear_vmcs(page)};  // VMCLEAR
    // Revision identifier of hardware VMCSs: IA32_VMX_BASIC[30:0].
    { port.hardware_vmcs_revision() } -> std::same_as<std::uint32_t>;
    // Writes every host-state field, and L0's own controls' addresses, of the current VMCS.
    {port.write_host_state()};

    // Hardware invalidation. The linear address is that of type 0.
    {port.invvpid(vmx::InvvpidType{}, tag, linear_address)};
    {port.invept(vmx::InveptType{}, eptp)};

    // L1's memory: the 4 KB page around an address, or null where L1 has no ordinary memory there (nor ever
    // L0's).
    { port.l1_page(l1_physical) } -> std::same_as<std::byte*>;
    // What EPT01 says of an address. Total: an address that L1 does not have maps to nothing of L0's.
    { port.host_mapping(l1_physical) } -> std::same_as<HostMapping>;

    // 4 KB pages of L0's own, zeroed, for tables and VMCSs.
    { port.allocate_page() } -> std::same_as<std::optional<x86::Hpa>>;
    { port.page(page) } -> std::same_as<std::uint64_t*>;

    // The guest's general registers by number (SDM 3C table 28-14: 0 RAX ... 15 R15); 4, RSP, is not asked
    // for.
    { port.general_register(number) } -> std::same_as<std::uint64_t&>;
    // An MSR as L1 would see it; nullopt or false: #GP(0).
    { port.read_l1_msr(encoding) } -> std::same_as<std::optional<std::uint64_t>>;
    { port.write_l1_msr(encoding, value) } -> std::same_as<bool>;
    // The 4 KB MSR bitmap (SDM 3C 25.6.9) of what L0 keeps from L1, and so from L2 even where L1 allows it.
    { port.l0_msr_bitmap() } -> std::same_as<x86::Hpa>;
    // EPT01's EPTP: under it runs an L2 whose L1 uses no EPT for it. A host that changes EPT01 later executes
    // INVEPT for it itself, and calls NestedVcpu::ept01_changed() for what the engine made of it.
    { port.ept01_pointer() } -> std::same_as<vmx::Eptp>;
    {port.set_cr2(value)};
    // L2 met an EPT violation under EPT01 itself. False: there is nothing to be done about it.
    { port.handle_ept01_violation(value) } -> std::same_as<bool>;
    // The entry that was to deliver an NMI of NestedVcpu::deliver() failed: the NMI is the host's again.
    // Or one made L2 exit while another waits: it is the same one, and NMIs are blocked as behind an NMI
    // exit.
    {port.return_nmi()};
    // L1's virtual processor enters the shutdown state, as by a triple fault. Does not return.
    {port.l1_shutdown("")};
    // The engine cannot go on (out of memory, say): names what happened. Does not return.
    {port.fatal("")};

    { port.cpu() } -> std::same_as<tag::Cpu>;  // the physical CPU this runs on
};

}  // namespace flatback::nested
