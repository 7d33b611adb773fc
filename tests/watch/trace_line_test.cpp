// The reader of the emulator's trace: lines as Bochs 2.7 prints them, and whatever else may come.
#include "watch/trace_line.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "watch/trace_reader.hpp"

namespace trace_line_test {
namespace {

using namespace flatback::watch;

TraceLine read(std::string_view text) {
    TraceLine line;
    read_line(text, line);
    return line;
}

TEST(TraceLine, AnInstruction) {
    constexpr std::string_view text =
        "(0).[306439055] [0x000000200109] 0008:ffffffff80200109 (unk. ctxt): vmresume                  ; "
        "0f01c3";
    const TraceLine line = read(text);
    ASSERT_EQ(line.kind, TraceLine::Kind::instruction);
    EXPECT_EQ(line.processor, 0U);
    EXPECT_EQ(line.instruction.tick, 306439055U);
    EXPECT_EQ(line.instruction.physical, 0x200109U);
    EXPECT_EQ(line.instruction.instruction_pointer, 0xFFFFFFFF80200109U);
    EXPECT_TRUE(line.instruction.in_64_bit_mode);
    EXPECT_EQ(line.instruction.operation, Operation::vm_entry);
}

TEST(TraceLine, AnInstructionOfRealModeAndOfAnotherProcessor) {
    const TraceLine line = read("(3).[17] [0x0000000fe05b] f000:e05b (some symbol+3): xor ax, ax  ; 31c0");
    ASSERT_EQ(line.kind, TraceLine::Kind::instruction);
    EXPECT_EQ(line.processor, 3U);
    EXPECT_FALSE(line.instruction.in_64_bit_mode);
    EXPECT_EQ(line.instruction.operation, Operation::none);
}

TEST(TraceLine, AnInstructionThatTheDebuggerDoesNotFind) {
    const TraceLine line = read("(0).[6210637705] ??? (physical address not available)");
    ASSERT_EQ(line.kind, TraceLine::Kind::instruction);
    EXPECT_EQ(line.instruction.tick, 6210637705U);
    EXPECT_EQ(line.instruction.operation, Operation::hidden);
    EXPECT_FALSE(line.instruction.in_64_bit_mode);
}

TEST(TraceLine, InstructionsThatChangeWhatIsCached) {
    const auto operation = [](std::string_view text) {
        return read(std::string{"(0).[1] [0x000000001000] 0010:0000000000001000 (unk. ctxt): "}.append(text))
            .instruction.operation;
    };
    EXPECT_EQ(operation("vmlaunch ; 0f01c2"), Operation::vm_entry);
    EXPECT_EQ(operation("mov cr0, rax ; 0f22c0"), Operation::mov_to_cr0);
    EXPECT_EQ(operation("mov cr3, rdi ; 0f22df"), Operation::mov_to_cr3);
    EXPECT_EQ(operation("mov cr4, rcx ; 0f22e1"), Operation::mov_to_cr4);
    EXPECT_EQ(operation("mov rax, cr3 ; 0f20d8"), Operation::none);
    EXPECT_EQ(operation("invlpg byte ptr ds:[rax] ; 0f0138"), Operation::invlpg);
    EXPECT_EQ(operation("invpcid rax, dqword ptr ss:[rsp] ; x"), Operation::invpcid);
    EXPECT_EQ(operation("invvpid rax, dqword ptr ss:[rsp+16] ; x"), Operation::invvpid);
    EXPECT_EQ(operation("invept r13, dqword ptr ss:[rsp] ; x"), Operation::invept);
}

TEST(TraceLine, AnAccessByALinearAddress) {
    const TraceLine line =
        read("[CPU0 WR]: LIN 0xffffffff8026f078 PHY 0x00003de6f078 (len=8, WB): 0x01234567 0x89ABCDEF");
    ASSERT_EQ(line.kind, TraceLine::Kind::access);
    EXPECT_EQ(line.access.target, Target::memory);
    EXPECT_EQ(line.access.direction, Direction::write);
    EXPECT_TRUE(line.access.has_linear);
    EXPECT_EQ(line.access.linear, 0xFFFFFFFF8026F078U);
    EXPECT_EQ(line.access.physical, 0x3DE6F078U);
    EXPECT_EQ(line.access.length, 8U);
    EXPECT_EQ(line.access.value[0], 0x0123456789ABCDEFU);
}

TEST(TraceLine, ValuesOfEachLength) {
    const auto value = [](std::string_view length_and_words) {
        return read(std::string{"[CPU0 RD]: LIN 0x0000000000001000 PHY 0x000000001000 (len="}.append(
                        length_and_words))
            .access.value;
    };
    EXPECT_EQ(value("1, WB): 0xAF")[0], 0xAFU);
    EXPECT_EQ(value("2, WB): 0x1234")[0], 0x1234U);
    EXPECT_EQ(value("4, UC): 0x12345678")[0], 0x12345678U);
    const auto wide = value("16, WB): 0x00000001 0x00000002 0x00000003 0x00000004");
    EXPECT_EQ(wide[0], 0x0000000300000004U);
    EXPECT_EQ(wide[1], 0x0000000100000002U);
}

TEST(TraceLine, WhatIsBehindTheSemicolon) {
    const auto access = [](std::string_view name) {
        return read(std::string{"[CPU0 RD]: PHY 0x00003df1b478 (len=8, INVALID): 0x00000000 0x3DEC305E\t; "}
                        .append(name))
            .access;
    };
    EXPECT_EQ(access("VMCS").target, Target::vmcs);
    EXPECT_EQ(access("SHADOW_VMCS").target, Target::other);
    EXPECT_EQ(access("VMWRITE BITMAP").target, Target::other);
    constexpr std::array names{"PTE", "PDE", "PDPTE", "PML4E"};
    for (unsigned level = 1; level <= 4; ++level) {
        EXPECT_EQ(access(names[level - 1]).target, Target::page_structure);
        EXPECT_EQ(access(names[level - 1]).level, level);
        const auto ept = access(std::string{"EPT "} + names[level - 1]);
        EXPECT_EQ(ept.target, Target::ept_structure);
        EXPECT_EQ(ept.level, level);
        EXPECT_EQ(ept.value[0], 0x3DEC305EU);
    }
}

TEST(TraceLine, WhatIsCutOffOrDamagedIsNotUsed) {
    for (const std::string_view text : {
             "",
             "(",
             "[",
             "Next at t=161000000",
             "(0) Magic breakpoint",
             "(0) [0x0000fffffff0] f000:fff0 (unk. ctxt): jmpf 0xf000:e05b          ; ea5be000f0",
             "(0).[1610] [0x00003de11055] 0008:ffffffff80211055",
             "(0).[16100000000000000000000000] [0x00003de11055] 0008:1 (unk. ctxt): nop ; 90",
             "[CPU0 RD]: PHY 0x00003df1b478 (len=8, INVALID): 0x00000000 0x3DEC30",
             "[CPU0 RD]: PHY 0x00003df1b478 (len=8, INVALID): 0x00000000",
             "[CPU0 RD]: PHY 0x00003df1b478 (len=0, INVALID): 0x00",
             "[CPU0 RD]: PHY 0x00003df1b478 (len=128, INVALID): 0x00",
             "[CPU0 RD]: PHY 0x00003df1b478 (len=7, INVALID): 0x00000000 0x3DEC305E",
             "[CPU0 RD]: PHY 0x123456789012345678 (len=1, WB): 0x00",
             "[CPU0 XX]: PHY 0x000000000000 (len=1, WB): 0x00",
         }) {
        EXPECT_EQ(read(text).kind, TraceLine::Kind::other) << text;
    }
}

std::string recorded() {
    std::ifstream file(std::string{FLATBACK_SOURCE_DIRECTORY} + "/tests/watch/data/l1_and_l2.txt");
    return {std::istreambuf_iterator<char>(file), {}};
}

TEST(TraceReader, EveryLineOfARecordedTextIsUnderstood) {
    const std::string text = recorded();
    ASSERT_FALSE(text.empty());
    TraceReader reader;
    std::size_t others = 0;
    reader.append(text, [&](const TraceLine& line) { others += line.kind == TraceLine::Kind::other; });
    EXPECT_EQ(others, 0U);
    EXPECT_EQ(reader.lines(), static_cast<std::uint64_t>(std::ranges::count(text, '\n')));
}

RC_GTEST_PROP(TraceReader, PiecesMakeNoDifference, ()) {
    static const std::string text = recorded();
    const auto fingerprint = [](const TraceLine& line) {
        return line.kind == TraceLine::Kind::access        ? line.access.physical ^ line.access.value[0]
               : line.kind == TraceLine::Kind::instruction ? line.instruction.tick
                                                           : 0;
    };
    std::vector<std::uint64_t> whole;
    TraceReader first;
    first.append(text, [&](const TraceLine& line) { whole.push_back(fingerprint(line)); });
    std::vector<std::uint64_t> pieces;
    TraceReader second;
    std::string_view rest = text;
    while (!rest.empty()) {
        const auto size = *rc::gen::inRange<std::size_t>(1, 4000);
        second.append(rest.substr(0, size),
                      [&](const TraceLine& line) { pieces.push_back(fingerprint(line)); });
        rest.remove_prefix(std::min(size, rest.size()));
    }
    RC_ASSERT(pieces == whole);
}

// A line of the recorded text with some bytes changed, cut or repeated; or bytes of any kind.
RC_GTEST_PROP(TraceReader, NoBytesDoHarm, ()) {
    static const std::string text = recorded();
    const auto start = *rc::gen::inRange<std::size_t>(0, text.size());
    std::string damaged = text.substr(start, *rc::gen::inRange<std::size_t>(0, 3000));
    const auto changes = *rc::gen::container<std::vector<std::pair<std::uint16_t, char>>>(
        rc::gen::pair(rc::gen::arbitrary<std::uint16_t>(), rc::gen::arbitrary<char>()));
    for (const auto& [place, byte] : changes) {
        if (!damaged.empty()) damaged[place % damaged.size()] = byte;
    }
    TraceReader reader;
    reader.append(damaged, [](const TraceLine& line) {
        if (line.kind == TraceLine::Kind::access) {
            RC_ASSERT(line.access.length >= 1 && line.access.length <= 64);
            RC_ASSERT(line.access.level <= 4);
        }
    });
}

TEST(TraceReader, ALineWithoutEndIsNotKept) {
    TraceReader reader;
    std::size_t lines = 0;
    const auto count = [&](const TraceLine& line) {
        ++lines;
        EXPECT_EQ(line.kind, TraceLine::Kind::other);
    };
    for (unsigned piece = 0; piece < 1000; ++piece) reader.append(std::string(1000, '['), count);
    EXPECT_EQ(lines, 0U);
    reader.append("\n", count);
    EXPECT_EQ(lines, 1U);
    reader.append("(0).[1] [0x000000001000] 0010:0000000000001000 (unk. ctxt): nop ; 90\n",
                  [&](const TraceLine& line) { EXPECT_EQ(line.kind, TraceLine::Kind::instruction); });
}

}  // namespace
}  // namespace trace_line_test
