// Delivery through a 64-bit IDT, by the SDM: gates, stacks, error codes, two exceptions at once, exits in the
// midst of it, and IRETQ.
#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "machine/program/handlers.hpp"
#include "machine/rules/descriptors.hpp"
#include "tests/machine/scenario_fixture.hpp"
#include "vmx/controls.hpp"
#include "vmx/field.hpp"

namespace flatback::machine::delivery_test {
namespace {

using handlers::GateType;
using test::page_a;
using vmx::ExitReason;
namespace field = vmx::field;

constexpr std::uint64_t vmcs = layout::vmcs_region(0);
constexpr std::uint64_t vectored_ud = 0x8000'0306;
constexpr std::uint64_t vectored_gp = 0x8000'0B0D;
constexpr std::uint64_t vectored_pf = 0x8000'0B0E;
constexpr std::uint64_t nowhere = 0x7000'0000;  // no structure maps it

class Delivery : public test::BareScenario {
protected:
    Delivery() {
        handlers::put_all(say);
        now();
    }
    [[nodiscard]] Registers& registers() { return world.registers(0, 0); }
    /// L1 with the tables of handlers.hpp and a stack.
    void kernel() {
        Registers& it = registers();
        it.gdtr = {handlers::gdt, handlers::gdt_limit};
        it.idtr = {handlers::idt, handlers::idt_limit};
        it.segment(SegmentName::tr) = {handlers::task, handlers::tss, handlers::tss_limit,
                                       flat_segment::task};
        it.general[4] = handlers::stack - 8;
    }
    /// L2 with the same, of which EPT maps all, or all but one page.
    void guest(std::uint64_t without = 0, std::uint64_t pin = 0x16) {
        say.edit();
        for (const std::uint64_t page : handlers::pages) {
            say.map(1, page, page);
            if (page != without) say.ept_map(0, page, page);
        }
        say.l1().vmxon().prepare(vmcs, {.vpid = 1, .ept = 0, .tables = 1});
        say.vmwrite(field::guest_idtr_base, handlers::idt)
            .vmwrite(field::guest_idtr_limit, handlers::idt_limit);
        say.vmwrite(field::guest_gdtr_base, handlers::gdt)
            .vmwrite(field::guest_gdtr_limit, handlers::gdt_limit);
        say.vmwrite(field::guest_tr_base, handlers::tss).vmwrite(field::guest_rsp, handlers::stack - 8);
        say.vmwrite(field::pin_based_vm_execution_controls, pin);
        now();
    }
    std::uint64_t read(auto what) {
        say.l1().vmread(what);
        return now().value;
    }
    [[nodiscard]] std::vector<std::uint64_t> words(std::uint64_t address, std::size_t count) {
        std::vector<std::uint64_t> found;
        for (std::size_t index = 0; index < count; ++index)
            found.push_back(world.read(0, address + 8 * index));
        return found;
    }
    void gate(unsigned vector, const handlers::GateForm& form) {
        handlers::put_gate(say, vector, form);
        now();
    }
    /// A program at privilege level 3.
    void user() {
        Registers& it = registers();
        it.segment(SegmentName::cs) = {handlers::user_code, 0, 0xFFFF'FFFF, 0xA0FB};
        it.segment(SegmentName::ss) = {handlers::user_data, 0, 0xFFFF'FFFF, 0xC0F3};
    }
};

TEST_F(Delivery, WithoutAnIdtIsTheDriversAffair) {
    const std::uint64_t rip = registers().rip;
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 6));
    EXPECT_EQ(registers().rip, rip + 2);
    say.l1().int_n(0x40);
    EXPECT_TRUE(faulted(now(), 0x40));
    EXPECT_EQ(registers().rip, rip + 4);
}

TEST_F(Delivery, OfAFaultPushesWhereItWasAndGoesToTheHandler) {
    kernel();
    registers().rflags |= x86::rflags::interrupt_enable | x86::rflags::carry;
    const std::uint64_t rip = registers().rip;
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 6));
    EXPECT_EQ(registers().rip, handlers::handler(6));
    // Aligned to 16 bytes, and five words; RF is set in the image and not in the handler.
    const std::uint64_t frame = handlers::stack - 16 - 40;
    EXPECT_EQ(registers().general[4], frame);
    EXPECT_EQ(words(frame, 5), (std::vector<std::uint64_t>{rip, 0x08, 0x1'0203, handlers::stack - 8, 0x10}));
    EXPECT_EQ(registers().rflags, 0x3U);
    EXPECT_EQ(registers().segment(SegmentName::cs).access_rights, flat_segment::code_64);
    EXPECT_EQ(registers().segment(SegmentName::cs).limit, 0xFFFF'FFFFU);
    say.l1().iretq();
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(registers().rip, rip);
    EXPECT_EQ(registers().general[4], handlers::stack - 8);
    EXPECT_EQ(registers().rflags, 0x1'0203U) << "RF is for the instruction that is begun again";
    say.l1().nop();
    now();
    EXPECT_EQ(registers().rflags, 0x203U);
}

TEST_F(Delivery, PushesAnErrorCodeWhereThereIsOne) {
    kernel();
    say.l1().load(nowhere);
    EXPECT_TRUE(faulted(now(), 14, 0));
    EXPECT_EQ(registers().cr2, nowhere);
    EXPECT_EQ(registers().general[4], handlers::stack - 16 - 48);
    say.l1().store(nowhere, 1);
    now();
    EXPECT_EQ(world.read(0, registers().general[4]), 2U) << "a write, not present";
}

TEST_F(Delivery, ThroughATrapGateLeavesInterruptsOn) {
    kernel();
    registers().rflags |= x86::rflags::interrupt_enable | x86::rflags::nested_task;
    gate(6, {.type = GateType::trap});
    say.l1().ud2();
    now();
    EXPECT_EQ(registers().rflags, 0x202U) << "and NT is gone";
}

TEST_F(Delivery, OfIntReturnsBehindItAndAsksTheGatesLevel) {
    kernel();
    const std::uint64_t rip = registers().rip;
    say.l1().int_n(0x40);
    EXPECT_TRUE(faulted(now(), 0x40));
    EXPECT_EQ(words(registers().general[4], 3), (std::vector<std::uint64_t>{rip + 2, 0x08, 0x2}));
    user();
    say.l1().int_n(0x40);
    // No EXT: the program itself asked for it.
    EXPECT_TRUE(faulted(now(), 13, 0x40 * 8 + 2));
    EXPECT_EQ(registers().privilege_level(), 0U);
    // An exception does not ask.
    user();
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 6));
    user();
    gate(0x40, {.privilege_level = 3});
    say.l1().int_n(0x40);
    EXPECT_TRUE(faulted(now(), 0x40));
}

TEST_F(Delivery, FromTheUserTakesTheStackOfTheTssAndIretqGoesBack) {
    kernel();
    user();
    registers().general[4] = 0x1234;
    const std::uint64_t rip = registers().rip;
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 6));
    EXPECT_EQ(registers().general[4], handlers::level_0_stack - 40);
    EXPECT_EQ(words(handlers::level_0_stack - 40, 5),
              (std::vector<std::uint64_t>{rip, handlers::user_code, 0x1'0002, 0x1234, handlers::user_data}));
    EXPECT_EQ(registers().segment(SegmentName::ss).selector, 0U);
    EXPECT_TRUE(x86::AccessRights(registers().segment(SegmentName::ss).access_rights).is_unusable());
    EXPECT_EQ(registers().privilege_level(), 0U);
    say.l1().iretq();
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(registers().privilege_level(), 3U);
    EXPECT_EQ(registers().segment(SegmentName::ss).selector, handlers::user_data);
    EXPECT_EQ(registers().segment(SegmentName::ds).selector, 0U) << "the kernel's is not for the user";
    EXPECT_EQ(registers().general[4], 0x1234U);
}

TEST_F(Delivery, TakesTheStackThatTheGateNames) {
    kernel();
    gate(6, {.stack_table = 2});
    say.l1().ud2();
    now();
    EXPECT_EQ(registers().general[4], handlers::table_stack(2) - 40);
    // A TSS that ends before it: #TS names the TSS.
    registers().segment(SegmentName::tr).limit = 0x2B;
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 10, handlers::task | 1));
}

TEST_F(Delivery, RefusesGatesAndSegmentsWithTheirErrorCodes) {
    kernel();
    constexpr std::uint32_t of_gate = 6 * 8 + 2 + 1;
    gate(6, {.present = false});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 11, of_gate));
    gate(6, {.type = GateType::call});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, of_gate));
    gate(6, {.selector = 0});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, 1));
    gate(6, {.selector = 0x100});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, 0x100 | 1)) << "beyond the GDT";
    gate(6, {.selector = handlers::kernel_data});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, handlers::kernel_data | 1));
    gate(6, {.selector = handlers::user_code});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, (handlers::user_code & ~3U) | 1)) << "of a lower privilege";
    gate(6, {.selector = 4 | 8});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, (4 | 8) | 1)) << "there is no LDT";
    // Of 32 bits; not present.
    gate(6, {.selector = 0x20});
    say.edit().poke(handlers::gdt + 0x20, 0x00CF'9B00'0000'FFFF).l1().ud2();
    EXPECT_TRUE(faulted(now(), 13, 0x20 | 1));
    say.edit().poke(handlers::gdt + 0x20, 0x00AF'1B00'0000'FFFF).l1().ud2();
    EXPECT_TRUE(faulted(now(), 11, 0x20 | 1));
    // Not yet accessed: the processor notes that it is.
    say.edit().poke(handlers::gdt + 0x20, 0x00AF'9A00'0000'FFFF).l1().ud2();
    EXPECT_TRUE(faulted(now(), 6));
    EXPECT_EQ(world.read(0, handlers::gdt + 0x20), 0x00AF'9B00'0000'FFFFU);
    registers().idtr.limit = 14 * 16 + 15;
    say.l1().int_n(15);
    EXPECT_TRUE(faulted(now(), 13, 15 * 8 + 2)) << "beyond the IDT";
    // A stack whose addresses are not canonical.
    registers().general[4] = 0x8000'0000'0010;
    registers().idtr.limit = handlers::idt_limit;
    gate(12, {.stack_table = 1});
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 12, 1));
}

TEST_F(Delivery, OfTwoExceptionsMakesADoubleFaultAndOfThreeAShutdown) {
    kernel();
    gate(13, {.present = false});
    say.l1().rdmsr(0x12345);
    EXPECT_TRUE(faulted(now(), 8, 0)) << "#NP in the delivery of #GP";
    EXPECT_EQ(registers().general[4], handlers::table_stack(1) - 48);
    // #PF in that of #PF: the stack is not there.
    registers().general[4] = nowhere;
    say.l1().load(page_a);
    EXPECT_TRUE(faulted(now(), 8, 0));
    EXPECT_EQ(registers().cr2, nowhere - 8) << "of the second";
    // #PF in that of #GP, or of #UD, is itself.
    gate(13, {});
    gate(14, {.stack_table = 2});
    registers().general[4] = nowhere;
    say.l1().rdmsr(0x12345);
    EXPECT_TRUE(faulted(now(), 14, 2));
    registers().general[4] = nowhere;
    say.l1().ud2();
    EXPECT_TRUE(faulted(now(), 14, 2));
    // In the delivery of INT 14 that is no exception either.
    gate(14, {.present = false});
    say.l1().int_n(14);
    EXPECT_TRUE(faulted(now(), 11, 14 * 8 + 2));
    gate(8, {.present = false});
    say.l1().load(nowhere);
    EXPECT_EQ(now().status, Observation::Status::idle);
    EXPECT_EQ(registers().activity, vmx::ActivityState::shutdown);
    say.l1().nop();
    EXPECT_EQ(now().status, Observation::Status::idle);
}

TEST_F(Delivery, OfAnNmiBlocksNmisUntilIretq) {
    kernel();
    say.l0().nmi().l1().nop();
    now();
    EXPECT_EQ(registers().interruptibility, 8U);
    EXPECT_EQ(words(registers().general[4], 2), (std::vector<std::uint64_t>{kernel_registers(0).rip, 0x08}));
    say.l0().nmi().l1().iretq();
    EXPECT_TRUE(now().nmi) << "the one that waited";
    // An IRETQ that faults has ended it too.
    registers().general[4] = nowhere;
    gate(14, {.stack_table = 2});
    say.l1().iretq();
    EXPECT_TRUE(faulted(now(), 14));
    EXPECT_EQ(registers().interruptibility, 0U);
}

TEST_F(Delivery, OfAnInterruptIsThroughTheIdt) {
    kernel();
    registers().rflags |= x86::rflags::interrupt_enable;
    say.l0().interrupt(0x40).l1().nop();
    now();
    EXPECT_EQ(registers().rip, handlers::handler(0x40) + 1);
    EXPECT_EQ(registers().rflags & x86::rflags::interrupt_enable, 0U);
}

TEST_F(Delivery, IretqRefusesWhatTheSdmRefuses) {
    kernel();
    const auto returns_to = [&](std::uint64_t rip, std::uint64_t cs, std::uint64_t rflags, std::uint64_t rsp,
                                std::uint64_t ss) {
        const std::uint64_t frame = handlers::stack - 0x100;
        registers() = kernel_registers(layout::page_root(0));
        registers().cr4 |= x86::cr4::vmx_enable;
        kernel();
        registers().general[4] = frame;
        say.edit().poke(frame, rip).poke(frame + 8, cs).poke(frame + 16, rflags);
        say.poke(frame + 24, rsp).poke(frame + 32, ss).l1().iretq();
        return now();
    };
    EXPECT_EQ(returns_to(0x5000, 8, 2, 0x6000, 0x10).status, Observation::Status::done);
    EXPECT_EQ(returns_to(0x5000, 8, 2, 0x6000, 0).status, Observation::Status::done) << "a null SS";
    EXPECT_TRUE(faulted(returns_to(0x5000, 0, 2, 0x6000, 0x10), 13, 0));
    EXPECT_TRUE(faulted(returns_to(0x5000, 0x100, 2, 0x6000, 0x10), 13, 0x100));
    EXPECT_TRUE(faulted(returns_to(0x5000, 0x10, 2, 0x6000, 0x10), 13, 0x10));
    EXPECT_TRUE(faulted(returns_to(0x5000, 8 | 3, 2, 0x6000, 0x10), 13, 8)) << "RPL is not DPL";
    EXPECT_TRUE(faulted(returns_to(std::uint64_t{1} << 47, 8, 2, 0x6000, 0x10), 13, 0));
    EXPECT_TRUE(
        faulted(returns_to(0x5000, 8, 2, 0x6000, handlers::user_data), 13, handlers::user_data & ~3U));
    EXPECT_TRUE(faulted(returns_to(0x5000, handlers::user_code, 2, 0x6000, 0), 13, 0))
        << "a null SS at level 3";
    EXPECT_EQ(returns_to(0x5000, handlers::user_code, 0x3202, 0x6000, handlers::user_data).status,
              Observation::Status::done);
    EXPECT_EQ(registers().rflags, 0x3202U);
    // At level 3, IOPL stays, and IF where IOPL is below.
    say.edit().poke(0x6000, 0x5000).poke(0x6008, handlers::user_code).poke(0x6010, 2).poke(0x6018, 0x7000);
    say.poke(0x6020, handlers::user_data).map(0, 0, 0, 0x67, PageSize::size_2m).l1().iretq();
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(registers().rflags, 0x3002U);
}

// --- in VMX non-root operation ---

TEST_F(Delivery, InL2MeetsAnEptViolationAndSaysWhatWasOnItsWay) {
    for (const std::uint64_t page : {handlers::idt, handlers::gdt, handlers::stack - 0x1000}) {
        SCOPED_TRACE(page);
        say.l0().destroy_vm().create_vm(2);
        handlers::put_all(say);
        guest(page);
        launch();
        const std::uint64_t rsp = registers().general[4];
        const std::uint64_t rip = registers().rip;
        say.l2().load(nowhere);
        EXPECT_TRUE(exited(now(), ExitReason::ept_violation)) << describe(now());
        EXPECT_EQ(read(field::idt_vectoring_information), vectored_pf);
        EXPECT_EQ(read(field::idt_vectoring_error_code), 0U);
        EXPECT_EQ(read(field::guest_rip), rip);
        EXPECT_EQ(read(field::guest_rsp), rsp);
        EXPECT_EQ(read(field::guest_rflags), 0x1'0002U) << "the image that was to be pushed";
        EXPECT_EQ(read(field::guest_linear_address) & ~std::uint64_t{0xFFF}, page & ~std::uint64_t{0xFFF});
        say.l1().vmresume().l2().int_n(0x40);
        EXPECT_TRUE(exited(now(), ExitReason::ept_violation));
        EXPECT_EQ(read(field::idt_vectoring_information), 0x8000'0440U);
        EXPECT_EQ(read(field::vm_exit_instruction_length), 2U);
        // L1 gives the page, and the event once more.
        say.edit().ept_map(0, page, page).l1().invept(2, 0).vmwrite(field::vm_entry_instruction_length, 2);
        say.vmwrite(field::vm_entry_interruption_information, 0x8000'0440).vmresume();
        EXPECT_EQ(now().status, Observation::Status::entry);
        EXPECT_EQ(registers().rip, handlers::handler(0x40));
        EXPECT_EQ(words(registers().general[4], 1), (std::vector<std::uint64_t>{rip + 2}));
    }
}

TEST_F(Delivery, OfAnNmiInL2ThatIsInterruptedLeavesNmisBlocked) {
    guest(handlers::stack - 0x1000);
    launch();
    say.l0().nmi().l1().vmread(field::exit_reason);
    EXPECT_EQ(now().value, static_cast<std::uint64_t>(ExitReason::ept_violation));
    EXPECT_EQ(read(field::idt_vectoring_information), 0x8000'0202U);
    EXPECT_EQ(read(field::guest_interruptibility_state), 8U);
}

TEST_F(Delivery, OfWhatAnEntryInjectsMayEndInAnExit) {
    guest(handlers::stack - 0x1000);
    say.l1().vmwrite(field::vm_entry_interruption_information, vectored_ud).vmlaunch();
    EXPECT_TRUE(exited(now(), ExitReason::ept_violation));
    EXPECT_EQ(read(field::idt_vectoring_information), vectored_ud);
    EXPECT_EQ(read(field::vm_entry_interruption_information), vectored_ud & 0x7FFF'FFFF);
    EXPECT_EQ(read(field::guest_rflags), 2U) << "an injected one pushes RFLAGS as they are";
    say.l1().vmlaunch();
    EXPECT_TRUE(failed_with(now(), 4)) << "the entry has been made";
    say.l1().vmresume();
    EXPECT_EQ(now().status, Observation::Status::entry);
}

TEST_F(Delivery, AnExceptionInItThatExitsSaysBoth) {
    guest();
    handlers::put_gate(say, 13, {.present = false});
    say.l1().vmwrite(field::exception_bitmap, 1U << 11);
    launch();
    say.l2().rdmsr(0x12345);
    // Without MSR bitmaps that is an exit.
    EXPECT_TRUE(exited(now(), ExitReason::rdmsr));
    say.l1().vmresume().l2().load(std::uint64_t{1} << 47);
    EXPECT_TRUE(exited(now(), ExitReason::exception_or_nmi));
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'0B0BU);
    EXPECT_EQ(read(field::vm_exit_interruption_error_code), 13U * 8 + 2 + 1);
    EXPECT_EQ(read(field::idt_vectoring_information), vectored_gp);
    EXPECT_EQ(read(field::idt_vectoring_error_code), 0U);
    // A double fault, and a triple fault, are no exits during a delivery.
    say.l1().vmwrite(field::exception_bitmap, 1U << 8).vmresume().l2().load(std::uint64_t{1} << 47);
    EXPECT_TRUE(exited(now(), ExitReason::exception_or_nmi));
    EXPECT_EQ(read(field::vm_exit_interruption_information), 0x8000'0B08U);
    EXPECT_EQ(read(field::idt_vectoring_information), 0U);
    handlers::put_gate(say, 8, {.present = false});
    say.l1().vmwrite(field::exception_bitmap, 0).vmresume().l2().load(std::uint64_t{1} << 47);
    EXPECT_TRUE(exited(now(), ExitReason::triple_fault));
    EXPECT_EQ(read(field::idt_vectoring_information), 0U);
    EXPECT_EQ(read(field::guest_activity_state), 0U);
}

TEST_F(Delivery, AnIretqThatMeetsAViolationTellsThatItHasUnblockedNmis) {
    guest(handlers::table_stack(3) - 0x1000);
    say.l1().vmwrite(field::guest_rsp, handlers::table_stack(3) - 0x100);
    say.vmwrite(field::guest_interruptibility_state, 8);
    launch();
    say.l2().iretq();
    EXPECT_TRUE(exited(now(), ExitReason::ept_violation));
    EXPECT_NE(read(field::exit_qualification) & 1U << 12, 0U);
    EXPECT_EQ(read(field::guest_interruptibility_state), 0U);
}

TEST_F(Delivery, LidtAndWbinvdExitWhereTheyAreTo) {
    guest();
    constexpr std::uint64_t secondary = vmx::secondary::enable_ept | vmx::secondary::enable_vpid;
    say.edit()
        .map(1, layout::scratch(0), layout::scratch(0))
        .ept_map(0, layout::scratch(0), layout::scratch(0));
    say.l1();
    launch();
    say.l2().lidt(0x5000, 0x123).wbinvd();
    EXPECT_EQ(now().status, Observation::Status::done);
    EXPECT_EQ(registers().idtr, (DescriptorTable{0x5000, 0x123}));
    say.l2().vmcall().l1();
    say.vmwrite(field::secondary_processor_based_vm_execution_controls,
                secondary | vmx::secondary::wbinvd_exiting | vmx::secondary::descriptor_table_exiting);
    say.vmresume().l2().wbinvd();
    EXPECT_TRUE(exited(now(), ExitReason::wbinvd_or_wbnoinvd));
    say.l1().vmresume().l2().lidt(0x6000, 0x10);
    EXPECT_TRUE(exited(now(), ExitReason::gdtr_or_idtr_access));
    EXPECT_EQ(now().exit.instruction_information >> 28 & 3, 3U);
    EXPECT_EQ(now().exit.qualification, layout::scratch(0) + 6);
}

TEST_F(Delivery, TwoExceptionsAreAsTheTableHasThem) {
    const auto first = [](unsigned vector) {
        return rules::EventInformation::hardware_exception(static_cast<std::uint8_t>(vector), false);
    };
    using enum rules::TwoExceptions;
    for (const unsigned contributory : {0U, 10U, 11U, 12U, 13U}) {
        EXPECT_EQ(rules::two_exceptions(first(6), contributory), one_after_the_other);
        EXPECT_EQ(rules::two_exceptions(first(contributory), 6), one_after_the_other);
        EXPECT_EQ(rules::two_exceptions(first(contributory), 14), one_after_the_other);
        EXPECT_EQ(rules::two_exceptions(first(14), contributory), double_fault);
        EXPECT_EQ(rules::two_exceptions(first(contributory), 13), double_fault);
        EXPECT_EQ(rules::two_exceptions(first(8), contributory), shutdown);
        EXPECT_EQ(rules::two_exceptions(rules::EventInformation::external_interrupt(14), contributory),
                  one_after_the_other);
    }
    EXPECT_EQ(rules::two_exceptions(first(14), 14), double_fault);
    EXPECT_EQ(rules::two_exceptions(first(8), 14), shutdown);
    EXPECT_EQ(rules::two_exceptions(first(8), 6), one_after_the_other);
}

}  // namespace
}  // namespace flatback::machine::delivery_test
