#include "fuzz/prologue.hpp"

#include "machine/program/layout.hpp"
#include "machine/program/scenario.hpp"

namespace flatback::fuzz {

using namespace machine;

const Program& prologue() {
    static const Program program = [] {
        Scenario scenario;
        for (const unsigned hierarchy : {0U, 1U, 2U}) {
            scenario.edit().map(hierarchy, 0x4000'0000, layout::data_page(0));
            scenario.map(hierarchy, 0x4000'1000, layout::data_page(1), 0x107);
            scenario.map(hierarchy, 0x4020'0000, layout::data_page(2));
        }
        for (const unsigned page : {0U, 1U, 2U, 3U}) {
            scenario.ept_map(0, layout::data_page(page), layout::data_page(page));
            scenario.ept_map(1, layout::data_page(page), layout::data_page(3 - page));
        }
        scenario.l1().vmxon().prepare(layout::vmcs_region(1), {.vpid = 2, .ept = {}, .tables = 2});
        scenario.prepare(layout::vmcs_region(0), {.vpid = 1, .ept = 0, .tables = 1}).vmlaunch();
        return scenario.program();
    }();
    return program;
}

}  // namespace flatback::fuzz
