/* The same host through flatback.h, in C99: freestanding, with the engine compiled by flags of its own. */
#include <flatback/c/flatback.h>

int use_the_engine(void);

#define BYTES_OF_A_PAGE 4096u
#define OWN_PAGES 64u

/* Fields (SDM 3D appendix B). */
enum {
    guest_ia32_efer = 0x2806,
    exit_instruction_length = 0x440c,
    exit_instruction_information = 0x440e,
    guest_cs_access_rights = 0x4816,
    guest_ss_access_rights = 0x4818,
    guest_ds_access_rights = 0x481a,
    cr4_guest_host_mask = 0x6002,
    cr4_read_shadow = 0x6006,
    exit_qualification = 0x6400,
    guest_cr0 = 0x6800,
    guest_cr3 = 0x6802,
    guest_cr4 = 0x6804,
    guest_rflags = 0x6820
};
/* Exit reasons (appendix C). */
enum { cpuid_exit = 10, vmxoff_exit = 26, vmxon_exit = 27 };

/* A VMCS has a word for every encoding; its address is its number times 4096. */
static uint64_t vmcss[4][1u << 15];
static uint64_t own_pages[OWN_PAGES][512] __attribute__((aligned(4096)));
static uint64_t l1_memory[8][512] __attribute__((aligned(4096)));
static uint64_t registers[16];
static uint64_t current = 1;
static uint64_t used = 4;

static uint64_t vmread(void *host, uint32_t encoding) {
    (void)host;
    return vmcss[current][encoding & 0x7fffu];
}
static void vmwrite(void *host, uint32_t encoding, uint64_t value) {
    (void)host;
    vmcss[current][encoding & 0x7fffu] = value;
}
static void load_vmcs(void *host, uint64_t vmcs) {
    (void)host;
    current = vmcs / BYTES_OF_A_PAGE % 4;
}
static void clear_vmcs(void *host, uint64_t vmcs) {
    (void)host;
    (void)vmcs;
}
static uint32_t revision(void *host) {
    (void)host;
    return 1;
}
static void nothing(void *host) {
    (void)host;
}
static void invvpid(void *host, uint32_t type, uint16_t tag, uint64_t address) {
    (void)host;
    (void)type;
    (void)tag;
    (void)address;
}
static void invept(void *host, uint32_t type, uint64_t pointer) {
    (void)host;
    (void)type;
    (void)pointer;
}
static void *l1_page(void *host, uint64_t address) {
    (void)host;
    return address / BYTES_OF_A_PAGE < 8 ? l1_memory[address / BYTES_OF_A_PAGE] : NULL;
}
static struct flatback_mapping host_mapping(void *host, uint64_t address) {
    const struct flatback_mapping mapping = {address, 12, 6, true};
    (void)host;
    return mapping;
}
static bool allocate_page(void *host, uint64_t *page) {
    (void)host;
    if (used == OWN_PAGES) return false;
    *page = BYTES_OF_A_PAGE * used++;
    return true;
}
static uint64_t *page(void *host, uint64_t address) {
    (void)host;
    return own_pages[address / BYTES_OF_A_PAGE];
}
static uint64_t *general_register(void *host, unsigned number) {
    (void)host;
    return &registers[number];
}
static bool read_l1_msr(void *host, uint32_t msr, uint64_t *value) {
    (void)host;
    (void)msr;
    (void)value;
    return false;
}
static bool write_l1_msr(void *host, uint32_t msr, uint64_t value) {
    (void)host;
    (void)msr;
    (void)value;
    return false;
}
static uint64_t l0_msr_bitmap(void *host) {
    (void)host;
    return 3 * BYTES_OF_A_PAGE;
}
static uint64_t ept01_pointer(void *host) {
    (void)host;
    return 0x1e;
}
static void set_cr2(void *host, uint64_t value) {
    (void)host;
    (void)value;
}
static bool handle_ept01_violation(void *host, uint64_t address) {
    (void)host;
    (void)address;
    return false;
}
static void stop(void *host, const char *why) {
    (void)host;
    (void)why;
    __builtin_trap();
}
static unsigned cpu(void *host) {
    (void)host;
    return 0;
}
/* No more than VMXON asks for: the fixed bits of CR0 and CR4, and controls that may be anything. */
static uint64_t read_capability_msr(void *host, uint32_t msr) {
    (void)host;
    switch (msr) {
        case 0x480: return 1;
        case 0x486: return 0x80000021u;
        case 0x487: return 0xffffffffu;
        case 0x488: return 0x2000;
        case 0x489: return 0x3fffff;
        default: return 0xffffffff00000000u;
    }
}

/* L1: 64-bit code, the first gigabyte mapped one to one. Its VMXON's operand is at 3000H. */
static void set_up_l1(uint64_t its_revision) {
    l1_memory[1][0] = 0x2023;
    l1_memory[2][0] = 0xe3;
    l1_memory[3][0] = 0x4000;
    l1_memory[4][0] = its_revision & 0x7fffffffu;
    vmwrite(NULL, guest_cr0, 0x80000021u);
    vmwrite(NULL, guest_cr3, 0x1000);
    vmwrite(NULL, guest_cr4, 0x2020);
    vmwrite(NULL, cr4_read_shadow, 0x2000);
    vmwrite(NULL, cr4_guest_host_mask, 0x2000);
    vmwrite(NULL, guest_ia32_efer, 0x500);
    vmwrite(NULL, guest_cs_access_rights, 0xa09b);
    vmwrite(NULL, guest_ds_access_rights, 0xc093);
    vmwrite(NULL, guest_ss_access_rights, 0xc093);
    vmwrite(NULL, guest_rflags, 2);
    /* Table 28-13: 64-bit addresses, in memory, DS, no index, no base. */
    vmwrite(NULL, exit_instruction_information, 2u << 7 | 3u << 15 | 1u << 22 | 1u << 27);
    vmwrite(NULL, exit_qualification, 0x3000); /* the displacement */
    vmwrite(NULL, exit_instruction_length, 4);
}

static uint8_t pool_storage[FLATBACK_POOL_SIZE] __attribute__((aligned(FLATBACK_ALIGNMENT)));
static uint8_t vcpu_storage[FLATBACK_VCPU_SIZE] __attribute__((aligned(FLATBACK_ALIGNMENT)));

int use_the_engine(void) {
    static struct flatback_operations operations;
    static struct flatback_configuration configuration;
    flatback_pool *pool = NULL;
    flatback_vcpu *vcpu = NULL;
    uint64_t basic = 0;
    operations.size = sizeof operations;
    operations.vmread = vmread;
    operations.vmwrite = vmwrite;
    operations.load_vmcs = load_vmcs;
    operations.clear_vmcs = clear_vmcs;
    operations.hardware_vmcs_revision = revision;
    operations.write_host_state = nothing;
    operations.invvpid = invvpid;
    operations.invept = invept;
    operations.l1_page = l1_page;
    operations.host_mapping = host_mapping;
    operations.allocate_page = allocate_page;
    operations.page = page;
    operations.general_register = general_register;
    operations.read_l1_msr = read_l1_msr;
    operations.write_l1_msr = write_l1_msr;
    operations.l0_msr_bitmap = l0_msr_bitmap;
    operations.ept01_pointer = ept01_pointer;
    operations.set_cr2 = set_cr2;
    operations.handle_ept01_violation = handle_ept01_violation;
    operations.return_nmi = nothing;
    operations.l1_shutdown = stop;
    operations.fatal = stop;
    operations.cpu = cpu;
    operations.read_capability_msr = read_capability_msr;
    configuration.size = sizeof configuration;
    configuration.physical_address_width = 36;
    configuration.tags = FLATBACK_TAGS_MAPPED;

    flatback_fill_msr_bitmap(own_pages[3]);
    if (flatback_pool_create(pool_storage, sizeof pool_storage, 100, &pool) != FLATBACK_OK) return 1;
    if (flatback_vcpu_create(vcpu_storage, sizeof vcpu_storage, &operations, NULL, &configuration, pool, BYTES_OF_A_PAGE, &vcpu) !=
        FLATBACK_OK)
        return 2;
    if (flatback_read_guest_msr(vcpu, 0x480, &basic) != FLATBACK_OK) return 3;
    set_up_l1(basic);
    flatback_prepare_first_entry(vcpu);
    if (flatback_in_vmx_operation(vcpu) || flatback_vpid01(vcpu) == 0) return 4;
    if (!flatback_is_vmx_instruction(vmxon_exit)) return 5;
    if (flatback_handle_vmx_instruction(vcpu, vmxon_exit) != FLATBACK_VMRESUME) return 6;
    if (!flatback_in_vmx_operation(vcpu)) return 7;
    registers[0] = 1;
    if (!flatback_handle_l1_exit(vcpu, cpuid_exit)) return 8;
    if ((registers[1] & 1u << 5) == 0) return 9; /* CPUID.1:ECX.VMX, promised to L1 */
    (void)flatback_handle_vmx_instruction(vcpu, vmxoff_exit);
    if (flatback_in_vmx_operation(vcpu)) return 10;
    flatback_vcpu_destroy(vcpu);
    flatback_pool_destroy(pool);
    return 0;
}
