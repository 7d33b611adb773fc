#include "tools/ground/printable.hpp"

#include <gtest/gtest.h>

namespace flatback::tools::printable_test {
namespace {

TEST(Printable, ControlsAreShownAndTextStays) {
    EXPECT_EQ(printable("plain\ttext"), "plain\ttext");
    EXPECT_EQ(printable("\033[2J\033]0;title\007"), "^[[2J^[]0;title^G");
    EXPECT_EQ(printable(std::string_view{"a\0b\x7f", 4}), "a^@b^?");
    EXPECT_EQ(printable("\u00e9\u20ac\U0001F600"), "\u00e9\u20ac\U0001F600");
}

TEST(Printable, C1ControlsAndWhatIsNotUtf8AreShown) {
    EXPECT_EQ(printable("\xc2\x9b"
                        "2J"),
              "\\xc2\\x9b2J");  // CSI as one character
    EXPECT_EQ(printable("\x9b"
                        "2J"),
              "\\x9b2J");
    EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b");  // overlong ESC
    EXPECT_EQ(printable("\xe0\x80\x9b"), "\\xe0\\x80\\x9b");
    EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // a surrogate
    EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");           // cut
    EXPECT_EQ(printable("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");
}

TEST(Printable, LinesKeepTheirEnds) {
    EXPECT_EQ(printable_lines("a\r\n\033b\n\nc"), "a\n^[b\n\nc");
    EXPECT_EQ(printable_lines(""), "");
}

}  // namespace
}  // namespace flatback::tools::printable_test
