// How a VMX instruction is tried.
#pragma once

// As in guests/bare: flags set before, flags read after, a fault goes on at label 2.
#define FLATBACK_FRAMED(instruction)    \
    "pushl %[preset]\n\tpopfl\n"        \
    "1:\t" instruction                  \
    "\n"                                \
    "2:\tpushfl\n\tpopl %[flags]\n"     \
    "\t.pushsection .recovery, \"a\"\n" \
    "\t.long 1b, 2b\n"                  \
    "\t.popsection\n"
