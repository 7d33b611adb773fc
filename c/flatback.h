/* The engine for hosts in C, Rust or any language that calls C: nested VT-x of one virtual CPU. C99.
 *
 * The contract is that of the C++ Port, function by function: docs/porting.md. All functions of one virtual CPU are called by its
 * own physical CPU with interrupts disabled, and so are the host's operations, from inside them; an operation calls none of these
 * functions. Addresses are host-physical where they are called page or vmcs, and L1-physical where they are called l1_physical.
 * Functions return an error, or nothing where there can be none; what is impossible is the host's `fatal`.
 *
 * Part of the target flatback::c, which is one C++ source: the host compiles it with its own flags, freestanding or not. */
#ifndef FLATBACK_C_FLATBACK_H
#define FLATBACK_C_FLATBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NOLINTBEGIN(modernize-use-using): this is C. */

#ifdef __cplusplus
extern "C" {
#endif

enum flatback_error {
    FLATBACK_OK = 0,
    FLATBACK_STORAGE_TOO_SMALL = 1,    /* or not aligned to FLATBACK_ALIGNMENT */
    FLATBACK_OPERATION_MISSING = 2,    /* a pointer of the table that must not be null is null */
    FLATBACK_OF_ANOTHER_VERSION = 3,   /* the size of a structure is not one that this version knows */
    FLATBACK_GENERAL_PROTECTION = 4,   /* the guest's instruction is #GP(0) */
    FLATBACK_HOST_STATE_REFUSED = 5,   /* the entry that failed was one into L1: a bug of the host */
    FLATBACK_NOTHING = 6,              /* there is no such thing now */
    /* Of flatback_save() and flatback_restore(): docs/state.md has them one by one. */
    FLATBACK_NO_ROOM = 7,              /* save: the buffer is too small */
    FLATBACK_EXIT_IS_THE_HOSTS = 8,    /* save: an exit of L2's is the host's, and has not gone on */
    FLATBACK_NOT_A_STATE = 9,          /* other bytes, cut short, too long, or with what the layout lacks */
    FLATBACK_OTHER_STATE_VERSION = 10, /* of another layout */
    FLATBACK_PROMISE_NOT_KEPT = 11,    /* its L1 was promised what this one is not */
    FLATBACK_UNKNOWN_FIELD = 12,       /* one that this L1 does not have, or that has no place there */
    FLATBACK_FIELDS_NOT_SORTED = 13,
    FLATBACK_VALUE_TOO_WIDE = 14,      /* more bits than the field has */
    FLATBACK_BAD_POINTER = 15,         /* of a region that L1 could not have loaded, or two of one */
    FLATBACK_IMPOSSIBLE_STATE = 16,    /* no VM entry of L1's could have made this L2 */
    FLATBACK_NO_MEMORY = 17            /* allocate_page() gives none for a VMCS */
};

/* How the guest that is current after a call is to be entered. */
enum flatback_entry {
    FLATBACK_VMRESUME = 0,
    FLATBACK_VMLAUNCH = 1,
    /* Not yet: an exit of L2's that the host demanded, and that goes on by one of the functions flatback_resume... A host without
     * demands does not meet it. */
    FLATBACK_THE_HOSTS = 2
};

/* How L1's VPIDs become tags (docs/tags.md): each its own; all of L1's guests one; none. */
enum flatback_tags { FLATBACK_TAGS_MAPPED = 0, FLATBACK_TAGS_SINGLE = 1, FLATBACK_TAGS_OFF = 2 };

/* Where a page of L1's lies: the largest aligned block around it that EPT01 maps in one piece. */
struct flatback_mapping {
    uint64_t address;     /* host-physical, of the very byte that was asked for */
    uint8_t page_shift;   /* 12, 21 or 30 */
    uint8_t memory_type;  /* of EPT01: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB */
    bool writable;
};

struct flatback_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

/* What the host gives. `host` is the pointer that flatback_vcpu_create() was given. The table is copied. */
struct flatback_operations {
    size_t size; /* sizeof(struct flatback_operations) */

    /* The current hardware VMCS. VMfail is the host's to stop at. These two are most of what the table costs: where
     * FLATBACK_C_VMCS_ACCESS is defined for the engine's source, they are the host's inline functions (flatback.cpp), and the
     * table's are not called. */
    uint64_t (*vmread)(void *host, uint32_t encoding);
    void (*vmwrite)(void *host, uint32_t encoding, uint64_t value);
    void (*load_vmcs)(void *host, uint64_t vmcs);  /* VMPTRLD */
    void (*clear_vmcs)(void *host, uint64_t vmcs); /* VMCLEAR */
    uint32_t (*hardware_vmcs_revision)(void *host);
    void (*write_host_state)(void *host);

    /* type: 0 address, 1 single context, 2 all contexts, 3 single context retaining globals; of INVEPT 1 and 2. */
    void (*invvpid)(void *host, uint32_t type, uint16_t tag, uint64_t linear_address);
    void (*invept)(void *host, uint32_t type, uint64_t ept_pointer);

    /* The 4 KB around an address, or null where L1 has no memory. */
    void *(*l1_page)(void *host, uint64_t l1_physical);
    /* Total: where L1 has nothing, a page of nothing. */
    struct flatback_mapping (*host_mapping)(void *host, uint64_t l1_physical);

    /* 4 KB of the host's own, zeroed. False: there is none. */
    bool (*allocate_page)(void *host, uint64_t *page);
    uint64_t *(*page)(void *host, uint64_t page);

    /* 0 RAX, 1 RCX, ... 15 R15, but for 4, RSP. The pointer holds until the next entry. */
    uint64_t *(*general_register)(void *host, unsigned number);
    /* False: #GP(0). What is answered without asking: the VMX capability MSRs; and of what the MSR bitmap has exit
     * IA32_FEATURE_CONTROL, IA32_SMM_MONITOR_CTL, IA32_BIOS_UPDT_TRIG, and the MSRs of features that L1 does not have. The x2APIC
     * registers are not there. IA32_DEBUGCTL is written as a question: whether the processor would take the value. */
    bool (*read_l1_msr)(void *host, uint32_t msr, uint64_t *value);
    bool (*write_l1_msr)(void *host, uint32_t msr, uint64_t value);
    /* A page that flatback_fill_msr_bitmap() has filled; never changes. */
    uint64_t (*l0_msr_bitmap)(void *host);
    uint64_t (*ept01_pointer)(void *host);
    void (*set_cr2)(void *host, uint64_t value);
    bool (*handle_ept01_violation)(void *host, uint64_t l1_physical);
    void (*return_nmi)(void *host);
    /* These two do not return. */
    void (*l1_shutdown)(void *host, const char *why);
    void (*fatal)(void *host, const char *why);
    unsigned (*cpu)(void *host);

    /* A VMX capability MSR (480H to 491H) of the processor itself; called by flatback_vcpu_create() and
     * flatback_set_up_vmcs01() only. */
    uint64_t (*read_capability_msr)(void *host, uint32_t msr);

    /* The following may be null. */
    bool (*has_vmcs_field)(void *host, uint32_t encoding); /* null: the processor has all */
    bool (*unwritten_since_last_asked)(void *host, uint64_t l1_physical);
    bool (*take_ept01_change)(void *host);
    uint64_t (*debug_address)(void *host, unsigned number);
    uint32_t (*protection_key_rights)(void *host);
    /* L2 is about to write where host_mapping() says "not writable", and EPT02 now lets it. True: the host enters L2 for this
     * instruction alone, makes the page what it was, and calls flatback_write_vanished(). Null or false: #GP(0). */
    bool (*let_write_vanish)(void *host);
    /* What L1 did that is worth a line of a log: 0 a check of its VM entry failed (detail: the number of the check), 1 the
     * processor refused vmcs02 (the VM-instruction error), 2 the processor refused guest state (the exit reason), 3 and 4 an
     * entry of an MSR list for VM entry and exit was refused (its number, from 1). */
    void (*notice)(void *host, uint32_t what, uint64_t detail);

    /* What flatback_handle_l1_exit() asks of the processor; the following may be null too. */
    struct flatback_cpuid (*cpuid)(void *host, uint32_t leaf, uint32_t subleaf); /* the instruction; null: all zero */
    struct flatback_cpuid (*hypervisor_leaf)(void *host, uint32_t leaf, uint32_t subleaf); /* 4000_0000H to 4000_00FFH */
    bool (*apic_enabled)(void *host);                    /* IA32_APIC_BASE.EN of L1's; null: it is */
    void (*set_cache_control)(void *host, uint64_t cr0); /* CR0.CD and CR0.NW of the processor; null: L1's mean nothing */
    bool (*write_xcr0)(void *host, uint64_t value);      /* false: the processor does not take it; null: XSETBV is #GP(0) */
    void (*write_back_caches)(void *host);               /* WBINVD, for L1's INVD; null: no device reads past the caches */

    /* For events and demands; these may be null too. */
    void (*return_interrupt)(void *host, uint8_t vector); /* null: the host gives no interrupts */
    void (*return_machine_check)(void *host);             /* null: one that no guest has taken is lost */
    uint8_t (*acknowledge_interrupt)(void *host);         /* null: the host gives none to acknowledge */
    uint64_t (*time_stamp_counter)(void *host);           /* RDTSC of the host's own; null: `turn_ends` is refused */
};

struct flatback_configuration {
    size_t size;                     /* sizeof(struct flatback_configuration) */
    unsigned physical_address_width; /* of the processor: CPUID.80000008H:EAX[7:0] */
    enum flatback_tags tags;
    bool shadow_vmcs; /* used only where the processor has it */
    bool kvm_revision; /* L1 is told KVM's VMCS revision identifier: a guest that came from KVM, or is to go there */
};

/* The registers with which L1 starts, of those that vmcs01 holds; CR0 and CR4 as L1 is to read them. */
struct flatback_segment {
    uint16_t selector;
    uint64_t base;
    uint32_t limit;
    uint32_t access_rights; /* as in the VMCS */
};
struct flatback_descriptor_table {
    uint64_t base;
    uint32_t limit;
};
struct flatback_l1_state {
    uint64_t cr0, cr3, cr4, efer, pat, dr7, rip, rsp, rflags;
    struct flatback_segment segments[8]; /* ES, CS, SS, DS, FS, GS, LDTR, TR */
    struct flatback_descriptor_table gdtr, idtr;
};

/* What L1 is promised, of CR0 and CR4: bits that must be 1 in VMX operation, bits that may be 1 at all. */
struct flatback_promise {
    uint64_t cr0_fixed0, cr0_fixed1;
    uint64_t cr4_fixed0, cr4_fixed1;
    uint64_t unpromised_cr4; /* bits of CR4 that the processor has and L1 has not: to be in the CR4 guest/host mask */
};

struct flatback_fault {
    uint8_t vector;
    bool has_error_code;
    uint32_t error_code;
    uint64_t page_fault_address; /* CR2, for #PF */
};

struct flatback_counters {
    uint64_t l2_entries;      /* asked for by L1 */
    uint64_t l2_reentries;    /* by the engine itself, after an exit that L1 does not see */
    uint64_t exits_from_l2;
    uint64_t exits_reflected; /* of these, to L1 */
    uint64_t l2_tag_flushes;  /* hardware INVVPIDs of a tag of L2's */
    uint64_t l1_tag_flushes;  /* of L1's */
    uint64_t hardware_invepts;
    uint64_t vmreads, vmwrites, vmptrlds; /* by the engine */
};

/* --- storage: the caller's, aligned to FLATBACK_ALIGNMENT, until destroyed. Not on a stack. --- */

#define FLATBACK_ALIGNMENT 128
#define FLATBACK_POOL_SIZE 262400
#define FLATBACK_VCPU_SIZE 131072

/* What this version needs of them: no more than the constants say. */
size_t flatback_pool_size(void);
size_t flatback_vcpu_size(void);

/* All tags of the machine: one pool for all virtual CPUs, whatever their CPU. */
typedef struct flatback_pool flatback_pool;
/* tags: 65535; fewer leaves the upper ones to the host; 0 where the processor has no VPID. */
enum flatback_error flatback_pool_create(void *storage, size_t size, uint16_t tags, flatback_pool **pool);
void flatback_pool_destroy(flatback_pool *pool);

typedef struct flatback_vcpu flatback_vcpu;
/* In VMX operation, with vmcs01 current, before it is filled. The pool and `host` must outlive the virtual CPU. */
enum flatback_error flatback_vcpu_create(void *storage, size_t size, const struct flatback_operations *operations, void *host,
                                         const struct flatback_configuration *configuration, flatback_pool *pool,
                                         uint64_t vmcs01, flatback_vcpu **vcpu);
/* Gives its tags back, at any point, after flatback_leave_processor(). Its pages stay the host's. */
void flatback_vcpu_destroy(flatback_vcpu *vcpu);

/* --- how L1 starts --- */

/* page: 4 KB of zeros, for the MSR bitmap; what more the host keeps it adds. Before flatback_vcpu_create(). */
void flatback_fill_msr_bitmap(uint64_t *page);
/* After reset: real mode at FFFF_FFF0H. CR0.CD and NW are the host's to set in the processor. */
struct flatback_l1_state flatback_state_at_reset(void);
/* Multiboot 1: 32-bit flat segments, CR0.PE. */
struct flatback_l1_state flatback_state_in_protected_mode(uint16_t code, uint16_t data, uint64_t rip);
/* Linux's 64-bit protocol: paging by the tables at cr3. */
struct flatback_l1_state flatback_state_in_long_mode(uint16_t code, uint16_t data, uint64_t rip, uint64_t cr3);
/* Fills vmcs01, which is current, and its host state (write_host_state). FLATBACK_NOTHING: the processor lacks a control
 * without which L1 cannot run; vmcs01 is unchanged but for its host state. */
enum flatback_error flatback_set_up_vmcs01(flatback_vcpu *vcpu, const struct flatback_l1_state *start);

/* --- questions --- */

bool flatback_in_vmx_operation(const flatback_vcpu *vcpu);
bool flatback_in_l2(const flatback_vcpu *vcpu);
/* The tag for vmcs01; 0: "enable VPID" is to be 0. */
uint16_t flatback_vpid01(const flatback_vcpu *vcpu);
bool flatback_is_vmx_instruction(uint32_t exit_reason);
void flatback_get_promise(const flatback_vcpu *vcpu, struct flatback_promise *promise);
/* FLATBACK_NOTHING: no L2 is current, or L1 uses no EPT for it. */
enum flatback_error flatback_l1_ept_pointer(const flatback_vcpu *vcpu, uint64_t *ept_pointer);
void flatback_get_counters(flatback_vcpu *vcpu, struct flatback_counters *counters);

/* --- exits and entries --- */

/* Any exit of L2's. exit_reason: the field, all 32 bits. */
enum flatback_entry flatback_handle_l2_exit(flatback_vcpu *vcpu, uint32_t exit_reason);
/* An exit of L1's for which flatback_is_vmx_instruction() is true. */
enum flatback_entry flatback_handle_vmx_instruction(flatback_vcpu *vcpu, uint32_t exit_reason);
/* VMLAUNCH or VMRESUME ended with VMfail; OK: enter again, as `entry` says then. */
enum flatback_error flatback_handle_failed_entry(flatback_vcpu *vcpu, uint32_t vm_instruction_error,
                                                 enum flatback_entry *entry);
/* With vmcs01 filled and current, before the very first entry. */
void flatback_prepare_first_entry(flatback_vcpu *vcpu);
/* Before an entry, when the host had taken the processor away for another guest. */
void flatback_prepare_reentry(flatback_vcpu *vcpu);
/* The virtual CPU leaves its processor, at any point between an exit and an entry: every VMCS of its that is active there is
 * cleared, and none is current. Then it may enter any processor, or be destroyed. Meanwhile flatback_set_demands() and
 * flatback_ept01_changed() alone are allowed. */
void flatback_leave_processor(flatback_vcpu *vcpu);
/* ... and enters the one that `cpu` says: right before the entry, instead of flatback_prepare_reentry(), or before the host goes
 * on with an exit of its own. The right VMCS is current, and what its tag owes here is paid. Always VMLAUNCH. */
enum flatback_entry flatback_enter_processor(flatback_vcpu *vcpu);
/* The virtual CPU begins anew, outside of VMX operation: vmcs01 is current, for flatback_set_up_vmcs01(), then VMLAUNCH. Demands
 * stay. FLATBACK_NOTHING: by_init, and L1 is in VMX operation, which blocks INIT. */
enum flatback_error flatback_reset(flatback_vcpu *vcpu, bool by_init);

/* --- the nested state as bytes: docs/state.md --- */

/* No state of this version is longer: for a buffer of its own. */
size_t flatback_most_state_bytes(void);
/* Between an exit and the entry that follows it, with the VMCS of the guest that is current. Nothing changes. OK: `used` bytes are
 * the state: VMX operation, every active VMCS of L1's, the L2 that runs with what is to be delivered to it. It has neither what the host
 * has (L1's memory, vmcs01, the registers that no VMCS holds, demands, events that wait) nor anything that is cached.
 * FLATBACK_NO_ROOM, FLATBACK_EXIT_IS_THE_HOSTS. */
enum flatback_error flatback_save(flatback_vcpu *vcpu, void *into, size_t size, size_t *used);
/* In place of all that the virtual CPU had: what flatback_save() wrote, of this or another virtual CPU, processor, pool or version. With
 * vmcs01 current and L1's state in it, L1's memory in place, its promise at least what it was there. The bytes may be anything, but no guest
 * writes to them meanwhile. OK: enter the guest that is current as `entry` says, after flatback_prepare_reentry(). An error: nothing
 * has happened. */
enum flatback_error flatback_restore(flatback_vcpu *vcpu, const void *from, size_t size, enum flatback_entry *entry);

/* --- to and from KVM's nested state: docs/state.md, "To and from KVM" --- */

/* A struct kvm_nested_state with one VMCS. */
#define FLATBACK_KVM_STATE_SIZE 4224

/* What of the virtual CPU KVM tells by other calls than KVM_GET_NESTED_STATE, and takes by others than KVM_SET_NESTED_STATE. */
struct flatback_beside_kvm {
    size_t size;                  /* sizeof(struct flatback_beside_kvm) */
    uint64_t capability_msrs[18]; /* KVM_GET_MSRS of 480H to 491H; 0 where RDMSR is #GP */
    uint64_t time_stamp_counter;  /* L1's, when the state was saved, or is to be restored */
    /* Of the L2 that runs: KVM_GET_DEBUGREGS, KVM_GET_MSRS, KVM_GET_SREGS. */
    uint64_t dr7, debugctl, pat, efer;
    /* What is injected into it next that L1 did not ask for (KVM_GET_VCPU_EVENTS), as at VM entry. */
    uint32_t event, event_error_code, event_instruction_length;
};
/* What KVM_GET_NESTED_STATE gave, in a buffer that may be longer, as a state for flatback_restore(), which judges it. */
enum flatback_error flatback_state_from_kvm(const void *kvm, size_t size, const struct flatback_beside_kvm *beside, void *into,
                                            size_t room, size_t *used);
/* What flatback_save() wrote, for KVM_SET_NESTED_STATE. `beside` has the time-stamp counter, and gets the rest. For each active VMCS that
 * is not current, `region` says where these 4 KB of L1's are, which are written in KVM's format, or null. An error: nothing
 * was written. */
enum flatback_error flatback_state_to_kvm(const void *state, size_t size, struct flatback_beside_kvm *beside, void *kvm, size_t room,
                                          size_t *used, void *(*region)(void *host, uint64_t l1_physical), void *host);
/* 4 KB of L1's where it has a VMCS that is not active, in place, from KVM's format to the engine's or back. An error: unchanged. */
enum flatback_error flatback_region_from_kvm(void *page);
enum flatback_error flatback_region_to_kvm(void *page);

/* --- for the host's own exits of L1's --- */

/* An exit of L1's that is no VMX instruction's and no failed entry: CPUID, RDMSR, WRMSR, control registers, XSETBV, INVD, GETSEC, EPT
 * violations, the windows of flatback_deliver(). Then VMRESUME. False: nothing was done, the exit is the host's (triple fault, INIT, task switch, what
 * it has exit for itself). A host that calls this needs few of the following. */
bool flatback_handle_l1_exit(flatback_vcpu *vcpu, uint32_t exit_reason);

enum flatback_error flatback_read_guest_msr(flatback_vcpu *vcpu, uint32_t msr, uint64_t *value);
enum flatback_error flatback_write_guest_msr(flatback_vcpu *vcpu, uint32_t msr, uint64_t value);
void flatback_l1_msr_changed(flatback_vcpu *vcpu);
void flatback_l1_translations_changed(flatback_vcpu *vcpu);
void flatback_ept01_changed(flatback_vcpu *vcpu);
/* RIP moves on, and what goes with it. */
void flatback_complete_instruction(flatback_vcpu *vcpu);
void flatback_inject(flatback_vcpu *vcpu, const struct flatback_fault *fault);
void flatback_retry_l1(flatback_vcpu *vcpu);
/* An exception that only the host had asked for: the guest that met it gets it as if it had not exited. */
enum flatback_entry flatback_pass_exception_on(flatback_vcpu *vcpu);
/* The write that let_write_vanish() let through is over. */
void flatback_write_vanished(flatback_vcpu *vcpu);

/* --- events: what comes for a virtual CPU from outside --- */

/* In the order in which a processor takes them (SDM 3A table 6-2). */
enum flatback_event_kind {
    FLATBACK_MACHINE_CHECK = 0, /* behind which the processor can go on */
    FLATBACK_INIT = 1,
    FLATBACK_START_UP = 2, /* vector: the page at which the processor is to begin */
    FLATBACK_NMI = 3,
    FLATBACK_INTERRUPT = 4 /* vector: 0 to 255 */
};
struct flatback_event {
    enum flatback_event_kind kind;
    uint8_t vector;
    bool unacknowledged; /* of an interrupt: acknowledge_interrupt() tells the vector when a guest takes it */
};
enum flatback_delivery {
    FLATBACK_GIVEN = 0,     /* it is the guest's: through its IDT, or as L1's exit out of L2 */
    FLATBACK_SHOWN = 1,     /* L1 has its exit, and the interrupt, which that did not acknowledge, is still the host's */
    FLATBACK_WAITS = 2,     /* it is still the host's */
    FLATBACK_DISCARDED = 3, /* a start-up IPI that no processor waits for */
    FLATBACK_RESET = 4      /* INIT or a start-up IPI outside of VMX operation: the host resets or starts the processor */
};

/* Right before the entry, which it may change, as if the event had come there. What waits, or was shown, the host keeps and gives
 * again before each entry: the guest exits when it can take it. Of L1's exits interrupt window, NMI window and NMI (another that
 * came, which is the same one) are then for flatback_close_window(). An entry that fails gives back: return_nmi, return_interrupt,
 * return_machine_check. */
enum flatback_delivery flatback_deliver(flatback_vcpu *vcpu, const struct flatback_event *event, enum flatback_entry *entry);
/* Also for an event that the host no longer has. */
void flatback_close_window(flatback_vcpu *vcpu);

/* --- demands: what the host wants of L2 for itself --- */

struct flatback_demands {
    size_t size;              /* sizeof(struct flatback_demands) */
    bool external_interrupts;
    bool acknowledge_interrupts; /* with it: the vector is in the exit's interruption information */
    bool nmis;                   /* each goes to return_nmi() */
    uint32_t instructions;       /* by their bits of the primary processor-based controls */
    uint32_t secondary_instructions; /* ... of the secondary ones: WBINVD, descriptor tables, RDRAND, RDSEED */
    uint32_t exceptions;         /* bit n: exception n; not 1, 2 */
    uint64_t cr0_mask, cr4_mask; /* bits whose change exits */
    bool all_ports;
    bool kept_msrs; /* of l0_msr_bitmap */
    uint64_t tsc_multiplier; /* of L1's counter, with 48 bits behind the point; 0: it runs as the processor's */
    uint64_t tsc_offset; /* what L1's time-stamp counter is ahead of the processor's, modulo 2^64 */
    bool has_turn_end;
    uint64_t turn_ends; /* the processor's time-stamp counter at which L2 exits */
};

/* Between an exit and the entry that follows it. A structure of zeros, but for its size, withdraws all.
 * FLATBACK_NOTHING: this processor or host cannot do it, and all is as before. */
enum flatback_error flatback_set_demands(flatback_vcpu *vcpu, const struct flatback_demands *demands);
/* After FLATBACK_THE_HOSTS, with L2's VMCS current: whether L1 asked for this exit too. Then it is shown to L1 by whichever of the
 * three follows, and the host does nothing in L2's place. */
bool flatback_l1_wants_hosts_exit(const flatback_vcpu *vcpu);
/* L2 goes on as if it had not exited. */
enum flatback_entry flatback_resume(flatback_vcpu *vcpu);
/* ... behind the instruction, which the host has done. */
enum flatback_entry flatback_resume_behind_instruction(flatback_vcpu *vcpu);
/* ... with the fault that the instruction has met, done by the host. Not #PF, nor #DB. */
enum flatback_entry flatback_resume_with_fault(flatback_vcpu *vcpu, const struct flatback_fault *fault);
/* The host did for L2, which is current, what drops its translations. */
void flatback_l2_translations_changed(flatback_vcpu *vcpu);

#ifdef __cplusplus
}
#endif

/* NOLINTEND(modernize-use-using) */

#endif
