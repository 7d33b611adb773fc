#include "guests/lat_ctx/column.hpp"

#include <gtest/gtest.h>

namespace flatback::guests::column_test {
namespace {

TEST(Column, TheUsualOnesHaveLmbenchsNames) {
    std::string names;
    for (const Column& column : usual_columns) {
        names += column_name(column) + " ";
        EXPECT_EQ(parse_column(column_name(column)), column);
    }
    EXPECT_EQ(names, "2p/0K 2p/16K 2p/64K 8p/16K 8p/64K 16p/16K 16p/64K ");
}

TEST(Column, OtherNamesAreRefused) {
    for (const char* name :
         {"", "2p", "2p/", "2p/K", "2p/16", "2p/16k", "2p/16K ", "p/16K", "-2p/16K", "2p/-1K", "2/16K",
          "1p/16K", "65p/16K", "2p/1025K", "99999999999p/1K", "2p/16K8p/16K"}) {
        EXPECT_FALSE(parse_column(name)) << name;
    }
}

}  // namespace
}  // namespace flatback::guests::column_test
