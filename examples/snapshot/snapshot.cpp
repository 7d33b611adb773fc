#include "snapshot.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <flatback/vmx/field.hpp>
#include <flatback/vmx/field_table.hpp>
#include <flatback/x86/control_registers.hpp>
#include <span>
#include <string>

namespace snapshot {

namespace nested = flatback::nested;
namespace vmx = flatback::vmx;
namespace x86 = flatback::x86;
using minimal_host::l1_memory_size;
using minimal_host::Port;
using Vcpu = nested::NestedVcpu<Port>;

namespace {

constexpr std::uint64_t magic = 0x3150'414e'5342'4c46;  // "FLBSNAP1"

class Writer {
public:
    void put(std::uint64_t word) { put_bytes(std::as_bytes(std::span{&word, 1})); }
    void put_bytes(std::span<const std::byte> bytes) {
        written.insert(written.end(), bytes.begin(), bytes.end());
    }
    std::vector<std::byte> written;
};

// Never beyond the bytes that there are: what is not there is 0, and good() false.
class Reader {
public:
    explicit Reader(std::span<const std::byte> from) : left_(from) {}
    std::uint64_t word() {
        std::uint64_t word = 0;
        const auto bytes = take(sizeof word);
        if (good_) std::memcpy(&word, bytes.data(), sizeof word);
        return word;
    }
    std::span<const std::byte> take(std::uint64_t size) {
        good_ = good_ && size <= left_.size();
        if (!good_) return {};
        const auto taken = left_.first(size);
        left_ = left_.subspan(size);
        return taken;
    }
    [[nodiscard]] bool good() const { return good_; }
    [[nodiscard]] bool at_end() const { return good_ && left_.empty(); }

private:
    std::span<const std::byte> left_;
    bool good_ = true;
};

// What of vmcs01 is L1's: its state, and what this host shows it of CR0 and CR4. The rest is this host's and
// this processor's.
template <typename Visit>
void for_each_of_l1s(const machine::Machine& processor, Visit&& visit) {
    namespace field = vmx::field;
    for (const std::uint32_t encoding :
         {field::cr0_read_shadow.encoding, field::cr4_read_shadow.encoding, field::vm_entry_controls.encoding,
          field::vm_entry_interruption_information.encoding, field::vm_entry_exception_error_code.encoding,
          field::vm_entry_instruction_length.encoding})
        visit(encoding);
    for (const vmx::NamedField& each : vmx::all_fields) {
        if (vmx::kind(each.encoding) == vmx::FieldKind::guest_state &&
            each.encoding != field::vmcs_link_pointer.encoding && processor.model().has_field(each.encoding))
            visit(each.encoding);
    }
}

// The registers that no VMCS holds, of whichever guest runs.
template <typename Visit>
void for_each_register(machine::Registers& registers, Visit&& visit) {
    for (unsigned number = 0; number < registers.general.size(); ++number) {
        if (number != 4) visit(registers.general[number]);  // RSP
    }
    for (std::uint64_t* each : {&registers.cr2, &registers.star, &registers.lstar, &registers.fmask,
                                &registers.kernel_gs_base, &registers.tsc_aux})
        visit(*each);
}

bool is_zero(std::span<const std::byte> page) {
    return std::all_of(page.begin(), page.end(), [](std::byte byte) { return byte == std::byte{0}; });
}

}  // namespace

std::vector<std::byte> save(machine::Machine& processor, Host& host) {
    // An exit, and what follows is between it and the next entry.
    static_cast<void>(host.take_processor());
    Port& port = host.port();
    Writer out;
    out.put(magic);

    // The nested state, with the VMCS of the guest that runs current. Then none is.
    std::vector<std::byte> state(Vcpu::most_state_bytes);
    const auto size = host.vcpu().save(state);
    if (!size) port.fatal("no state to be saved");
    out.put(*size);
    out.put_bytes(std::span{state}.first(*size));
    host.vcpu().leave_processor();

    port.load_vmcs(host.vmcs01());
    for_each_of_l1s(processor, [&](std::uint32_t encoding) { out.put(port.vmread(encoding)); });
    for_each_register(processor.cpu(0).registers, [&](std::uint64_t value) { out.put(value); });
    out.put(host.devices().l1_timer);
    out.put(host.devices().console.size());
    out.put_bytes(std::as_bytes(std::span{host.devices().console}));

    // L1's memory: the pages that have something.
    for (std::uint64_t address = 0; address < l1_memory_size; address += x86::page_size) {
        const std::span page{port.l1_page(x86::Gpa<x86::L1>{address}), x86::page_size};
        if (is_zero(page)) continue;
        out.put(address);
        out.put_bytes(page);
    }
    out.put(l1_memory_size);

    host.give_processor(host.vcpu().enter_processor());
    return out.written;
}

bool restore(machine::Machine& processor, Host& host, const std::vector<std::byte>& from) {
    // The VM that this host began with ends here: vmcs01 is current, since it has no L2.
    static_cast<void>(host.take_processor());
    Port& port = host.port();
    Reader in{from};
    if (in.word() != magic) return false;
    const auto state = in.take(in.word());

    for_each_of_l1s(processor, [&](std::uint32_t encoding) { port.vmwrite(encoding, in.word()); });
    for_each_register(processor.cpu(0).registers, [&](std::uint64_t& value) { value = in.word(); });
    host.devices().l1_timer = static_cast<unsigned>(in.word());
    const auto console = in.take(in.word());
    host.devices().console.assign(reinterpret_cast<const char*>(console.data()), console.size());

    for (std::uint64_t address = 0; address < l1_memory_size; address += x86::page_size)
        std::memset(port.l1_page(x86::Gpa<x86::L1>{address}), 0, x86::page_size);
    for (std::uint64_t address = in.word(); address != l1_memory_size; address = in.word()) {
        const auto page = in.take(x86::page_size);
        if (!in.good() || address > l1_memory_size || address % x86::page_size != 0) return false;
        std::memcpy(port.l1_page(x86::Gpa<x86::L1>{address}), page.data(), page.size());
    }
    if (!in.at_end()) return false;

    // Whatever it says, it is judged before anything of the virtual CPU changes.
    const auto entry = host.vcpu().restore(state);
    if (!entry) return false;
    host.vcpu().prepare_reentry();
    host.give_processor(*entry);
    return true;
}

}  // namespace snapshot
