#pragma once

#include <cstdint>
#include <optional>

#include "machine/program/layout.hpp"
#include "machine/program/program.hpp"
#include "machine/translation/access.hpp"
#include "vmx/field.hpp"

namespace flatback::machine {

/// What `Scenario::prepare` gives an L2.
struct Guest {
    std::uint16_t vpid = 0;         // 0: "enable VPID" = 0
    std::optional<unsigned> ept{};  // EPT hierarchy; none: "enable EPT" = 0
    unsigned tables = 1;            // page hierarchy
};

/// Writes a program as one tells it:
///
///     Scenario scenario;
///     scenario.edit().map(1, 0x40'0000, layout::data_page(0));
///     scenario.l1().vmxon().prepare(layout::vmcs_region(0), {.vpid = 1, .tables = 1}).vmlaunch();
///     scenario.l2().load(0x40'0000).vmcall();
///     scenario.l1().invvpid_single(1).vmresume();
///
/// Every function adds one step and returns the scenario. Who acts, and on which virtual CPU, holds until it
/// is changed.
class Scenario {
public:
    Scenario& l1() { return as(Actor::l1); }
    Scenario& l2() { return as(Actor::l2); }
    Scenario& edit() { return as(Actor::edit); }
    Scenario& l0() { return as(Actor::l0); }
    Scenario& on(std::uint8_t vm, std::uint8_t vcpu) {
        vm_ = vm;
        vcpu_ = vcpu;
        return *this;
    }

    // By L1 or L2.
    Scenario& nop() { return add(StepKind::nop); }
    Scenario& load(std::uint64_t address) { return add(StepKind::load, address); }
    Scenario& user_load(std::uint64_t address) { return add(StepKind::load, address, 1); }
    Scenario& store(std::uint64_t address, std::uint64_t value) {
        return add(StepKind::store, address, value);
    }
    Scenario& user_store(std::uint64_t address, std::uint64_t value) {
        return add(StepKind::store, address, value, 1);
    }
    Scenario& fetch(std::uint64_t address) { return add(StepKind::fetch, address); }
    Scenario& prefetch(std::uint64_t address) { return add(StepKind::prefetch, address); }
    Scenario& mov_to_cr0(std::uint64_t value) { return add(StepKind::mov_to_cr0, value); }
    Scenario& mov_to_cr3(std::uint64_t value) { return add(StepKind::mov_to_cr3, value); }
    Scenario& mov_to_cr4(std::uint64_t value) { return add(StepKind::mov_to_cr4, value); }
    Scenario& mov_from_cr0() { return add(StepKind::mov_from_cr0); }
    Scenario& mov_from_cr3() { return add(StepKind::mov_from_cr3); }
    Scenario& mov_from_cr4() { return add(StepKind::mov_from_cr4); }
    Scenario& invlpg(std::uint64_t address) { return add(StepKind::invlpg, address); }
    Scenario& invpcid(std::uint64_t type, std::uint64_t pcid = 0, std::uint64_t address = 0) {
        return add(StepKind::invpcid, type, pcid, address);
    }
    Scenario& cpuid() { return add(StepKind::cpuid); }
    Scenario& hlt() { return add(StepKind::hlt); }
    Scenario& pause() { return add(StepKind::pause); }
    Scenario& rdtsc() { return add(StepKind::rdtsc); }
    Scenario& rdmsr(std::uint64_t number) { return add(StepKind::rdmsr, number); }
    Scenario& wrmsr(std::uint64_t number, std::uint64_t value) { return add(StepKind::wrmsr, number, value); }
    Scenario& sti() { return add(StepKind::sti); }
    Scenario& cli() { return add(StepKind::cli); }
    Scenario& mov_to_ss() { return add(StepKind::mov_to_ss); }
    Scenario& iret(std::uint64_t frame) { return add(StepKind::iret, frame); }
    Scenario& iretq() { return add(StepKind::iretq); }
    Scenario& int_n(std::uint8_t vector) { return add(StepKind::int_n, vector); }
    Scenario& ud2() { return add(StepKind::ud2); }
    Scenario& lidt(std::uint64_t base, std::uint16_t limit) { return add(StepKind::lidt, base, limit); }
    Scenario& wbinvd() { return add(StepKind::wbinvd); }
    Scenario& out(std::uint64_t port) { return add(StepKind::out, port); }

    // VMX instructions.
    Scenario& vmxon() { return vmxon(layout::vmxon_region(vcpu_)); }
    Scenario& vmxon(std::uint64_t pointer) { return add(StepKind::vmxon, pointer); }
    Scenario& vmxoff() { return add(StepKind::vmxoff); }
    Scenario& vmclear(std::uint64_t pointer) { return add(StepKind::vmclear, pointer); }
    Scenario& vmptrld(std::uint64_t pointer) { return add(StepKind::vmptrld, pointer); }
    Scenario& vmptrst() { return add(StepKind::vmptrst); }
    Scenario& vmread(std::uint64_t encoding) { return add(StepKind::vmread, encoding); }
    Scenario& vmwrite(std::uint64_t encoding, std::uint64_t value) {
        return add(StepKind::vmwrite, encoding, value);
    }
    template <vmx::AnyField Field>
    Scenario& vmread(Field field) {
        return vmread(std::uint64_t{field.encoding});
    }
    template <vmx::AnyField Field>
    Scenario& vmwrite(Field field, std::uint64_t value) {
        return vmwrite(std::uint64_t{field.encoding}, value);
    }
    Scenario& vmlaunch() { return add(StepKind::vmlaunch); }
    Scenario& vmresume() { return add(StepKind::vmresume); }
    Scenario& vmcall() { return add(StepKind::vmcall); }
    Scenario& vmfunc(std::uint64_t function, std::uint64_t operand) {
        return add(StepKind::vmfunc, function, operand);
    }
    Scenario& invept(std::uint64_t type, std::uint64_t eptp) { return add(StepKind::invept, type, eptp); }
    Scenario& invept_single(std::uint64_t eptp) { return invept(1, eptp); }
    Scenario& invept_all() { return invept(2, 0); }
    Scenario& invvpid(std::uint64_t type, std::uint64_t vpid, std::uint64_t address = 0) {
        return add(StepKind::invvpid, type, vpid, address);
    }
    Scenario& invvpid_address(std::uint64_t vpid, std::uint64_t address) { return invvpid(0, vpid, address); }
    Scenario& invvpid_single(std::uint64_t vpid) { return invvpid(1, vpid); }
    Scenario& invvpid_all() { return invvpid(2, 0); }
    Scenario& invvpid_retaining_globals(std::uint64_t vpid) { return invvpid(3, vpid); }
    Scenario& invept_at(std::uint64_t type, std::uint64_t address) {
        return add(StepKind::invept_at, type, address);
    }
    Scenario& invvpid_at(std::uint64_t type, std::uint64_t address) {
        return add(StepKind::invvpid_at, type, address);
    }
    Scenario& boot() { return add(StepKind::boot); }
    Scenario& prepare(std::uint64_t pointer, const Guest& guest) {
        return add(StepKind::prepare, pointer, guest.vpid, guest.ept ? *guest.ept + 1U : 0U, guest.tables);
    }

    // Stores to structures and to memory.
    static constexpr std::uint64_t page_flags = 7;    // present, writable, user
    static constexpr std::uint64_t ept_flags = 0x37;  // read, write, execute; write-back
    Scenario& map(unsigned hierarchy, std::uint64_t address, std::uint64_t physical,
                  std::uint64_t flags = page_flags, PageSize size = PageSize::size_4k) {
        return add(StepKind::map, hierarchy, address, physical, flags, static_cast<std::uint64_t>(size));
    }
    Scenario& unmap(unsigned hierarchy, std::uint64_t address, PageSize size = PageSize::size_4k) {
        return add(StepKind::unmap, hierarchy, address, static_cast<std::uint64_t>(size));
    }
    Scenario& ept_map(unsigned hierarchy, std::uint64_t guest_physical, std::uint64_t physical,
                      std::uint64_t flags = ept_flags, PageSize size = PageSize::size_4k) {
        return add(StepKind::ept_map, hierarchy, guest_physical, physical, flags,
                   static_cast<std::uint64_t>(size));
    }
    Scenario& ept_unmap(unsigned hierarchy, std::uint64_t guest_physical, PageSize size = PageSize::size_4k) {
        return add(StepKind::ept_unmap, hierarchy, guest_physical, static_cast<std::uint64_t>(size));
    }
    Scenario& poke(std::uint64_t physical, std::uint64_t value) {
        return add(StepKind::poke, physical, value);
    }

    // The world under L1.
    Scenario& create_vm(unsigned vcpus) { return add(StepKind::create_vm, vcpus); }
    Scenario& destroy_vm() { return add(StepKind::destroy_vm); }
    Scenario& move_vcpu(unsigned processor) { return add(StepKind::move_vcpu, processor); }
    Scenario& take_page(std::uint64_t physical) { return add(StepKind::take_page, physical); }
    Scenario& nmi() { return add(StepKind::nmi, 0); }
    Scenario& nmi_at_next_exit() { return add(StepKind::nmi, 1); }
    Scenario& interrupt(std::uint8_t vector) { return add(StepKind::interrupt, vector, 0); }
    Scenario& interrupt_at_next_exit(std::uint8_t vector) { return add(StepKind::interrupt, vector, 1); }
    Scenario& init() { return add(StepKind::init, 0); }
    Scenario& init_at_next_exit() { return add(StepKind::init, 1); }
    Scenario& start_up(std::uint8_t page) { return add(StepKind::start_up, page); }
    Scenario& eoi() { return add(StepKind::eoi); }
    Scenario& tpr(std::uint8_t priority) { return add(StepKind::tpr, priority); }

    [[nodiscard]] const Program& program() const { return program_; }

private:
    Scenario& as(Actor actor) {
        actor_ = actor;
        return *this;
    }
    Scenario& add(StepKind kind, std::uint64_t a = 0, std::uint64_t b = 0, std::uint64_t c = 0,
                  std::uint64_t d = 0, std::uint64_t e = 0) {
        program_.steps.push_back({kind, actor_, vm_, vcpu_, {a, b, c, d, e}});
        return *this;
    }

    Program program_;
    Actor actor_ = Actor::l1;
    std::uint8_t vm_ = 0;
    std::uint8_t vcpu_ = 0;
};

}  // namespace flatback::machine
