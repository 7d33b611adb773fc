#include "guests/bare/l1/result_screen.hpp"

#include <algorithm>
#include <array>
#include <cstddef>

#include "guests/bare/l1/cpu.hpp"
#include "guests/bare/l1/multiboot.hpp"
#include "guests/bare/l1/qr_code.hpp"
#include "guests/bare/l1/report.hpp"
#include "guests/bare/l1/report_listener.hpp"
#include "guests/bare/l1/self_test_line.hpp"
#include "screen/framebuffer.hpp"
#include "screen/text_screen.hpp"

namespace flatback::guests {
namespace {

using screen::Colour;
using screen::TextScreen;

constexpr std::string_view own_prefix = "bare_l1.";

struct Value {
    std::string_view name;  // a literal, or cut into `copy`
    std::uint64_t number = 0;
    char copy[48];
};

struct Results {
    screen::TextScreen screen;
    std::array<Value, 192> values;
    std::size_t count = 0;
    std::uint64_t failed = 0;
    char failures[8][100];  // the first ones again, at the end
};
constinit Results results{};

void write_line(std::string_view text, Colour colour = Colour::normal) {
    results.screen.write(text, colour);
    results.screen.write("\n");
}

void keep_value(std::string_view name, std::uint64_t number) {
    if (results.count == results.values.size()) return;
    if (name.starts_with(own_prefix)) name.remove_prefix(own_prefix.size());
    Value& value = results.values[results.count++];
    std::size_t size = 0;
    for (; size < name.size() && size < sizeof value.copy; ++size) value.copy[size] = name[size];
    value.name = {value.copy, size};
    value.number = number;
}

void keep_failure(std::string_view name) {
    constexpr std::size_t most = sizeof results.failures / sizeof results.failures[0];
    if (results.failed >= most) return;
    char(&kept)[100] = results.failures[results.failed];
    std::size_t size = 0;
    for (; size < name.size() && size + 1 < sizeof kept; ++size) kept[size] = name[size];
    kept[size] = 0;
}

// A name at the left of its column, its number at the right.
void write_cell(const Value& value, std::size_t width) {
    Line digits;
    digits << value.number;
    const std::size_t room = width - 2 - digits.text().size();
    results.screen.write(value.name.substr(0, room));
    for (std::size_t at = value.name.size() < room ? value.name.size() : room; at <= room; ++at)
        results.screen.write(" ");
    results.screen.write(digits.text(), Colour::bright);
    results.screen.write(" ");
}

constexpr std::size_t column_width = 40;

// As large as there is room for, right of the text's columns or below its lines.
void show_qr_code(std::string_view line, std::size_t text_columns, std::size_t text_rows) {
    TextScreen& shown = results.screen;
    QrCode code;
    if (!shown.has_pixels() || line.empty() || !code.make(line)) return;
    const std::size_t right_of = text_columns * TextScreen::font_width * shown.scale();
    const std::size_t below = text_rows * TextScreen::font_height * shown.scale();
    const std::size_t wide = shown.width() > right_of ? shown.width() - right_of : 0;
    const std::size_t high = shown.height() > below ? shown.height() - below : 0;
    const std::size_t beside_scale = std::min<std::size_t>(wide, shown.height()) / code.size();
    const std::size_t below_scale = std::min<std::size_t>(high, shown.width()) / code.size();
    constexpr std::size_t most_scale = 8;
    const std::size_t scale = std::min(std::max(beside_scale, below_scale), most_scale);
    if (scale == 0) return;
    const std::size_t size = scale * code.size();
    code.draw(shown, static_cast<unsigned>(shown.width() - size),
              static_cast<unsigned>(shown.height() - size), static_cast<unsigned>(scale));
}

void show_all() {
    results.screen.clear();
    Line title;
    title << "Flatback self-test: " << self_test_results.passed() << " checks passed, " << results.failed
          << " failed. Times in ticks of the TSC:";
    write_line(title.text(), results.failed == 0 ? Colour::good : Colour::bad);
    std::size_t lines = 3;
    for (std::size_t i = 0; i < results.failed && i < std::size(results.failures); ++i, ++lines)
        write_line(results.failures[i], Colour::bad);
    const std::string_view line = self_test_results.make_line();
    const std::size_t columns = results.screen.columns() / column_width;
    if (columns == 0) return;
    // No wider than the columns: right of them may be the code.
    const std::size_t line_width = columns * column_width;
    const std::size_t line_rows = line.empty() ? 0 : line.size() / line_width + 3;
    const std::size_t used = lines + line_rows;
    const std::size_t room = results.screen.rows() > used ? results.screen.rows() - used : 1;
    // Down the first column, then the next: what does not fit is on COM1 alone.
    const std::size_t rows = (results.count + columns - 1) / columns;
    const std::size_t step = std::min(rows, room);
    for (std::size_t row = 0; row < step; ++row) {
        for (std::size_t column = 0; column < columns; ++column) {
            const std::size_t index = column * step + row;
            if (index < results.count) write_cell(results.values[index], column_width);
        }
        results.screen.write("\n");
    }
    if (rows > room) write_line("There are more values than fit: COM1 has all.", Colour::bright);
    if (line.empty()) return;
    write_line("For flatback report --self-test:", Colour::bright);
    for (std::size_t at = 0; at < line.size(); at += line_width) write_line(line.substr(at, line_width));
    show_qr_code(line, line_width, step + used);
}

// An emulator's picture follows memory some sixty times a second of its own, and the machine is switched off
// behind this. On a real one it is a hundredth of a second or less.
void let_it_be_seen() {
    constexpr std::uint64_t ticks = 20'000'000;
    const std::uint64_t start = read_tsc();
    while (read_tsc() - start < ticks) asm volatile("pause");
}

void hear(RecordKind kind, std::string_view name, std::string_view text, std::uint64_t number) {
    keep_for_self_test(kind, name, text, number);
    switch (kind) {
        case RecordKind::fail:
            keep_failure(name);
            ++results.failed;
            [[fallthrough]];
        case RecordKind::error:
            results.screen.write(kind == RecordKind::fail ? "failed: " : "error: ", Colour::bad);
            results.screen.write(name, Colour::bad);
            results.screen.write(": ");
            write_line(text);
            break;
        case RecordKind::value:
            keep_value(name, number);
            break;
        case RecordKind::end:
            show_all();
            let_it_be_seen();
            break;
        case RecordKind::pass:
        case RecordKind::stage:
        case RecordKind::text:
            break;
    }
}

}  // namespace

void show_results_on_screen() {
    constexpr std::uint64_t most_address = std::uint64_t{1} << 32;  // what the first page tables map
    const auto found =
        screen::parse_framebuffer(boot_information.framebuffer(), screen::MultibootVersion::one);
    if (!found || found->address + found->size() > most_address) return;
    results.screen.start(*found, reinterpret_cast<volatile std::byte*>(found->address));
    write_line("Flatback self-test: every check, then every timing; some minutes in an emulator",
               Colour::bright);
    record_listener = hear;
}

}  // namespace flatback::guests
