#include "judge/explore/seeded_defect.hpp"

#include <array>
#include <cstddef>

namespace flatback::machine::explore {

namespace {

constexpr std::array<std::string_view, static_cast<std::size_t>(SeededDefect::count)> names = {
    "none",
    "drops every INVVPID",
    "drops every INVEPT",
    "drops INVVPID of an address",
    "drops INVVPID that retains globals",
    "flushes vpid01 always",
    "flushes an address instead of a context",
    "retains globals always",
    "flushes the neighbour of an address",
    "runs INVVPID on processor 0",
    "runs INVEPT on processor 0",
    "loses the flushes of a failed entry",
    "remembers one vpid12, and over VMXOFF",
    "does not flush an evicted tag",
    "believes to be on processor 0",
    "does not tell of a taken page",
    "ignores INVVPID of an address",
    "ignores INVVPID of one context",
    "ignores INVVPID of all contexts",
    "ignores INVVPID that retains globals",
    "forgets an INVEPT after a move",
    "does not flush vpid01 when its occupant changes",
    "does not flush a tag that was given back",
    "loses the call to drop a page that was taken",
    "drops a page that was taken behind the next entry",
    "tells of a taken page where it was taken alone",
    "takes a flush that another processor has run for done",
    "has one mark of EPT contexts for all processors",
    "forgets an INVVPID for an L2 that another processor ran last",
    "leaves out the flush for an L2 that has come from another processor",
    "gives a VM its turn without what it owes",
};

}  // namespace

std::string_view name_of(SeededDefect defect) {
    return names.at(static_cast<std::size_t>(defect));
}

std::optional<SeededDefect> find_defect(std::string_view name) {
    for (std::size_t index = 0; index < names.size(); ++index) {
        if (names[index] == name) return static_cast<SeededDefect>(index);
    }
    return std::nullopt;
}

}  // namespace flatback::machine::explore
