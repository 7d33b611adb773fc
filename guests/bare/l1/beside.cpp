#include "guests/bare/l1/beside.hpp"

#include "guests/bare/l1/controls.hpp"
#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/ept12.hpp"
#include "guests/bare/l1/l2.hpp"
#include "guests/bare/l1/l2_programs.hpp"
#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/part.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/second_processor.hpp"
#include "guests/bare/l1/serial.hpp"

extern "C" char image_begin[], image_end[];

namespace flatback::guests::beside {
namespace {

// beside.S.
struct Header {
    std::uint64_t signature, begin, loaded_end, end, start;
};
constexpr std::uint64_t signature = 0x4B43'4142'5441'4C46;
constexpr std::uint64_t header_offset = 16;  // behind the Multiboot header

constinit Shared shared_by_all{};
// Of the other processors, by their numbers there.
std::uint64_t starts[most_others] = {};

constinit Shared* lines = nullptr;

void take_line() {
    std::uint32_t expected = 0;
    while (
        !__atomic_compare_exchange_n(&lines->line, &expected, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
        expected = 0;
        asm volatile("pause");
    }
    forget_fifo_room();
}
void give_line() {
    __atomic_store_n(&lines->line, 0, __ATOMIC_RELEASE);
}

void wait_ticks(std::uint64_t ticks) {
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < ticks) asm volatile("pause");
}

bool is_memory(std::uint64_t begin, std::uint64_t end) {
    bool found = false;
    boot_information.each_range([&](const MemoryRange& range) {
        found |= range.available && range.base <= begin && end <= range.base + range.size;
    });
    return found;
}

bool apart(std::uint64_t begin, std::uint64_t end, std::uint64_t from, std::uint64_t to) {
    return end <= from || to <= begin;
}

// Where it is to go, no module may be, nor this image.
const char* load(const AddressRange& module, std::uint64_t& start) {
    if (module.end - module.begin < header_offset + sizeof(Header)) return "a module is too short for a copy";
    const Header header = *reinterpret_cast<const Header*>(module.begin + header_offset);
    if (header.signature != signature) return "a module is no copy of this image";
    if (header.loaded_end - header.begin > module.end - module.begin) return "a copy is not whole";
    if (!is_memory(header.begin, header.end)) return "there is no memory where a copy is to go";
    bool free = apart(header.begin, header.end, physical(image_begin), physical(image_end));
    boot_information.each_module([&](std::uint64_t from, std::uint64_t to) {
        free = free && apart(header.begin, header.end, from, to);
    });
    if (!free) return "where a copy is to go, something else is";
    auto to = header.begin;
    auto from = module.begin;
    std::uint64_t bytes = header.loaded_end - header.begin;
    asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
    bytes = header.end - header.loaded_end;
    asm volatile("rep stosb" : "+D"(to), "+c"(bytes) : "a"(0) : "memory");
    start = header.start;
    return nullptr;
}

void become_copy() {
    const unsigned which = this_other();
    const auto start = reinterpret_cast<void (*)(Shared*, std::uint64_t)>(starts[which]);
    start(&shared_by_all, which + 1);
}

}  // namespace

Started start_copies(std::uint32_t information) {
    Shared& shared = shared_by_all;
    if (!start_second_processor()) return {"no second processor", nullptr};
    constexpr std::uint64_t until_all_have_come = 300'000;
    wait_ticks(until_all_have_come);
    shared.boot_information = information;
    shared.processors = 1;
    const char* wrong = nullptr;
    boot_information.each_module([&](std::uint64_t begin, std::uint64_t end) {
        const unsigned which = shared.processors - 1;
        if (wrong != nullptr || shared.processors == most_processors || which == others()) return;
        wrong = load({begin, end}, starts[which]);
        if (wrong == nullptr) ++shared.processors;
    });
    if (wrong != nullptr) return {wrong, nullptr};
    if (shared.processors == 1) return {"no copies of this image among the modules", nullptr};
    share_lines(shared, 0);
    for (unsigned which = 0; which + 1 < shared.processors; ++which) begin_on_other(which, become_copy);
    return {nullptr, &shared};
}

void share_lines(Shared& shared, std::uint32_t processor) {
    lines = &shared;
    share_output({take_line, give_line, processor});
}

void meet(Shared& shared, unsigned meeting) {
    __atomic_fetch_add(&shared.met[meeting], 1, __ATOMIC_SEQ_CST);
    while (shared.met[meeting] < shared.processors) asm volatile("pause");
}

void wait_for_turn(Shared& shared, std::uint32_t turn) {
    const PageScope scope;
    L2 l2{usual_plan(physical(l2_vmcall_loop), usual_ept().pointer())};
    while (shared.turn != turn) {
        if (l2.run() != reason::vmcall) leave_part("an L2 that waits was ended");
        write(field::guest_rip, physical(l2_vmcall_loop));
    }
}

void end_turn(Shared& shared) {
    __atomic_fetch_add(&shared.turn, 1, __ATOMIC_SEQ_CST);
}

}  // namespace flatback::guests::beside
