// A guest hypervisor with a guest that runs, moved as KVM has it from one virtual CPU to another.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/c/engines.hpp"

namespace flatback::c_test::kvm_test {
namespace {

using Bytes = std::vector<std::byte>;

constexpr std::uint32_t kvm_revision = 0x11e57ed0;
constexpr auto cpuid = static_cast<std::uint32_t>(vmx::ExitReason::cpuid);

class Kvm : public ::testing::Test {
protected:
    void SetUp() override {
        port = Port{};
        for (auto& vmcs : vmcss) std::fill(std::begin(vmcs), std::end(vmcs), 0);
        std::memset(outside::l1_memory, 0, sizeof outside::l1_memory);
        vmcs_access_current = vmcss[vmcs01 / 4096];
        engine = std::make_unique<ByTable>(true);
        prepare(*engine, kvm_revision);
        ASSERT_TRUE(engine->in_l2()) << "VMXON and VMPTRLD take KVM's revision identifier";
    }
    Bytes save() {
        Bytes state(flatback_most_state_bytes());
        std::size_t used = 0;
        EXPECT_EQ(flatback_save(engine->vcpu(), state.data(), state.size(), &used), FLATBACK_OK);
        state.resize(used);
        return state;
    }
    static void* region(void* /*host*/, std::uint64_t l1_physical) {
        return port.l1_page(x86::Gpa<x86::L1>{l1_physical});
    }
    flatback_error to_kvm(const Bytes& state, Bytes& kvm) {
        kvm.assign(FLATBACK_KVM_STATE_SIZE, {});
        std::size_t used = 0;
        const auto error = flatback_state_to_kvm(state.data(), state.size(), &beside, kvm.data(), kvm.size(),
                                                 &used, region, nullptr);
        kvm.resize(used);
        return error;
    }
    flatback_error from_kvm(const Bytes& kvm, Bytes& state) {
        state.assign(flatback_most_state_bytes(), {});
        std::size_t used = 0;
        const auto error =
            flatback_state_from_kvm(kvm.data(), kvm.size(), &beside, state.data(), state.size(), &used);
        state.resize(used);
        return error;
    }

    std::unique_ptr<ByTable> engine;
    flatback_beside_kvm beside{sizeof beside, {}, 0, 0, 0, 0, 0, 0, 0, 0};
};

TEST_F(Kvm, ThereAndBackItsGuestRunsOn) {
    // Of what L1 entered; and of an L2 that L0 has resumed by itself.
    for (const bool has_run : {false, true}) {
        if (has_run) {
            flatback_demands demands{};
            demands.size = sizeof demands;
            demands.instructions = vmx::primary::hlt_exiting;
            ASSERT_EQ(flatback_set_demands(engine->vcpu(), &demands), FLATBACK_OK);
            ASSERT_EQ(flatback_handle_l2_exit(engine->vcpu(), 12), FLATBACK_THE_HOSTS);
            flatback_resume(engine->vcpu());
        }
        Bytes kvm;
        Bytes state;
        ASSERT_EQ(to_kvm(save(), kvm), FLATBACK_OK);
        EXPECT_EQ(kvm.at(0), std::byte(has_run ? 1 : 3));
        EXPECT_EQ(beside.capability_msrs[0] & 0x7fff'ffff, kvm_revision);
        EXPECT_EQ(beside.efer, port.vmread(field::guest_ia32_efer.encoding));
        EXPECT_NE(beside.efer, 0U);
        ASSERT_EQ(from_kvm(kvm, state), FLATBACK_OK);
        EXPECT_EQ(flatback_handle_l2_exit(engine->vcpu(), cpuid), FLATBACK_VMRESUME);
        flatback_entry entry{};
        ASSERT_EQ(flatback_restore(engine->vcpu(), state.data(), state.size(), &entry), FLATBACK_OK);
        EXPECT_EQ(entry, FLATBACK_VMLAUNCH);
        ASSERT_TRUE(engine->in_l2());
        Bytes again;
        ASSERT_EQ(to_kvm(save(), again), FLATBACK_OK);
        EXPECT_EQ(again, kvm);
        EXPECT_EQ(flatback_handle_l2_exit(engine->vcpu(), cpuid), FLATBACK_VMLAUNCH);
        engine->vmx_instruction(vmx::ExitReason::vmresume);
        ASSERT_TRUE(engine->in_l2());
    }
}

TEST_F(Kvm, AVmcsThatIsNotActiveIsConvertedInL1sMemory) {
    ASSERT_EQ(flatback_handle_l2_exit(engine->vcpu(), cpuid), FLATBACK_VMRESUME);
    with_operand(*engine, vmx::ExitReason::vmclear, vmcs12);
    auto* page = port.l1_page(x86::Gpa<x86::L1>{vmcs12});
    const Bytes before(page, page + 4096);
    ASSERT_EQ(flatback_region_to_kvm(page), FLATBACK_OK);
    EXPECT_NE(Bytes(page, page + 4096), before);
    EXPECT_EQ(l1_words(vmcs12)[0] & 0xffff'ffff, kvm_revision);
    EXPECT_EQ(l1_words(vmcs12)[960 / 8] & 0xffff, 1U) << "its VPID";
    ASSERT_EQ(flatback_region_from_kvm(page), FLATBACK_OK);
    with_operand(*engine, vmx::ExitReason::vmptrld, vmcs12);
    engine->vmx_instruction(vmx::ExitReason::vmlaunch);
    EXPECT_TRUE(engine->in_l2());
    EXPECT_EQ(flatback_region_from_kvm(port.l1_page(x86::Gpa<x86::L1>{0x7000})),
              FLATBACK_OTHER_STATE_VERSION);
    EXPECT_EQ(flatback_region_to_kvm(port.l1_page(x86::Gpa<x86::L1>{0x7000})), FLATBACK_OTHER_STATE_VERSION);
}

TEST_F(Kvm, ErrorsSayWhatTheyMean) {
    Bytes kvm;
    Bytes state;
    ASSERT_EQ(to_kvm(save(), kvm), FLATBACK_OK);
    ASSERT_EQ(from_kvm(kvm, state), FLATBACK_OK);
    Bytes cut(kvm.begin(), kvm.end() - 1);
    EXPECT_EQ(from_kvm(cut, state), FLATBACK_NOT_A_STATE);
    kvm.at(24) = std::byte{1};
    EXPECT_EQ(from_kvm(kvm, state), FLATBACK_PROMISE_NOT_KEPT) << "SMM";
    EXPECT_EQ(to_kvm({}, kvm), FLATBACK_NOT_A_STATE);
    beside.size = 1;
    EXPECT_EQ(from_kvm(kvm, state), FLATBACK_OF_ANOTHER_VERSION);
    EXPECT_EQ(to_kvm(save(), kvm), FLATBACK_OF_ANOTHER_VERSION);
}

// L1 was told another revision identifier: KVM would not take its VMCSs.
TEST(KvmRevision, IsAPromiseToL1) {
    port = Port{};
    for (auto& vmcs : vmcss) std::fill(std::begin(vmcs), std::end(vmcs), 0);
    vmcs_access_current = vmcss[vmcs01 / 4096];
    ByTable own{};
    ByTable kvms{true};
    std::uint64_t value = 0;
    ASSERT_EQ(flatback_read_guest_msr(own.vcpu(), 0x480, &value), FLATBACK_OK);
    EXPECT_NE(value & 0x7fff'ffff, kvm_revision);
    ASSERT_EQ(flatback_read_guest_msr(kvms.vcpu(), 0x480, &value), FLATBACK_OK);
    EXPECT_EQ(value & 0x7fff'ffff, kvm_revision);
    Bytes state(flatback_most_state_bytes());
    std::size_t used = 0;
    ASSERT_EQ(flatback_save(own.vcpu(), state.data(), state.size(), &used), FLATBACK_OK);
    flatback_entry entry{};
    EXPECT_EQ(flatback_restore(kvms.vcpu(), state.data(), used, &entry), FLATBACK_PROMISE_NOT_KEPT);
    flatback_beside_kvm beside{sizeof beside, {}, 0, 0, 0, 0, 0, 0, 0, 0};
    EXPECT_EQ(flatback_state_to_kvm(
                  state.data(), used, &beside, state.data(), state.size(), &used,
                  [](void*, std::uint64_t) -> void* { return nullptr; }, nullptr),
              FLATBACK_PROMISE_NOT_KEPT);
}

}  // namespace
}  // namespace flatback::c_test::kvm_test
