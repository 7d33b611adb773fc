// A nested state to and from KVM's: where everything is, what a state of KVM's means, and what is refused.
#include <gtest/gtest.h>
#include <linux/kvm.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <map>
#include <vector>

#include "nested/state/kvm.hpp"
#include "vmx/controls.hpp"

namespace flatback::nested::kvm_state_test {
namespace {

namespace field = vmx::field;
using Bytes = std::vector<std::byte>;
using Page = std::array<std::byte, 4096>;

// The fields of KVM's VMCS in their order, by encoding (SDM 3D appendix B): written a second time.
struct Group {
    std::size_t offset;
    std::size_t width;
    std::vector<std::uint32_t> fields;
};
const std::vector<Group>& groups() {
    static const std::vector<Group> all{
        {40, 8, {0x2000, 0x2002, 0x2004, 0x2006, 0x2008, 0x200a, 0x2010, 0x2012, 0x2014, 0x2016,
                 0x201a, 0x201c, 0x201e, 0x2020, 0x2022, 0x202c, 0x2400, 0x2800, 0x2802, 0x2804,
                 0x2806, 0x2808, 0x280a, 0x280c, 0x280e, 0x2810, 0x2812, 0x2c00, 0x2c02, 0x2c04,
                 0x2026, 0x2028, 0x2018, 0x2024, 0x200e, 0x202e, 0x2032}},
        {344, 8, {0x6000, 0x6002, 0x6004, 0x6006}},
        {408, 8, {0x6400, 0x640a, 0x6800, 0x6802, 0x6804, 0x6806, 0x6808, 0x680a, 0x680c,
                  0x680e, 0x6810, 0x6812, 0x6814, 0x6816, 0x6818, 0x681a, 0x681c, 0x681e,
                  0x6820, 0x6822, 0x6824, 0x6826, 0x6c00, 0x6c02, 0x6c04, 0x6c06, 0x6c08,
                  0x6c0a, 0x6c0c, 0x6c0e, 0x6c10, 0x6c12, 0x6c14, 0x6c16}},
        {744, 4, {0x4000, 0x4002, 0x4004, 0x4006, 0x4008, 0x400a, 0x400c, 0x400e, 0x4010, 0x4012,
                  0x4014, 0x4016, 0x4018, 0x401a, 0x401c, 0x401e, 0x4400, 0x4402, 0x4404, 0x4406,
                  0x4408, 0x440a, 0x440c, 0x440e, 0x4800, 0x4802, 0x4804, 0x4806, 0x4808, 0x480a,
                  0x480c, 0x480e, 0x4810, 0x4812, 0x4814, 0x4816, 0x4818, 0x481a, 0x481c, 0x481e,
                  0x4820, 0x4822, 0x4824, 0x4826, 0x482a, 0x4c00, 0x482e}},
        {960,
         2,
         {0x0000, 0x0002, 0x0800, 0x0802, 0x0804, 0x0806, 0x0808, 0x080a, 0x080c, 0x080e, 0x0810, 0x0c00,
          0x0c02, 0x0c04, 0x0c06, 0x0c08, 0x0c0a, 0x0c0c, 0x0812}}};
    return all;
}

TEST(KvmState, HasItsHeaderWhereTheKernelHasIt) {
    EXPECT_EQ(kvm::flags_at, offsetof(kvm_nested_state, flags));
    EXPECT_EQ(kvm::format_at, offsetof(kvm_nested_state, format));
    EXPECT_EQ(kvm::size_at, offsetof(kvm_nested_state, size));
    EXPECT_EQ(kvm::vmxon_pointer_at, offsetof(kvm_nested_state, hdr.vmx.vmxon_pa));
    EXPECT_EQ(kvm::current_pointer_at, offsetof(kvm_nested_state, hdr.vmx.vmcs12_pa));
    EXPECT_EQ(kvm::smm_flags_at, offsetof(kvm_nested_state, hdr.vmx.smm));
    EXPECT_EQ(kvm::header_flags_at, offsetof(kvm_nested_state, hdr.vmx.flags));
    EXPECT_EQ(kvm::timer_deadline_at, offsetof(kvm_nested_state, hdr.vmx.preemption_timer_deadline));
    EXPECT_EQ(kvm::header_size, offsetof(kvm_nested_state, data));
    EXPECT_EQ(kvm::vmcs_size, KVM_STATE_NESTED_VMX_VMCS_SIZE);
    EXPECT_EQ(kvm::format_vmx, KVM_STATE_NESTED_FORMAT_VMX);
    EXPECT_EQ(kvm::guest_mode, KVM_STATE_NESTED_GUEST_MODE);
    EXPECT_EQ(kvm::run_pending, KVM_STATE_NESTED_RUN_PENDING);
    EXPECT_EQ(kvm::enlightened_vmcs, KVM_STATE_NESTED_EVMCS);
    EXPECT_EQ(kvm::trap_flag_pending, KVM_STATE_NESTED_MTF_PENDING);
    EXPECT_EQ(kvm::has_timer_deadline, KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE);
}

TEST(KvmState, HasEachFieldWhereKvmHasIt) {
    std::size_t fields = 0;
    for (const Group& group : groups()) {
        for (std::size_t i = 0; i < group.fields.size(); ++i) {
            const int index = vmx::dense_index(group.fields[i]);
            ASSERT_GE(index, 0) << std::hex << group.fields[i];
            EXPECT_EQ(kvm::offsets.at(static_cast<std::size_t>(index)), group.offset + group.width * i)
                << std::hex << group.fields[i];
            EXPECT_EQ(kvm::width_of(group.fields[i]), group.width);
            ++fields;
        }
    }
    EXPECT_EQ(kvm::places.size(), fields);
}

// --- a state of KVM's, by hand

struct KvmState {
    alignas(8) std::array<std::byte, 128 + 2 * 4096> bytes{};
    kvm_nested_state& header() { return reinterpret_cast<kvm_nested_state&>(bytes); }
    template <typename Word>
    void put(std::size_t offset, Word word) {
        std::memcpy(&bytes.at(128 + offset), &word, sizeof word);
    }
    // With a current VMCS: a guest that reads by the timer and hlts, of which a few fields are enough here.
    KvmState() {
        header().size = 128 + 4096;
        header().hdr.vmx.vmxon_pa = 0x7000;
        header().hdr.vmx.vmcs12_pa = 0x9000;
        put(0, std::uint32_t{0x11e57ed0});
        put(748, std::uint32_t{0x8000'0080});  // primary controls
        put(804, std::uint32_t{0x0000'0022});  // secondary controls: EPT, VPID
        put(780, std::uint32_t{0x0000'93ff});  // entry controls, of a 64-bit guest
        put(768, std::uint32_t{0x003f'6fff});  // exit controls
        put(120, std::uint64_t{0x5001e});      // EPTP
        put(960, std::uint16_t{3});            // VPID
        put(544, std::uint64_t{0x40'1234});    // RIP
        put(528, std::uint64_t{0x401});        // DR7
        put(176, ~std::uint64_t{0});           // link pointer
        put(788, std::uint32_t{0x8000'0041});  // an interrupt that L1 injects
    }
};

vmx::Capabilities promised() {
    vmx::Capabilities of{};
    of.basic.value = 0x00da'0400'0000'0000 | (std::uint64_t{4096} << 32) | 0x11e57ed0;
    of.misc.value = 5;
    return of;
}
kvm::Beside beside() {
    return {.promised = promised(), .dr7 = 0x401, .debugctl = 0, .pat = 0x0007'0406'0007'0406, .efer = 0xd01};
}

// What a state says, by list.
struct Read {
    state::Header header;
    state::VmcsHeader vmcs;
    std::map<std::uint32_t, std::uint64_t> fields, running;
};
Read read(const Bytes& bytes) {
    Read all;
    state::Reader in{bytes};
    const auto header = in.header();
    EXPECT_TRUE(header.has_value());
    if (!header) return all;
    all.header = *header;
    if (header->vmcs_count != 0) {
        all.vmcs = in.vmcs();
        for (std::uint32_t i = 0; i < all.vmcs.field_count; ++i) {
            const auto found = in.field();
            all.fields[found.encoding] = found.value;
        }
    }
    if ((header->flags & state::in_l2) != 0) {
        for (auto left = in.count(); left > 0; --left) {
            const auto found = in.field();
            all.running[found.encoding] = found.value;
        }
    }
    EXPECT_TRUE(in.at_end());
    return all;
}
Expected<std::size_t, StateError> convert(const KvmState& kvm, const kvm::Beside& with, Bytes& into) {
    into.assign(20'000, {});
    const auto size = kvm::from_kvm(kvm.bytes, with, into);
    into.resize(size ? *size : 0);
    return size;
}
Read read_of(const KvmState& kvm, const kvm::Beside& with = beside()) {
    Bytes into;
    EXPECT_TRUE(convert(kvm, with, into).has_value());
    return read(into);
}
void expect_refused(const KvmState& kvm, StateError error) {
    Bytes into;
    const auto size = convert(kvm, beside(), into);
    ASSERT_FALSE(size.has_value());
    EXPECT_EQ(static_cast<int>(size.error()), static_cast<int>(error));
}

TEST(KvmState, OfAnL1OutsideVmxOperationIsAHeader) {
    KvmState kvm;
    kvm.header().size = 128;
    kvm.header().hdr.vmx.vmxon_pa = kvm.header().hdr.vmx.vmcs12_pa = ~0ULL;
    const Read all = read_of(kvm);
    EXPECT_EQ(all.header.flags, 0U);
    EXPECT_EQ(all.header.vmxon_pointer, ~0ULL);
    EXPECT_EQ(all.header.vmcs_count, 0U);
    // In VMX operation without a current VMCS.
    kvm.header().hdr.vmx.vmxon_pa = 0x7000;
    EXPECT_EQ(read_of(kvm).header.flags, 1U);
    EXPECT_EQ(read_of(kvm).header.vmxon_pointer, 0x7000U);
}

TEST(KvmState, OfAnL1ThatRunsHasItsCurrentVmcs) {
    KvmState kvm;
    for (const bool launched : {false, true}) {
        kvm.put(8, std::uint32_t{launched});
        const Read all = read_of(kvm);
        EXPECT_EQ(all.header.flags, 1U);
        EXPECT_EQ(all.header.current_pointer, 0x9000U);
        EXPECT_EQ(all.vmcs.pointer, 0x9000U);
        EXPECT_EQ(all.vmcs.flags, launched ? 1U : 0U);
        EXPECT_EQ(all.fields.at(field::guest_rip.encoding), 0x40'1234U);
        EXPECT_EQ(all.fields.at(field::virtual_processor_identifier.encoding), 3U);
        EXPECT_EQ(all.fields.at(field::ept_pointer.encoding), 0x5001eU);
        EXPECT_EQ(all.fields.size(), 10U);
    }
}

// KVM writes down that a VMCS was launched at the first exit of its guest.
TEST(KvmState, OfAnEntryThatIsStillToBeMadeDeliversWhatL1Injects) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE | KVM_STATE_NESTED_RUN_PENDING;
    Read all = read_of(kvm);
    EXPECT_EQ(all.header.flags, 1U | 2U | 8U) << "by VMLAUNCH";
    EXPECT_EQ(all.vmcs.flags, 1U);
    EXPECT_EQ(all.running.at(field::vm_entry_interruption_information.encoding), 0x8000'0041U);
    EXPECT_EQ(all.running.at(field::guest_rip.encoding), 0x40'1234U);
    EXPECT_EQ(all.running.at(field::vm_entry_controls.encoding), 0x200U);
    EXPECT_FALSE(all.running.contains(field::ept_pointer.encoding));
    kvm.put(8, std::uint32_t{1});
    EXPECT_EQ(read_of(kvm).header.flags, 1U | 2U) << "by VMRESUME";
}

TEST(KvmState, OfAnL2ThatHasRunDeliversWhatKvmHasForIt) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    kvm::Beside with = beside();
    Read all = read_of(kvm, with);
    EXPECT_EQ(all.header.flags, 1U | 2U | 4U);
    EXPECT_EQ(all.vmcs.flags, 1U) << "whatever its launch state says yet";
    EXPECT_FALSE(all.running.contains(field::vm_entry_interruption_information.encoding))
        << "L1's was delivered";
    with.event = 0x8000'0b0e;
    with.event_error_code = 2;
    with.dr7 = 0x455;
    with.pat = 6;
    all = read_of(kvm, with);
    EXPECT_EQ(all.running.at(field::vm_entry_interruption_information.encoding), 0x8000'0b0eU);
    EXPECT_EQ(all.running.at(field::vm_entry_exception_error_code.encoding), 2U);
    EXPECT_EQ(all.running.at(field::guest_dr7.encoding), 0x455U);
    EXPECT_EQ(all.fields.at(field::guest_dr7.encoding), 0x401U);
    EXPECT_EQ(all.running.at(field::guest_ia32_pat.encoding), 6U);
    EXPECT_EQ(all.running.at(field::guest_ia32_efer.encoding), 0xd01U);
}

TEST(KvmState, HasTheTimerThatIsLeftByItsDeadline) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    kvm.put(744, std::uint32_t{1U << 6});  // pin-based controls
    kvm.put(928, std::uint32_t{500});      // the timer
    const auto left = [&](std::uint64_t counter) {
        kvm::Beside with = beside();
        with.time_stamp_counter = counter;
        const Read all = read_of(kvm, with);
        const auto found = all.running.find(field::vmx_preemption_timer_value.encoding);
        return found == all.running.end() ? 0 : found->second;
    };
    EXPECT_EQ(left(0), 500U) << "KVM knows no deadline";
    kvm.header().hdr.vmx.flags = KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE;
    kvm.header().hdr.vmx.preemption_timer_deadline = 1000;
    EXPECT_EQ(left(700 << 5), 300U);
    EXPECT_EQ(left(1001 << 5), 0U) << "over already";
    kvm.header().hdr.vmx.preemption_timer_deadline = 0;
    EXPECT_EQ(left(0), 0U);
    kvm.header().hdr.vmx.preemption_timer_deadline = ~0ULL;
    EXPECT_EQ(left(0), 0xffff'ffffU);
    kvm.put(744, std::uint32_t{0});
    EXPECT_EQ(left(0), 0U) << "L1 does not use it";
}

// --- what is refused

TEST(KvmState, IsRefusedWhereItIsNone) {
    const KvmState good;
    const auto refused = [&](auto&& change, StateError error) {
        KvmState kvm = good;
        change(kvm.header());
        expect_refused(kvm, error);
    };
    using State = kvm_nested_state;
    refused([](State& it) { it.format = KVM_STATE_NESTED_FORMAT_SVM; }, StateError::not_a_state);
    for (const std::uint32_t size : {0U, 127U, 128U, 129U, 4223U, 4225U, 8319U, 8321U, ~0U})
        refused([&](State& it) { it.size = size; }, StateError::not_a_state);
    for (const int flag : {0x10, 0x100, 0x8000})
        refused([&](State& it) { it.flags = static_cast<std::uint16_t>(flag); }, StateError::not_a_state);
    refused([](State& it) { it.hdr.vmx.flags = 2; }, StateError::not_a_state);
    // What this engine lets no L1 have.
    for (const int flag : {KVM_STATE_NESTED_EVMCS, KVM_STATE_NESTED_MTF_PENDING})
        refused([&](State& it) { it.flags = static_cast<std::uint16_t>(flag); },
                StateError::promise_not_kept);
    for (const int flag : {KVM_STATE_NESTED_SMM_GUEST_MODE, KVM_STATE_NESTED_SMM_VMXON, 4})
        refused([&](State& it) { it.hdr.vmx.smm.flags = static_cast<std::uint16_t>(flag); },
                StateError::promise_not_kept);
    refused([](State& it) { it.size = 128 + 2 * 4096; }, StateError::promise_not_kept);  // a shadow VMCS
    // Contradictions.
    refused([](State& it) { it.flags = KVM_STATE_NESTED_RUN_PENDING; }, StateError::impossible);
    refused([](State& it) { it.hdr.vmx.vmxon_pa = ~0ULL; }, StateError::impossible);
    refused([](State& it) { it.hdr.vmx.vmcs12_pa = ~0ULL, it.flags = KVM_STATE_NESTED_GUEST_MODE; },
            StateError::impossible);
    refused([](State& it) { it.hdr.vmx.vmcs12_pa = ~0ULL; }, StateError::not_a_state);
    KvmState other = good;
    other.put(0, std::uint32_t{0x11e57ed1});
    expect_refused(other, StateError::other_version);
}

TEST(KvmState, CutAnywhereOrWithoutRoomIsRefused) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    Bytes into;
    ASSERT_TRUE(convert(kvm, beside(), into).has_value());
    const std::size_t needed = into.size();
    for (std::size_t size = 0; size < 128 + 4096; ++size) {
        const Bytes part(kvm.bytes.begin(), kvm.bytes.begin() + static_cast<std::ptrdiff_t>(size));
        const auto made = kvm::from_kvm(part, beside(), into);
        ASSERT_FALSE(made.has_value()) << size;
        ASSERT_EQ(made.error(), StateError::not_a_state) << size;
    }
    for (std::size_t size = 0; size < needed; ++size) {
        Bytes room(size);
        const auto made = kvm::from_kvm(kvm.bytes, beside(), room);
        ASSERT_FALSE(made.has_value()) << size;
        ASSERT_EQ(made.error(), StateError::no_room) << size;
    }
}

// --- to KVM

struct Made {
    KvmState kvm;
    kvm::Beside beside;
    std::map<std::uint64_t, Page> regions;
    std::optional<StateError> error;
};
Made to_kvm(const Bytes& bytes, std::uint64_t counter = 0, std::size_t room = 128 + 4096) {
    Made made;
    made.kvm.bytes = {};
    made.beside.time_stamp_counter = counter;
    const auto size = kvm::to_kvm(bytes, made.beside, std::span{made.kvm.bytes}.first(room),
                                  [&](std::uint64_t address) { return made.regions[address].data(); });
    if (!size) {
        made.error = size.error();
        EXPECT_TRUE(made.regions.empty());
        EXPECT_EQ(made.kvm.bytes, (decltype(made.kvm.bytes){}));
    } else {
        EXPECT_EQ(*size, made.kvm.header().size);
    }
    return made;
}

// Anything that KVM may have, of which it says the same twice: there and back it is the same.
RC_GTEST_PROP(KvmStateProperty, ThereAndBackIsTheSame, ()) {
    KvmState kvm;
    const bool in_l2 = *rc::gen::arbitrary<bool>();
    const bool pending = in_l2 && *rc::gen::arbitrary<bool>();
    const bool timer = *rc::gen::arbitrary<bool>();
    const bool launched = *rc::gen::arbitrary<bool>();
    std::map<std::uint32_t, std::uint64_t> values;
    std::map<std::uint32_t, std::pair<std::size_t, std::size_t>> where;
    for (const Group& group : groups()) {
        for (std::size_t i = 0; i < group.fields.size(); ++i) {
            where[group.fields[i]] = {group.offset + group.width * i, group.width};
            values[group.fields[i]] =
                *rc::gen::oneOf(rc::gen::arbitrary<std::uint64_t>(), rc::gen::just(std::uint64_t{0})) &
                field_mask(group.fields[i]);
        }
    }
    const auto value = [&](const auto& which) -> std::uint64_t& { return values[which.encoding]; };
    auto& pin = value(field::pin_based_vm_execution_controls);
    pin = timer ? pin | 1U << 6 : pin & ~(1ULL << 6);
    kvm::Beside with = beside();
    with.time_stamp_counter = *rc::gen::inRange<std::uint64_t>(0, 1ULL << 50);
    if (in_l2) {
        with.dr7 = *rc::gen::arbitrary<std::uint64_t>();
        with.debugctl = *rc::gen::arbitrary<std::uint64_t>();
        with.pat = *rc::gen::arbitrary<std::uint64_t>();
        with.efer = *rc::gen::arbitrary<std::uint64_t>();
    } else {
        with.dr7 = with.debugctl = with.pat = with.efer = 0;
    }
    const std::uint64_t exit_controls = value(field::vm_exit_controls);
    const std::uint32_t left = *rc::gen::arbitrary<std::uint32_t>();
    if (in_l2 && !pending) {
        // What KVM has in two places.
        if ((exit_controls & vmx::exit_control::save_debug_controls) != 0) {
            value(field::guest_dr7) = with.dr7;
            value(field::guest_ia32_debugctl) = with.debugctl;
        }
        if ((exit_controls & vmx::exit_control::save_ia32_pat) != 0) value(field::guest_ia32_pat) = with.pat;
        if ((exit_controls & vmx::exit_control::save_ia32_efer) != 0)
            value(field::guest_ia32_efer) = with.efer;
        if ((exit_controls & vmx::exit_control::save_vmx_preemption_timer_value) != 0)
            value(field::vmx_preemption_timer_value) = timer ? left : 0;
        with.event = *rc::gen::arbitrary<std::uint32_t>();
        with.event_error_code = *rc::gen::arbitrary<std::uint32_t>();
        with.event_instruction_length = *rc::gen::arbitrary<std::uint32_t>();
        if (timer) {
            kvm.header().hdr.vmx.flags = KVM_STATE_VMX_PREEMPTION_TIMER_DEADLINE;
            kvm.header().hdr.vmx.preemption_timer_deadline = left + (with.time_stamp_counter >> 5);
        }
    }
    if (pending) value(field::vm_entry_interruption_information) |= 1U << 31;
    for (const auto& [encoding, place] : where)
        std::memcpy(&kvm.bytes.at(128 + place.first), &values[encoding], place.second);
    kvm.put(8, std::uint32_t{launched || (in_l2 && !pending)});
    kvm.header().flags = static_cast<std::uint16_t>((in_l2 ? 1 : 0) | (pending ? 2 : 0));

    Bytes into;
    RC_ASSERT(convert(kvm, with, into).has_value());
    const Made made = to_kvm(into, with.time_stamp_counter);
    RC_ASSERT(!made.error.has_value());
    RC_ASSERT(made.kvm.bytes == kvm.bytes);
    RC_ASSERT(made.beside.dr7 == with.dr7);
    RC_ASSERT(made.beside.debugctl == with.debugctl);
    RC_ASSERT(made.beside.pat == with.pat);
    RC_ASSERT(made.beside.efer == with.efer);
    RC_ASSERT(made.beside.event == with.event);
    RC_ASSERT(made.beside.event_error_code == with.event_error_code);
    RC_ASSERT(made.beside.event_instruction_length == with.event_instruction_length);
    RC_ASSERT(made.beside.promised.misc.value == with.promised.misc.value);
    Bytes again;
    RC_ASSERT(convert(made.kvm, made.beside, again).has_value());
    RC_ASSERT(again == into);
}

// Any bytes are refused, or taken and then the same there and back.
RC_GTEST_PROP(KvmStateProperty, AnyBytesAreNoHarm, (std::vector<std::uint8_t> changes)) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    for (std::size_t i = 0; i + 2 < changes.size(); i += 3) {
        // Mostly of the header.
        const std::size_t at =
            i % 2 == 0 ? changes[i] % 40U : (changes[i] * 256U + changes[i + 1]) % (128U + 4096U);
        kvm.bytes.at(at) = std::byte{changes[i + 2]};
    }
    Bytes into;
    if (convert(kvm, beside(), into)) static_cast<void>(read(into));
}

// A state with the current VMCS and another that is active.
Bytes of_two_vmcss(const vmx::Capabilities& with) {
    Bytes bytes(4000);
    state::Writer out{bytes};
    out.put(state::Header{
        .flags = 1, .vmxon_pointer = 0x7000, .current_pointer = 0x9000, .vmcs_count = 2, .promised = with});
    out.put(state::VmcsHeader{.pointer = 0xb000, .flags = 1, .field_count = 2});
    out.put(state::FieldValue{field::virtual_processor_identifier.encoding, 9});
    out.put(state::FieldValue{field::guest_rip.encoding, 0x7777});
    out.put(state::VmcsHeader{.pointer = 0x9000, .flags = 0, .field_count = 1});
    out.put(state::FieldValue{field::guest_rip.encoding, 0x8888});
    const auto size = out.finish();
    EXPECT_TRUE(size.has_value());
    bytes.resize(size ? *size : 0);
    return bytes;
}

// With what its lists say now.
Bytes bytes_of(const Read& all) {
    Bytes bytes(20'000);
    state::Writer out{bytes};
    out.put(all.header);
    state::VmcsHeader vmcs = all.vmcs;
    vmcs.field_count = static_cast<std::uint32_t>(all.fields.size());
    out.put(vmcs);
    for (const auto& [encoding, value] : all.fields) out.put(state::FieldValue{encoding, value});
    out.put_count(static_cast<std::uint32_t>(all.running.size()));
    for (const auto& [encoding, value] : all.running) out.put(state::FieldValue{encoding, value});
    const auto size = out.finish();
    EXPECT_TRUE(size.has_value());
    bytes.resize(size ? *size : 0);
    return bytes;
}

// KVM has one VMCS of an L2 that runs.
TEST(KvmState, OfAnL2ThatHasRunHasWhatAnExitWouldSaveInItsVmcs) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    const auto word = [](const Made& made, std::size_t at) {
        std::uint64_t found = 0;
        std::memcpy(&found, &made.kvm.bytes.at(128 + at), sizeof found);
        return found;
    };
    constexpr std::size_t rip_at = 544;
    constexpr std::size_t dr7_at = 528;
    Read all = read_of(kvm);
    all.running[field::guest_rip.encoding] = 0x1111;
    all.running[field::guest_dr7.encoding] = 0x455;
    for (const bool saves : {true, false}) {
        std::uint64_t& controls = all.fields.at(field::vm_exit_controls.encoding);
        controls = saves ? controls | vmx::exit_control::save_debug_controls
                         : controls & ~std::uint64_t{vmx::exit_control::save_debug_controls};
        const Made made = to_kvm(bytes_of(all));
        ASSERT_FALSE(made.error.has_value());
        EXPECT_EQ(word(made, rip_at), 0x1111U);
        EXPECT_EQ(word(made, dr7_at), saves ? 0x455U : 0x401U);
        EXPECT_EQ(made.beside.dr7, 0x455U);
    }
    // What is no word of a running L2's has no place in its list.
    all.running[field::ept_pointer.encoding] = 0x5001e;
    EXPECT_EQ(to_kvm(bytes_of(all)).error, StateError::unknown_field);
}

TEST(KvmState, HasTheOtherActiveVmcssInL1sMemory) {
    const Made made = to_kvm(of_two_vmcss(promised()));
    ASSERT_FALSE(made.error.has_value());
    ASSERT_EQ(made.regions.size(), 1U);
    Page page = made.regions.at(0xb000);
    const auto word = [](const auto& bytes, std::size_t at) {
        std::uint32_t found = 0;
        std::memcpy(&found, &bytes.at(at), sizeof found);
        return found;
    };
    EXPECT_EQ(word(page, 0), 0x11e57ed0U);
    EXPECT_EQ(word(page, 8), 1U);
    EXPECT_EQ(word(page, 960), 9U);
    EXPECT_EQ(word(page, 544), 0x7777U);
    EXPECT_EQ(word(made.kvm.bytes, 128 + 8), 0U);
    EXPECT_EQ(word(made.kvm.bytes, 128 + 544), 0x8888U);

    // As the engine has it in L1's memory, and back.
    const Page as_kvm_has_it = page;
    ASSERT_TRUE(kvm::region_from_kvm(page.data()).has_value());
    VmcsRegion region;
    std::memcpy(&region, page.data(), sizeof region);
    EXPECT_EQ(region.revision_identifier, 0x11e57ed0U);
    EXPECT_EQ(region.launched, 1U);
    EXPECT_EQ(region.reserved, 0U);
    EXPECT_EQ(region.words.at(static_cast<std::size_t>(vmx::dense_index(field::guest_rip.encoding))),
              0x7777U);
    ASSERT_TRUE(kvm::region_to_kvm(page.data()).has_value());
    EXPECT_EQ(page, as_kvm_has_it);
}

TEST(KvmState, ARegionThatIsNoneOrHasNoPlaceThereIsLeft) {
    Page page{};
    EXPECT_EQ(kvm::region_from_kvm(page.data()).error(), StateError::other_version);
    EXPECT_EQ(kvm::region_to_kvm(page.data()).error(), StateError::other_version);
    EXPECT_EQ(page, Page{});
    VmcsRegion region{
        .revision_identifier = 0x11e57ed0, .abort_indicator = 0, .launched = 0, .reserved = 0, .words = {}};
    const auto word = [&](const auto& which) -> std::uint64_t& {
        return region.words.at(static_cast<std::size_t>(vmx::dense_index(which.encoding)));
    };
    // What only tells of an exit is lost.
    word(field::io_rcx) = 5;
    word(field::guest_cs_selector) = ~0ULL;
    std::memcpy(page.data(), &region, sizeof region);
    EXPECT_TRUE(kvm::region_to_kvm(page.data()).has_value());
    EXPECT_EQ(page.at(966), std::byte{0xff});
    EXPECT_EQ(page.at(968), std::byte{0});
    word(field::ple_gap) = 5;
    std::memcpy(page.data(), &region, sizeof region);
    const Page before = page;
    EXPECT_EQ(kvm::region_to_kvm(page.data()).error(), StateError::unknown_field);
    EXPECT_EQ(page, before);
}

TEST(KvmState, IsNotMadeOfWhatKvmCannotTake) {
    const Bytes good = of_two_vmcss(promised());
    const auto refused = [](const Bytes& bytes, StateError error) {
        const Made made = to_kvm(bytes);
        ASSERT_TRUE(made.error.has_value());
        EXPECT_EQ(static_cast<int>(*made.error), static_cast<int>(error));
    };
    vmx::Capabilities own = promised();
    own.basic.value = (own.basic.value & ~0x7fff'ffffULL) | vmcs12_revision;
    refused(of_two_vmcss(own), StateError::promise_not_kept);
    EXPECT_EQ(to_kvm(good, 0, 128 + 4095).error, StateError::no_room);
    const auto changed = [&](std::size_t at, std::uint32_t word, StateError error) {
        Bytes bytes = good;
        std::memcpy(&bytes.at(at), &word, sizeof word);
        refused(bytes, error);
    };
    const std::size_t first_field = 180 + 16;
    changed(4, 2, StateError::other_version);
    changed(12, 1 | 4, StateError::not_a_state);
    changed(12, 1 | 2 | 4 | 8, StateError::not_a_state);  // L2 has run, and is still to be entered
    changed(12, 2, StateError::impossible);
    changed(12, 3, StateError::impossible);  // L2 runs, of a VMCS that is not launched
    changed(24, 0xb000 + 1, StateError::bad_pointer);
    changed(180, 0x9000, StateError::bad_pointer);
    changed(32, 33, StateError::not_a_state);
    changed(32, 1, StateError::bad_pointer);
    changed(first_field, 0x7ffe, StateError::unknown_field);
    changed(first_field, field::ple_gap.encoding, StateError::unknown_field);
    changed(first_field + 12, 0, StateError::fields_not_sorted);
    changed(first_field + 4, 0x1'0000, StateError::value_too_wide);
    for (std::size_t size = 12; size < good.size(); ++size) {
        Bytes part(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        const auto length = static_cast<std::uint32_t>(size);
        std::memcpy(&part.at(8), &length, sizeof length);
        EXPECT_TRUE(to_kvm(part).error.has_value()) << size;
    }
}

TEST(KvmState, IsNotMadeOfATimerOfAnotherRate) {
    KvmState kvm;
    kvm.header().flags = KVM_STATE_NESTED_GUEST_MODE;
    kvm.put(744, std::uint32_t{1U << 6});
    kvm::Beside with = beside();
    with.promised.misc.value = 4;
    Bytes into;
    ASSERT_TRUE(convert(kvm, with, into).has_value());
    EXPECT_EQ(to_kvm(into).error, StateError::promise_not_kept);
}

}  // namespace
}  // namespace flatback::nested::kvm_state_test
