// Every case of the ledger once more, where machine, engine and trial are built with the sanitizers
// (fuzz/CMakeLists.txt).
#include <cstdio>

#include "judge/ledger/ledger.hpp"

int main() {
    int failed = 0;
    for (const flatback::machine::LedgerCase& each : flatback::machine::ledger()) {
        const auto wrong = flatback::machine::judge(each);
        if (!wrong) continue;
        ++failed;
        std::printf("%s: %s\n", each.name.c_str(), wrong->c_str());
    }
    std::printf("%zu cases, %d fail\n", flatback::machine::ledger().size(), failed);
    return failed == 0 ? 0 : 1;
}
