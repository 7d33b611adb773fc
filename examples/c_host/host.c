/* minimal_host in C99: the same host through flatback.h. Read ../minimal_host first: the steps are its steps. */
#include <flatback/c/flatback.h>
#include <stdio.h>
#include <stdlib.h>

#include "processor.h"

/* VMCS fields (SDM 3D appendix B), exit reasons and MSRs; a hypervisor has its own names for them. */
enum {
    HOST_ES_SELECTOR = 0x0c00, HOST_CS_SELECTOR = 0x0c02, HOST_TR_SELECTOR = 0x0c0c, HOST_PAT = 0x2c00, HOST_EFER = 0x2c02,
    INSTRUCTION_ERROR = 0x4400, EXIT_REASON = 0x4402, HOST_SYSENTER_CS = 0x4c00, HOST_CR0 = 0x6c00, HOST_CR4 = 0x6c04,
    HOST_RIP = 0x6c16, PIN_BASED_CONTROLS = 0x4000, PRIMARY_CONTROLS = 0x4002, EXIT_QUALIFICATION = 0x6400
};
enum {
    EXIT_EXTERNAL_INTERRUPT = 1, EXIT_INTERRUPT_WINDOW = 7, EXIT_IO_INSTRUCTION = 30, EXIT_EPT_VIOLATION = 48,
    IA32_VMX_BASIC = 0x480
};
enum { EXTERNAL_INTERRUPT_EXITING = 1 << 0, UNCONDITIONAL_IO_EXITING = 1 << 24 };
#define CR0_PE (UINT64_C(1) << 0)
#define CR0_NE (UINT64_C(1) << 5)
#define CR0_WP (UINT64_C(1) << 16)
#define CR0_PG (UINT64_C(1) << 31)
#define CR4_PAE (UINT64_C(1) << 5)
#define CR4_VMXE (UINT64_C(1) << 13)
#define EFER_LONG_MODE UINT64_C(0xd01) /* SCE, LME, LMA, NXE */
#define PAT UINT64_C(0x0007040600070406)

static const uint64_t page_size = 0x1000, l0_pages = 0x100000, l1_memory = 0x40000000, l1_memory_size = 16 << 20;

struct host {
    struct processor *cpu;
    uint64_t next_page, ept01, nothing, msr_bitmap;
    flatback_vcpu *vcpu;
    unsigned l1_timer; /* ticks until its interrupt; 0: not set */
    bool l1_is_interrupted;
    unsigned exits, restored;
    void *state; /* flatback_most_state_bytes() */
};
/* This host's devices. L1's timer: a write sets it to so many ticks, and then timer_vector comes. */
static const uint16_t timer_port = 0x40, console_port = 0xe9;
static const uint8_t timer_vector = 0x20;

static void op_fatal(void *it, const char *why) {
    (void)it;
    fprintf(stderr, "the host stops: %s\n", why);
    abort();
}
static void must(bool good, const char *what) {
    if (!good) op_fatal(NULL, what);
}

/* --- step 1: what the Port is in C++, a table of functions --- */

#define HOST(it) ((struct host *)(it))

static uint64_t op_vmread(void *it, uint32_t encoding) { return processor_vmread(HOST(it)->cpu, encoding); }
static void op_vmwrite(void *it, uint32_t encoding, uint64_t value) {
    processor_vmwrite(HOST(it)->cpu, encoding, value);
}
static void op_load_vmcs(void *it, uint64_t vmcs) { must(processor_vmptrld(HOST(it)->cpu, vmcs), "VMPTRLD failed"); }
static void op_clear_vmcs(void *it, uint64_t vmcs) { must(processor_vmclear(HOST(it)->cpu, vmcs), "VMCLEAR failed"); }
static uint64_t op_read_capability_msr(void *it, uint32_t msr) {
    return processor_read_capability_msr(HOST(it)->cpu, msr);
}
static uint32_t op_revision(void *it) { return (uint32_t)op_read_capability_msr(it, IA32_VMX_BASIC) & 0x7fffffff; }
static void op_write_host_state(void *it) {
    uint32_t field;
    for (field = HOST_ES_SELECTOR; field <= HOST_TR_SELECTOR; field += 2) op_vmwrite(it, field, 0);
    for (field = HOST_CR0; field <= HOST_RIP; field += 2) op_vmwrite(it, field, 0);
    op_vmwrite(it, HOST_SYSENTER_CS, 0);
    op_vmwrite(it, HOST_CR0, CR0_PE | CR0_NE | CR0_WP | CR0_PG);
    op_vmwrite(it, HOST_CR4, CR4_PAE | CR4_VMXE);
    op_vmwrite(it, HOST_EFER, EFER_LONG_MODE);
    op_vmwrite(it, HOST_PAT, PAT);
    op_vmwrite(it, HOST_CS_SELECTOR, 0x08);
    op_vmwrite(it, HOST_TR_SELECTOR, 0x18);
    op_vmwrite(it, HOST_RIP, 0x100000);
}
static void op_invvpid(void *it, uint32_t type, uint16_t tag, uint64_t linear_address) {
    must(processor_invvpid(HOST(it)->cpu, type, tag, linear_address), "INVVPID failed");
}
static void op_invept(void *it, uint32_t type, uint64_t ept_pointer) {
    must(processor_invept(HOST(it)->cpu, type, ept_pointer), "INVEPT failed");
}
static uint64_t *op_page(void *it, uint64_t page) { return processor_page(HOST(it)->cpu, page); }
static void *op_l1_page(void *it, uint64_t l1_physical) {
    const uint64_t page = l1_physical & ~(page_size - 1);
    return page < l1_memory_size ? op_page(it, l1_memory + page) : NULL;
}
static struct flatback_mapping op_host_mapping(void *it, uint64_t l1_physical) {
    struct flatback_mapping mapping = {0, 12, 6, true};
    if (l1_physical < l1_memory_size) {
        mapping.address = l1_memory + l1_physical;
        mapping.page_shift = 21;
    } else {
        mapping.address = HOST(it)->nothing + (l1_physical & (page_size - 1));
    }
    return mapping;
}
static bool op_allocate_page(void *it, uint64_t *page) {
    if (HOST(it)->next_page == l1_memory) return false;
    *page = HOST(it)->next_page;
    HOST(it)->next_page += page_size;
    return true;
}
static uint64_t *op_general_register(void *it, unsigned number) { return processor_register(HOST(it)->cpu, number); }
/* L1's MSRs that this host gives it beside those that are answered without asking: none. */
static bool op_read_l1_msr(void *it, uint32_t msr, uint64_t *value) {
    (void)it, (void)msr, (void)value;
    return false;
}
static bool op_write_l1_msr(void *it, uint32_t msr, uint64_t value) {
    (void)it, (void)msr, (void)value;
    return false;
}
static uint64_t op_l0_msr_bitmap(void *it) { return HOST(it)->msr_bitmap; }
static uint64_t op_ept01_pointer(void *it) { return HOST(it)->ept01 | 0x1e; }
static void op_set_cr2(void *it, uint64_t value) { processor_set_cr2(HOST(it)->cpu, value); }
static bool op_ept01_violation(void *it, uint64_t l1_physical) {
    (void)it, (void)l1_physical;
    return false;
}
static void op_return_nmi(void *it) { (void)it; }
static void op_return_interrupt(void *it, uint8_t vector) {
    (void)vector; /* there is one */
    HOST(it)->l1_is_interrupted = true;
}
static unsigned op_cpu(void *it) {
    (void)it;
    return 0;
}

static const struct flatback_operations operations = {
    .size = sizeof operations, .vmread = op_vmread, .vmwrite = op_vmwrite, .load_vmcs = op_load_vmcs,
    .clear_vmcs = op_clear_vmcs, .hardware_vmcs_revision = op_revision, .write_host_state = op_write_host_state,
    .invvpid = op_invvpid, .invept = op_invept, .l1_page = op_l1_page, .host_mapping = op_host_mapping,
    .allocate_page = op_allocate_page, .page = op_page, .general_register = op_general_register,
    .read_l1_msr = op_read_l1_msr, .write_l1_msr = op_write_l1_msr, .l0_msr_bitmap = op_l0_msr_bitmap,
    .ept01_pointer = op_ept01_pointer, .set_cr2 = op_set_cr2, .handle_ept01_violation = op_ept01_violation,
    .return_nmi = op_return_nmi, .l1_shutdown = op_fatal, .fatal = op_fatal, .cpu = op_cpu,
    .read_capability_msr = op_read_capability_msr, .return_interrupt = op_return_interrupt,
};

static uint64_t new_page(struct host *host) {
    uint64_t page = 0;
    must(op_allocate_page(host, &page), "no page is left");
    return page;
}

static void make_ept01(struct host *host) {
    const uint64_t second = new_page(host), third = new_page(host);
    uint64_t at;
    host->ept01 = new_page(host);
    op_page(host, host->ept01)[0] = second | 7;
    op_page(host, second)[0] = third | 7;
    for (at = 0; at < l1_memory_size; at += 2 << 20) op_page(host, third)[at >> 21] = (l1_memory + at) | 0xb7;
}

/* --- step 3: the start --- */

static void set_up_vmcs01(struct host *host) {
    struct flatback_l1_state start = flatback_state_in_long_mode(0x08, 0x10, 0x100000, 0x1000);
    start.cr0 |= CR0_NE | CR0_WP;
    start.efer = EFER_LONG_MODE;
    must(flatback_set_up_vmcs01(host->vcpu, &start) == FLATBACK_OK, "the processor lacks what L1 needs");
    op_vmwrite(host, PIN_BASED_CONTROLS, op_vmread(host, PIN_BASED_CONTROLS) | EXTERNAL_INTERRUPT_EXITING);
    op_vmwrite(host, PRIMARY_CONTROLS, op_vmread(host, PRIMARY_CONTROLS) | UNCONDITIONAL_IO_EXITING);
}

/* --- this host's devices: a timer, from which it makes L1's, and a console --- */

static void tick(struct host *host) {
    if (host->l1_timer != 0 && --host->l1_timer == 0) host->l1_is_interrupted = true;
}

/* OUT of AL, by the guest that is current. */
static void write_port(struct host *host) {
    const uint16_t port = (uint16_t)(op_vmread(host, EXIT_QUALIFICATION) >> 16);
    const uint8_t value = (uint8_t)*op_general_register(host, 0);
    if (port == timer_port) host->l1_timer = value;
    if (port == console_port) putchar(value);
}

/* --- step 4: which exit is whose --- */

/* L2's, by demand. L1 may have asked for the I/O instruction too: then it is L1's to do. */
static enum flatback_entry handle_demanded_exit(struct host *host, uint32_t reason) {
    if (reason == EXIT_EXTERNAL_INTERRUPT) {
        tick(host);
        return flatback_resume(host->vcpu);
    }
    if (!flatback_l1_wants_hosts_exit(host->vcpu)) write_port(host);
    return flatback_resume_behind_instruction(host->vcpu);
}

static enum flatback_entry handle_exit(struct host *host, uint32_t reason) {
    if (flatback_in_l2(host->vcpu)) {
        const enum flatback_entry entry = flatback_handle_l2_exit(host->vcpu, reason);
        return entry == FLATBACK_THE_HOSTS ? handle_demanded_exit(host, reason) : entry;
    }
    must(reason >> 31 == 0, "vmcs01 is refused: a bug of this host");
    if (reason == EXIT_EXTERNAL_INTERRUPT) {
        tick(host);
        return FLATBACK_VMRESUME;
    }
    if (reason == EXIT_IO_INSTRUCTION) {
        write_port(host);
        flatback_complete_instruction(host->vcpu);
        return FLATBACK_VMRESUME;
    }
    if (flatback_is_vmx_instruction(reason)) return flatback_handle_vmx_instruction(host->vcpu, reason);
    /* what L1 does beside VMX: step 6 */
    must(flatback_handle_l1_exit(host->vcpu, reason), "an exit of L1's that this host does not know");
    return FLATBACK_VMRESUME;
}

/* --- step 5: entries, until one comes to stand. True: the guest got an event --- */

static bool enter(struct host *host, enum flatback_entry how) {
    const struct flatback_event interrupt = {FLATBACK_INTERRUPT, timer_vector, false};
    for (;;) {
        /* What waits goes in if the guest can take it now. An L2 may exit to L1 in its place. */
        if (host->l1_is_interrupted && flatback_deliver(host->vcpu, &interrupt, &how) == FLATBACK_GIVEN)
            host->l1_is_interrupted = false;
        switch (processor_enter(host->cpu, how == FLATBACK_VMLAUNCH)) {
            case PROCESSOR_ENTERED:
                return false;
            case PROCESSOR_ENTERED_WITH_EVENT:
                return true;
            case PROCESSOR_EXITED:
                how = handle_exit(host, (uint32_t)op_vmread(host, EXIT_REASON));
                break;
            case PROCESSOR_VMFAIL:
                must(flatback_handle_failed_entry(host->vcpu, (uint32_t)op_vmread(host, INSTRUCTION_ERROR), &how) == FLATBACK_OK,
                     "the entry into L1 fails: a bug of this host");
                break;
        }
    }
}

/* The nested state as bytes, between an exit and the entry that follows it, and back into the virtual CPU: what goes to another host, or into a
 * file, with L1's memory, vmcs01 and the registers (docs/state.md). Here these have not changed. */
static enum flatback_entry save_and_restore(struct host *host) {
    enum flatback_entry entry = FLATBACK_VMLAUNCH;
    size_t size = 0;
    must(flatback_save(host->vcpu, host->state, flatback_most_state_bytes(), &size) == FLATBACK_OK, "no state to be saved");
    must(flatback_restore(host->vcpu, host->state, size, &entry) == FLATBACK_OK, "a state of its own is refused");
    flatback_prepare_reentry(host->vcpu);
    ++host->restored;
    return entry;
}

static enum processor_ended on_exit_of_guest(void *it) {
    struct host *host = it;
    const bool from_l2 = flatback_in_l2(host->vcpu);
    const uint32_t reason = (uint32_t)op_vmread(host, EXIT_REASON);
    enum flatback_entry how = handle_exit(host, reason);
    bool event;
    if (++host->exits % 5 == 0) how = save_and_restore(host);
    event = enter(host, how);
    if (from_l2 && !flatback_in_l2(host->vcpu)) return ENDED_WITH_EXIT_TO_L1;
    if (event) return ENDED_WITH_EXCEPTION;
    if ((reason & 0xffff) == EXIT_INTERRUPT_WINDOW) return ENDED_NOT_YET;
    return from_l2 && (reason & 0xffff) == EXIT_EPT_VIOLATION ? ENDED_NOT_YET : ENDED_DONE;
}

/* The engine's storage is the caller's. A real host has it per CPU. */
static uint8_t vcpu_storage[FLATBACK_VCPU_SIZE + FLATBACK_ALIGNMENT], pool_storage[FLATBACK_POOL_SIZE + FLATBACK_ALIGNMENT];

static void *aligned(void *storage) {
    return (void *)(((uintptr_t)storage + FLATBACK_ALIGNMENT - 1) & ~(uintptr_t)(FLATBACK_ALIGNMENT - 1));
}

static uint64_t *l1_page(void *it, uint64_t l1_physical) { return op_l1_page(it, l1_physical); }

int main(void) {
    struct host host = {0};
    struct flatback_demands demands = {0};
    struct flatback_configuration configuration = {sizeof configuration, 0, FLATBACK_TAGS_MAPPED, true, false};
    struct flatback_counters counted;
    flatback_pool *pool = NULL;
    uint64_t vmxon_region, vmcs01;
    bool good;

    host.cpu = processor_create();
    host.next_page = l0_pages;
    host.nothing = new_page(&host);
    host.msr_bitmap = new_page(&host);
    flatback_fill_msr_bitmap(op_page(&host, host.msr_bitmap));
    make_ept01(&host);
    vmxon_region = new_page(&host);
    vmcs01 = new_page(&host);
    op_page(&host, vmxon_region)[0] = op_page(&host, vmcs01)[0] = op_revision(&host);
    processor_vmxon(host.cpu, vmxon_region);
    op_clear_vmcs(&host, vmcs01);
    op_load_vmcs(&host, vmcs01);

    configuration.physical_address_width = processor_physical_address_width(host.cpu);
    must(flatback_pool_create(aligned(pool_storage), FLATBACK_POOL_SIZE, 65535, &pool) == FLATBACK_OK, "no pool");
    must(flatback_vcpu_create(aligned(vcpu_storage), FLATBACK_VCPU_SIZE, &operations, &host, &configuration, pool, vmcs01,
                              &host.vcpu) == FLATBACK_OK,
         "no virtual CPU");
    host.state = malloc(flatback_most_state_bytes());
    must(host.state != NULL, "no memory");
    set_up_vmcs01(&host);
    flatback_prepare_first_entry(host.vcpu);
    demands.size = sizeof demands;
    demands.external_interrupts = demands.all_ports = true;
    must(flatback_set_demands(host.vcpu, &demands) == FLATBACK_OK, "this processor cannot do what the host demands");
    enter(&host, FLATBACK_VMLAUNCH);

    printf("L1 and its guests, on a host in C\n");
    good = processor_run_guest(host.cpu, &host, l1_page, on_exit_of_guest);
    flatback_get_counters(host.vcpu, &counted);
    printf("  %lu entries of L2, %lu exits shown to L1, %lu INVVPIDs of the hardware's for L2s\n",
           (unsigned long)counted.l2_entries, (unsigned long)counted.exits_reflected,
           (unsigned long)counted.l2_tag_flushes);
    printf("  its nested state was saved and restored %u times\n", host.restored);
    free(host.state);
    flatback_leave_processor(host.vcpu);
    flatback_vcpu_destroy(host.vcpu);
    flatback_pool_destroy(pool);
    return good ? 0 : 1;
}
