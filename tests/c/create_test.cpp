// What flatback_vcpu_create() refuses, and what it leaves to the host.
#include <flatback/c/flatback.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <flatback/machine/cpu/processor_model.hpp>
#include <vector>

namespace create_test {
namespace {

struct Host {
    alignas(4096) std::array<std::array<std::uint64_t, 512>, 16> pages{};
    std::size_t used = 1;
    std::size_t asked_for_fields = 0;
};

flatback_operations operations() {
    flatback_operations table{};
    table.size = sizeof table;
    table.vmread = [](void*, std::uint32_t) { return std::uint64_t{0}; };
    table.vmwrite = [](void*, std::uint32_t, std::uint64_t) {};
    table.load_vmcs = [](void*, std::uint64_t) {};
    table.clear_vmcs = [](void*, std::uint64_t) {};
    table.hardware_vmcs_revision = [](void*) { return 1U; };
    table.write_host_state = [](void*) {};
    table.invvpid = [](void*, std::uint32_t, std::uint16_t, std::uint64_t) {};
    table.invept = [](void*, std::uint32_t, std::uint64_t) {};
    table.l1_page = [](void*, std::uint64_t) -> void* { return nullptr; };
    table.host_mapping = [](void*, std::uint64_t address) { return flatback_mapping{address, 12, 6, true}; };
    table.allocate_page = [](void* host, std::uint64_t* page) {
        *page = 4096 * static_cast<Host*>(host)->used++;
        return true;
    };
    table.page = [](void* host, std::uint64_t page) {
        return static_cast<Host*>(host)->pages.at(page / 4096).data();
    };
    table.general_register = [](void* host, unsigned number) {
        return &static_cast<Host*>(host)->pages[15][number];
    };
    table.read_l1_msr = [](void*, std::uint32_t, std::uint64_t* value) {
        *value = 77;
        return true;
    };
    table.write_l1_msr = [](void*, std::uint32_t, std::uint64_t) { return true; };
    table.l0_msr_bitmap = [](void*) { return std::uint64_t{0}; };
    table.ept01_pointer = [](void*) { return std::uint64_t{0x1e}; };
    table.set_cr2 = [](void*, std::uint64_t) {};
    table.handle_ept01_violation = [](void*, std::uint64_t) { return false; };
    table.return_nmi = [](void*) {};
    table.l1_shutdown = [](void*, const char*) { FAIL(); };
    table.fatal = [](void*, const char*) { FAIL(); };
    table.cpu = [](void*) { return 0U; };
    table.read_capability_msr = [](void*, std::uint32_t msr) {
        return flatback::machine::full_processor_model().vmx.read(msr).value_or(0);
    };
    return table;
}

class Create : public ::testing::Test {
protected:
    flatback_error create() {
        return flatback_vcpu_create(storage, size, &table, &host, &configuration, pool, 0x1000, &vcpu);
    }
    void SetUp() override {
        ASSERT_EQ(flatback_pool_create(pool_storage, sizeof pool_storage, 100, &pool), FLATBACK_OK);
    }
    void TearDown() override {
        if (vcpu != nullptr) flatback_vcpu_destroy(vcpu);
        flatback_pool_destroy(pool);
    }

    alignas(FLATBACK_ALIGNMENT) inline static std::byte pool_storage[FLATBACK_POOL_SIZE];
    alignas(FLATBACK_ALIGNMENT) inline static std::byte bytes[FLATBACK_VCPU_SIZE + FLATBACK_ALIGNMENT];
    void* storage = bytes;
    std::size_t size = FLATBACK_VCPU_SIZE;
    Host host;
    flatback_operations table = operations();
    flatback_configuration configuration{sizeof configuration, 36, FLATBACK_TAGS_MAPPED, true, false};
    flatback_pool* pool = nullptr;
    flatback_vcpu* vcpu = nullptr;
};

TEST_F(Create, TakesStorageThatTheConstantsGive) {
    EXPECT_EQ(create(), FLATBACK_OK);
    EXPECT_LE(flatback_vcpu_size(), FLATBACK_VCPU_SIZE);
    EXPECT_LE(flatback_pool_size(), FLATBACK_POOL_SIZE);
    EXPECT_NE(flatback_vpid01(vcpu), 0);
    EXPECT_FALSE(flatback_in_l2(vcpu));
}

TEST_F(Create, RefusesStorageThatIsTooSmallOrNotAligned) {
    size = flatback_vcpu_size() - 1;
    EXPECT_EQ(create(), FLATBACK_STORAGE_TOO_SMALL);
    size = FLATBACK_VCPU_SIZE;
    storage = bytes + 8;
    EXPECT_EQ(create(), FLATBACK_STORAGE_TOO_SMALL);
    flatback_pool* another = nullptr;
    EXPECT_EQ(flatback_pool_create(bytes, 100, 1, &another), FLATBACK_STORAGE_TOO_SMALL);
    EXPECT_EQ(vcpu, nullptr);
}

TEST_F(Create, RefusesATableOfAnotherVersion) {
    table.size += 8;
    EXPECT_EQ(create(), FLATBACK_OF_ANOTHER_VERSION);
    table.size -= 8;
    configuration.size = 0;
    EXPECT_EQ(create(), FLATBACK_OF_ANOTHER_VERSION);
}

// Of every pointer of the table it is said which may be null: a pointer's place decides, and nothing else.
TEST_F(Create, RefusesATableWithoutAnOperationThatItNeeds) {
    const std::size_t first = offsetof(flatback_operations, vmread) / sizeof(void*);
    const std::size_t optional = offsetof(flatback_operations, has_vmcs_field) / sizeof(void*);
    const std::size_t end = sizeof(flatback_operations) / sizeof(void*);
    for (std::size_t pointer = first; pointer < end; ++pointer) {
        table = operations();
        reinterpret_cast<void**>(&table)[pointer] = nullptr;
        EXPECT_EQ(create(), pointer < optional ? FLATBACK_OPERATION_MISSING : FLATBACK_OK) << pointer;
        if (vcpu != nullptr) flatback_vcpu_destroy(vcpu);
        vcpu = nullptr;
        host.used = 1;
    }
}

TEST_F(Create, OffersNoVpidWhereThereAreNoTags) {
    configuration.tags = FLATBACK_TAGS_OFF;
    ASSERT_EQ(create(), FLATBACK_OK);
    std::uint64_t value = 0;
    ASSERT_EQ(flatback_read_guest_msr(vcpu, 0x48b, &value), FLATBACK_OK);
    EXPECT_EQ(value >> 32 & 1U << 5, 0U) << "enable VPID";
}

TEST_F(Create, AnswersCapabilityMsrsItselfAndAsksTheHostForOthers) {
    ASSERT_EQ(create(), FLATBACK_OK);
    std::uint64_t value = 0;
    ASSERT_EQ(flatback_read_guest_msr(vcpu, 0x480, &value), FLATBACK_OK);
    EXPECT_NE(value, 77U);
    EXPECT_EQ(flatback_read_guest_msr(vcpu, 0x492, &value), FLATBACK_GENERAL_PROTECTION);
    EXPECT_EQ(flatback_write_guest_msr(vcpu, 0x480, 0), FLATBACK_GENERAL_PROTECTION);
    ASSERT_EQ(flatback_read_guest_msr(vcpu, 0x3a, &value), FLATBACK_OK);
    EXPECT_EQ(value, 77U);
    EXPECT_EQ(flatback_write_guest_msr(vcpu, 0x3a, 0), FLATBACK_OK);
}

TEST_F(Create, TellsTheVmxInstructionsFromEntriesThatFailed) {
    EXPECT_TRUE(flatback_is_vmx_instruction(18));
    EXPECT_TRUE(flatback_is_vmx_instruction(53));
    EXPECT_FALSE(flatback_is_vmx_instruction(10));
    EXPECT_FALSE(flatback_is_vmx_instruction(1U << 31 | 27));
}

}  // namespace
}  // namespace create_test
