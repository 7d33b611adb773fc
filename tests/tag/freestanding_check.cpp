// Compiled as L0 is: that it compiles is the test.
#include "tag/vpid12_map.hpp"

namespace flatback::tag {
template class Vpid12Map<16>;

namespace {
// All zero, so that it costs an image nothing.
constinit VpidPool every_tag;
}  // namespace

Entry enter_first(Vpid12Map<16>& map);
Entry enter_first(Vpid12Map<16>& map) {
    return map.enter(Vpid12{1}, Cpu{0});
}

VpidPool& the_pool();
VpidPool& the_pool() {
    return every_tag;
}

}  // namespace flatback::tag
