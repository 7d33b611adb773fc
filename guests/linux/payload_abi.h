/* What the payloads and the VMM agree on, readable by the assembler and by C++.
   Registers at a payload's first instruction:
     RDI mailbox   RSI samples   R8 batches   R9 operations a batch
     R12 first root   R13 second root   R14 window   R15 touch region   R10 = 0 */
#pragma once

/* Ports: a doubleword OUT to each of them ends in the VMM process. */
#define FLATBACK_PORT_OPERATION 0x10
#define FLATBACK_PORT_READY 0x11 /* warmed up: the measured phase comes next */
#define FLATBACK_PORT_DONE 0x12  /* the measured phase is over, EAX = its number from 0 */

/* A doubleword OUT to this one only signals an eventfd: L1's KVM handles it. */
#define FLATBACK_PORT_EVENT 0x13

/* A CPUID leaf in no vendor's range; the VMM defines its four registers. */
#define FLATBACK_CPUID_LEAF 0x20000000

/* A hypercall that KVM does not have: it answers -KVM_ENOSYS. */
#define FLATBACK_VMCALL_NUMBER 0x464C
#define FLATBACK_VMCALL_RESULT (-1000)

/* IA32_MISC_ENABLE. The VMM gives it a value of its own. */
#define FLATBACK_RDMSR_NUMBER 0x1A0

/* From R14: a page where there is no memory. A read of it ends in the VMM process. */
#define FLATBACK_DEVICE_OFFSET 0x1000

/* What the touching payload adds to each quadword on a page's first touch; each re-touch adds 1. */
#define FLATBACK_TOUCH_ADDEND 0x5A5A
