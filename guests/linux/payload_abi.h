/* What the payloads and the VMM agree on, readable by the assembler and by C++.
   Registers at a payload's first instruction:
     RDI mailbox   RSI samples   R8 batches   R9 operations a batch
     R12 first root   R13 second root   R14 window   R15 touch region   R10 = 0 */
#pragma once

/* Ports: a doubleword OUT to each of them ends in the VMM process. */
#define FLATBACK_PORT_OPERATION 0x10
#define FLATBACK_PORT_READY 0x11 /* warmed up: the measured phase comes next */
#define FLATBACK_PORT_DONE 0x12  /* the measured phase is over, EAX = its number from 0 */

/* A CPUID leaf in no vendor's range; the VMM defines its four registers. */
#define FLATBACK_CPUID_LEAF 0x20000000

/* What the touching payload adds to each quadword on a page's first touch; each re-touch adds 1. */
#define FLATBACK_TOUCH_ADDEND 0x5A5A
