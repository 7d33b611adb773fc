#include "tools/emulator/qemu_machine.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace flatback::tools::qemu_machine_test {
namespace {

namespace fs = std::filesystem;

// A machine's files as kvm_refusal looks at them.
struct KvmRefusal : testing::Test {
    TemporaryDirectory root = *TemporaryDirectory::create();

    KvmRefusal() {
        put("proc/cpuinfo", "vendor_id : GenuineIntel\nflags : fpu vmx sse\n");
        put("dev/kvm", "");
        put("sys/module/kvm_intel/parameters/nested", "Y\n");
    }
    void put(const char* path, const char* text) const {
        fs::create_directories((root.path() / path).parent_path());
        std::ofstream{root.path() / path} << text;
    }
    [[nodiscard]] std::string refusal() const { return kvm_refusal(root.path()); }
    void expect(std::string_view help) const {
        EXPECT_NE(refusal().find(help), std::string::npos) << refusal();
        EXPECT_EQ(refusal().find('\n'), std::string::npos);
    }
};

TEST_F(KvmRefusal, IsNoneWhereKvmOffersVtx) {
    EXPECT_EQ(refusal(), "");
    put("sys/module/kvm_intel/parameters/nested", "1\n");
    EXPECT_EQ(refusal(), "");
}

TEST_F(KvmRefusal, NamesTheModuleParameter) {
    put("sys/module/kvm_intel/parameters/nested", "N\n");
    expect("modprobe kvm_intel nested=1");
    fs::remove(root.path() / "sys/module/kvm_intel/parameters/nested");
    expect("modprobe kvm_intel nested=1");
}

TEST_F(KvmRefusal, TellsAnAmdProcessorFromOneWhoseVtxIsOff) {
    put("proc/cpuinfo", "vendor_id : GenuineIntel\nflags : fpu sse vmxnet\n");
    expect("firmware's setup");
    put("proc/cpuinfo", "vendor_id : AuthenticAMD\nflags : fpu svm\n");
    expect("AMD");
}

TEST_F(KvmRefusal, NamesTheGroupWhereThereIsNoPermission) {
    fs::remove(root.path() / "dev/kvm");
    expect("modprobe kvm_intel");
    put("dev/kvm", "");
    const auto nobody = [](const fs::path& /*file*/) { return false; };
    EXPECT_NE(kvm_refusal(root.path(), nobody).find("adduser $USER kvm"), std::string::npos);
    EXPECT_FALSE(may_read_and_write(root.path() / "dev/none"));
}

TEST(QemuArguments, AreThoseOfAMachineThatEndsByItself) {
    QemuRequest request;
    request.image = "/d/a,b.iso";
    const auto joined = [&request] {
        std::string text;
        for (const std::string& argument : qemu_arguments(request)) text += argument + " ";
        return text;
    };
    const auto has = [&joined](std::string_view part) { return joined().find(part) != std::string::npos; };
    EXPECT_TRUE(has("-accel tcg -cpu max ")) << joined();
    EXPECT_TRUE(has("file=/d/a,,b.iso,if=ide,index=0,media=cdrom,readonly=on ")) << joined();
    EXPECT_TRUE(has("isa-debug-exit,iobase=0x8900"));
    EXPECT_TRUE(has("-no-reboot"));
    EXPECT_FALSE(has("pflash"));
    EXPECT_FALSE(has("vapic"));
    request.accelerator = Accelerator::kvm;
    request.firmware = Firmware::uefi;
    request.medium = Medium::disk;
    EXPECT_TRUE(has("-accel kvm -cpu host "));
    EXPECT_TRUE(has("-global kvm-apic.vapic=off"));
    EXPECT_TRUE(has("OVMF_CODE_4M.fd,if=pflash,readonly=on"));
    // What is written to the stick stays out of the file.
    EXPECT_TRUE(has("media=disk,snapshot=on"));
}

TEST(QemuEnding, IsToldByTheStatusAndTheLog) {
    const Transcript silent;
    EXPECT_EQ(judge_qemu(167, "", silent).ending, Ending::shutdown);
    EXPECT_EQ(judge_qemu(0, "qemu_system_shutdown_request reason=5\n", silent).ending, Ending::power_off);
    EXPECT_EQ(judge_qemu(0, "qemu_system_shutdown_request reason=6\n", silent).ending, Ending::reset);
    EXPECT_EQ(judge_qemu(1, "", silent).ending, Ending::emulator_failed);
    EXPECT_NE(judge_qemu(1, "", silent).detail.find("status 1"), std::string::npos);
    Transcript refused{{}, {.l0 = true, .guest_records = true, .mark = {}}};
    refused.append("FLATBACK stage l0\nFLATBACK error L0: this processor has no VT-x\n");
    EXPECT_EQ(judge_qemu(167, "", refused).ending, Ending::l0_stopped);
}

}  // namespace
}  // namespace flatback::tools::qemu_machine_test
