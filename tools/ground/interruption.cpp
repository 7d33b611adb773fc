#include "tools/ground/interruption.hpp"

#include <signal.h>

#include <initializer_list>

namespace flatback::tools {
namespace {

volatile sig_atomic_t interruption_seen = 0;

void note_interruption(int /*signal*/) {
    interruption_seen = 1;
}

}  // namespace

void catch_interruptions() {
    struct sigaction action = {};
    action.sa_handler = note_interruption;
    sigemptyset(&action.sa_mask);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaction(signal, &action, nullptr);
    // A closed pipe behind standard output is an ordinary write error.
    ::signal(SIGPIPE, SIG_IGN);
}

bool interrupted() {
    return interruption_seen != 0;
}

}  // namespace flatback::tools
