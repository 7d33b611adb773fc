/* What a hypervisor in C has already: a processor with VT-x, and memory. Here they are flatback's software machine
 * (processor.cpp); on metal these are instructions and a direct map. */
#ifndef PROCESSOR_H
#define PROCESSOR_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct processor;
struct processor *processor_create(void);

uint64_t *processor_page(struct processor *it, uint64_t host_physical);
uint64_t *processor_register(struct processor *it, unsigned number);
void processor_set_cr2(struct processor *it, uint64_t value);
unsigned processor_physical_address_width(const struct processor *it);
uint64_t processor_read_capability_msr(const struct processor *it, uint32_t msr);

void processor_vmxon(struct processor *it, uint64_t region);
uint64_t processor_vmread(struct processor *it, uint32_t encoding);
void processor_vmwrite(struct processor *it, uint32_t encoding, uint64_t value);
/* These return false for VMfail. */
bool processor_vmclear(struct processor *it, uint64_t vmcs);
bool processor_vmptrld(struct processor *it, uint64_t vmcs);
bool processor_invvpid(struct processor *it, uint32_t type, uint16_t vpid, uint64_t linear_address);
bool processor_invept(struct processor *it, uint32_t type, uint64_t ept_pointer);

/* VMLAUNCH or VMRESUME. `exited`: the entry failed as an exit. `event`: the guest got the event that was injected. */
enum processor_entered { PROCESSOR_ENTERED, PROCESSOR_ENTERED_WITH_EVENT, PROCESSOR_EXITED, PROCESSOR_VMFAIL };
enum processor_entered processor_enter(struct processor *it, bool launch);

/* Runs the guest of ../minimal_host/l1.cpp. At each of its exits it calls on_exit(), which handles the exit, enters whoever
 * is next, and says what became of the instruction that exited; `not yet`: it is to be executed again. True: the guest found all as it
 * should be. */
enum processor_ended { ENDED_DONE, ENDED_WITH_EXCEPTION, ENDED_WITH_EXIT_TO_L1, ENDED_NOT_YET };
bool processor_run_guest(struct processor *it, void *host, uint64_t *(*l1_page)(void *host, uint64_t l1_physical),
                         enum processor_ended (*on_exit)(void *host));

#ifdef __cplusplus
}
#endif

#endif
