// A guest hypervisor and its two guests, once undisturbed, and then from a snapshot before each of its steps.
#include <cstdio>
#include <flatback/version.hpp>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "l1.hpp"
#include "snapshot.hpp"

using namespace snapshot;

namespace {

// A processor, a hypervisor on it, and its guest.
struct World {
    machine::Machine processor{{}};
    Host host{processor};
    L1 l1{processor, host};

    void run() {
        while (l1.step()) {
        }
    }
    [[nodiscard]] bool is_like(World& other) {
        return l1.result() == other.l1.result() && host.console() == other.host.console() &&
               processor.misuse().empty();
    }
};

bool write_file(const std::string& name, const std::vector<std::byte>& bytes) {
    std::ofstream file{name, std::ios::binary};
    file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return static_cast<bool>(file.flush());
}

std::vector<std::byte> read_file(const std::string& name) {
    std::ifstream file{name, std::ios::binary};
    const std::string text{std::istreambuf_iterator<char>{file}, {}};
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    return {bytes, bytes + text.size()};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: snapshot FILE\n");
        return 2;
    }
    const std::string name = argv[1];

    const auto undisturbed = std::make_unique<World>();
    undisturbed->l1.load();
    undisturbed->run();
    std::printf("A guest hypervisor and its guests, on flatback %s\n", FLATBACK_VERSION);
    std::printf("  %s undisturbed: result %016jx, console \"%s\"\n",
                undisturbed->l1.result() != 0 ? "ok    " : "WRONG ", std::uintmax_t{undisturbed->l1.result()},
                undisturbed->host.console().c_str());
    bool good = undisturbed->l1.result() != 0;

    const auto saved = std::make_unique<World>();
    saved->l1.load();
    unsigned count = 0, in_l2 = 0;
    std::vector<std::byte> bytes;
    do {
        if (saved->host.vcpu().in_l2()) ++in_l2;
        bytes = save(saved->processor, saved->host);
        const auto restored = std::make_unique<World>();
        if (!write_file(name, bytes) || !restore(restored->processor, restored->host, read_file(name))) {
            std::printf("  WRONG  the snapshot before step %ju is refused\n",
                        std::uintmax_t{saved->l1.steps_done()});
            return 1;
        }
        const auto step = std::uintmax_t{restored->l1.steps_done()};
        restored->run();
        if (!restored->is_like(*undisturbed)) {
            std::printf("  WRONG  from the snapshot before step %ju it goes on to another end\n", step);
            good = false;
        }
        ++count;
    } while (saved->l1.step());
    if (!saved->is_like(*undisturbed)) {
        std::printf("  WRONG  what was saved did not go on as it was\n");
        good = false;
    }
    std::printf("  %s %u snapshots, %u of them while L2 ran: each goes on to the same end\n",
                good ? "ok    " : "WRONG ", count, in_l2);

    // A file that is none.
    bool refused = true;
    for (const std::size_t size :
         {std::size_t{0}, std::size_t{7}, std::size_t{100}, bytes.size() / 2, bytes.size() - 1}) {
        World other;
        refused = refused && !restore(other.processor, other.host,
                                      {bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(size)});
    }
    std::printf("  %s one that is cut short is refused\n", refused ? "ok    " : "WRONG ");
    std::printf("  %s has the last: %zu bytes\n", name.c_str(), bytes.size());
    return good && refused ? 0 : 1;
}
