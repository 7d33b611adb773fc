#include "machine/program/step.hpp"

namespace flatback::machine {

namespace {

using enum OperandKind;

// In the order of StepKind.
constexpr std::array<StepForm, step_kind_count> forms = {{
    {"nop", {}},
    {"load", {address, user}},
    {"store", {address, number, user}},
    {"fetch", {address, user}},
    {"prefetch", {address}},
    {"mov_to_cr0", {number}},
    {"mov_to_cr3", {number}},
    {"mov_to_cr4", {number}},
    {"mov_from_cr0", {}},
    {"mov_from_cr3", {}},
    {"mov_from_cr4", {}},
    {"invlpg", {address}},
    {"invpcid", {number, number, address}},
    {"cpuid", {}},
    {"hlt", {}},
    {"pause", {}},
    {"rdtsc", {}},
    {"rdmsr", {number}},
    {"wrmsr", {number, number}},
    {"out", {number}},
    {"sti", {}},
    {"cli", {}},
    {"mov_to_ss", {}},
    {"iret", {address}},
    {"iretq", {}},
    {"int", {number}},
    {"ud2", {}},
    {"lidt", {address, number}},
    {"wbinvd", {}},
    {"vmxon", {address}},
    {"vmxoff", {}},
    {"vmclear", {address}},
    {"vmptrld", {address}},
    {"vmptrst", {}},
    {"vmread", {field}},
    {"vmwrite", {field, number}},
    {"vmlaunch", {}},
    {"vmresume", {}},
    {"vmcall", {}},
    {"vmfunc", {number, number}},
    {"invept", {number, number}},
    {"invvpid", {number, number, address}},
    {"invept_at", {number, address}},
    {"invvpid_at", {number, address}},
    {"boot", {}},
    {"prepare", {address, number, optional_ept, page_hierarchy}},
    {"map", {page_hierarchy, address, address, page_flags, page_size}},
    {"unmap", {page_hierarchy, address, page_size}},
    {"ept_map", {ept_hierarchy, address, address, ept_flags, page_size}},
    {"ept_unmap", {ept_hierarchy, address, page_size}},
    {"poke", {address, number}},
    {"create_vm", {count}},
    {"destroy_vm", {}},
    {"move_vcpu", {processor}},
    {"take_page", {address}},
    {"nmi", {number}},
    {"interrupt", {number, number}},
    {"eoi", {}},
    {"tpr", {number}},
    {"init", {number}},
    {"start_up", {number}},
}};

}  // namespace

const StepForm& form_of(StepKind kind) {
    return forms[static_cast<std::size_t>(kind)];
}

}  // namespace flatback::machine
