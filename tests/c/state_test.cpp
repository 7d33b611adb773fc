// The nested state through flatback.h: it comes back, and each error means what it says and has had no
// effect.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "tests/c/engines.hpp"

std::uint64_t* vmcs_access_current = nullptr;

namespace flatback::c_test::state_test {
namespace {

using Bytes = std::vector<std::byte>;

constexpr auto cpuid = static_cast<std::uint32_t>(vmx::ExitReason::cpuid);
constexpr auto hlt = static_cast<std::uint32_t>(vmx::ExitReason::hlt);
// Offsets of docs/state.md.
constexpr std::size_t version_at = 4, size_at = 8, vmxon_pointer_at = 16, vmcs_count_at = 32,
                      misc_msr_at = 36 + 8 * 5, first_vmcs_at = 180, first_field_at = first_vmcs_at + 16,
                      field_bytes = 12;

class State : public ::testing::Test {
protected:
    void SetUp() override {
        port = Port{};
        for (auto& vmcs : vmcss) std::fill(std::begin(vmcs), std::end(vmcs), 0);
        std::memset(outside::l1_memory, 0, sizeof outside::l1_memory);
        vmcs_access_current = vmcss[vmcs01 / 4096];
        engine = std::make_unique<ByTable>();
        prepare(*engine);
        ASSERT_TRUE(engine->in_l2());
    }
    Bytes save() {
        Bytes state(flatback_most_state_bytes());
        std::size_t used = 0;
        EXPECT_EQ(flatback_save(engine->vcpu(), state.data(), state.size(), &used), FLATBACK_OK);
        state.resize(used);
        return state;
    }
    flatback_error restore(const Bytes& state) {
        entry = FLATBACK_THE_HOSTS;
        return flatback_restore(engine->vcpu(), state.data(), state.size(), &entry);
    }
    // Nothing is done, and nothing said of an entry.
    void expect_refused(const Bytes& state, flatback_error error) {
        const Bytes before = save();
        EXPECT_EQ(restore(state), error);
        EXPECT_EQ(entry, FLATBACK_THE_HOSTS);
        EXPECT_EQ(save(), before);
    }
    template <typename Word>
    void expect_refused_with(std::size_t at, Word word, flatback_error error) {
        Bytes state = save();
        std::memcpy(&state.at(at), &word, sizeof word);
        expect_refused(state, error);
    }

    std::unique_ptr<ByTable> engine;
    flatback_entry entry{};
};

TEST_F(State, GoesOnWhereItWas) {
    const Bytes in_l2 = save();
    EXPECT_LE(in_l2.size(), flatback_most_state_bytes());
    EXPECT_EQ(flatback_handle_l2_exit(engine->vcpu(), cpuid), FLATBACK_VMRESUME);
    const Bytes in_l1 = save();
    EXPECT_NE(in_l1, in_l2);

    ASSERT_EQ(restore(in_l2), FLATBACK_OK);
    EXPECT_EQ(entry, FLATBACK_VMLAUNCH);
    EXPECT_TRUE(engine->in_l2());
    flatback_prepare_reentry(engine->vcpu());
    EXPECT_EQ(save(), in_l2);
    EXPECT_EQ(flatback_handle_l2_exit(engine->vcpu(), cpuid), FLATBACK_VMLAUNCH) << "vmcs01 was cleared";
    EXPECT_FALSE(engine->in_l2());

    ASSERT_EQ(restore(in_l1), FLATBACK_OK);
    EXPECT_EQ(entry, FLATBACK_VMLAUNCH);
    EXPECT_FALSE(engine->in_l2());
    EXPECT_EQ(save(), in_l1);
    engine->vmx_instruction(vmx::ExitReason::vmresume);
    EXPECT_TRUE(engine->in_l2());
}

TEST_F(State, IsNotSavedWithoutRoomOrWithAnExitThatIsTheHosts) {
    Bytes state = save();
    std::size_t used = 7;
    EXPECT_EQ(flatback_save(engine->vcpu(), state.data(), state.size() - 1, &used), FLATBACK_NO_ROOM);
    EXPECT_EQ(flatback_save(engine->vcpu(), nullptr, 0, &used), FLATBACK_NO_ROOM);
    EXPECT_EQ(used, 7U);
    EXPECT_EQ(flatback_save(engine->vcpu(), state.data(), state.size(), &used), FLATBACK_OK);
    EXPECT_EQ(used, state.size());

    flatback_demands demands{};
    demands.size = sizeof demands;
    demands.instructions = vmx::primary::hlt_exiting;
    ASSERT_EQ(flatback_set_demands(engine->vcpu(), &demands), FLATBACK_OK);
    ASSERT_EQ(flatback_handle_l2_exit(engine->vcpu(), hlt), FLATBACK_THE_HOSTS);
    EXPECT_EQ(flatback_save(engine->vcpu(), state.data(), state.size(), &used), FLATBACK_EXIT_IS_THE_HOSTS);
    flatback_resume(engine->vcpu());
    save();
}

TEST_F(State, IsRefusedByTheErrorThatSaysWhy) {
    const Bytes good = save();
    expect_refused({}, FLATBACK_NOT_A_STATE);
    expect_refused({good.begin(), good.end() - 1}, FLATBACK_NOT_A_STATE);
    expect_refused_with(version_at, 2U, FLATBACK_OTHER_STATE_VERSION);
    expect_refused_with(misc_msr_at, std::byte{0x1f}, FLATBACK_PROMISE_NOT_KEPT);
    expect_refused_with(first_field_at, 0x7ffeU, FLATBACK_UNKNOWN_FIELD);
    expect_refused_with(first_field_at + field_bytes, 0U, FLATBACK_FIELDS_NOT_SORTED);
    expect_refused_with(first_field_at + 4, 0x1'0001U, FLATBACK_VALUE_TOO_WIDE);
    expect_refused_with(vmxon_pointer_at, vmxon_region + 1, FLATBACK_BAD_POINTER);
    expect_refused_with(first_vmcs_at + 8, 0U, FLATBACK_IMPOSSIBLE_STATE);
    EXPECT_EQ(restore(good), FLATBACK_OK);
}

// A VMCS more than this virtual CPU has pages for.
TEST_F(State, IsRefusedWhereThereIsNoMemoryForItsVmcss) {
    Bytes state = save();
    while (port.allocate_page()) {
    }
    const std::uint64_t pointer = 0x6000;
    std::byte vmcs[16]{};
    std::memcpy(vmcs, &pointer, sizeof pointer);
    state.insert(state.begin() + first_vmcs_at, std::begin(vmcs), std::end(vmcs));
    const std::uint32_t count = 2;
    std::memcpy(&state.at(vmcs_count_at), &count, sizeof count);
    const auto size = static_cast<std::uint32_t>(state.size());
    std::memcpy(&state.at(size_at), &size, sizeof size);
    expect_refused(state, FLATBACK_NO_MEMORY);
}

}  // namespace
}  // namespace flatback::c_test::state_test
