#include "tests/tag/model.hpp"

#include <algorithm>
#include <sstream>

namespace flatback::tag_test {

using tag::Extent;
using tag::FlushTarget;
using tag::TagNumber;
using tag::Vpid;
using tag::Vpid12;

namespace {

x86::LinearAddress linear(std::uint16_t address) {
    return x86::LinearAddress{(std::uint64_t{address} + 1) << 12};
}

}  // namespace

std::string describe(const Step& step) {
    static constexpr std::array<const char*, static_cast<std::size_t>(Step::Kind::count)> names{
        "run_l2",
        "reenter_l2",
        "run_l2_without_vpid",
        "invvpid_address",
        "invvpid_single",
        "invvpid_all",
        "invvpid_retaining_globals",
        "move",
        "vmxoff",
        "other_vm",
        "page_taken",
        "invept",
        "flush_by_l1",
        "flush_address_by_l1",
        "run_l1"};
    std::ostringstream text;
    text << names[static_cast<std::size_t>(step.kind)] << " vcpu=" << unsigned{step.vcpu}
         << " vpid12=" << step.vpid12 << " cpu=" << unsigned{step.cpu}
         << " address=" << unsigned{step.address} << (step.keep ? " keep" : "") << (step.fail ? " fail" : "");
    return text.str();
}

Model::Model(std::uint16_t tags, tag::Policy policy) : pool_(tags) {
    for (std::size_t i = 0; i < model_vcpus; ++i) vcpus_.push_back(std::make_unique<Vcpu>(pool_, policy));
}

// What has happened to a virtual CPU ends the right to be entered without a flush.
void Model::cool(std::size_t vcpu, bool l2s, bool the_l1) {
    for (auto& [guest, wanted] : wanted_) {
        if (guest.vcpu == vcpu && (is_l2(guest) ? l2s : the_l1)) wanted.warm = false;
    }
}

// The processor executes exactly what it is told, and drops nothing else.
void Model::run_flush(const Guest& guest, const FlushTarget& target) {
    Processor& processor = processors_[static_cast<std::uint32_t>(target.cpu)];
    std::vector<Translation>& entries = processor.tlb[target.tag];
    std::erase_if(entries, [&](const Translation& entry) {
        switch (target.extent) {
            case Extent::address:
                return linear(entry.address) == target.linear_address;
            case Extent::single_context:
                return true;
            case Extent::single_context_retaining_globals:
                return !entry.global;
            case Extent::nothing:
                break;
        }
        return false;
    });
    if (!target.ept_contexts) return;
    processor.oldest_guest_physical.erase(Context{guest.vcpu, is_l2(guest)});
    for (auto& [tag, tagged] : processor.tlb) {
        std::erase_if(tagged, [&](const Translation& entry) {
            return entry.guest.vcpu == guest.vcpu && is_l2(entry.guest) == is_l2(guest);
        });
    }
}

void Model::fill(const Guest& guest, TagNumber tag, std::uint32_t cpu) {
    Processor& processor = processors_[cpu];
    for (std::uint16_t address = 0; address < model_addresses; ++address) {
        for (const bool global : {false, true}) {
            // What is cached is used, not fetched again.
            std::vector<Translation>& entries = processor.tlb[tag];
            const bool cached = std::ranges::any_of(entries, [&](const Translation& entry) {
                return entry.address == address && entry.global == global;
            });
            if (!cached) entries.push_back({guest, address, global, now_});
        }
    }
    processor.oldest_guest_physical.try_emplace(Context{guest.vcpu, is_l2(guest)}, now_);
}

// What the guest, entered now, could use and must not.
std::optional<std::string> Model::look(const Guest& guest, TagNumber tag, std::uint32_t cpu) const {
    const Processor& processor = processors_[cpu];
    const Wanted& wanted = wanted_.at(guest);
    const Context context{guest.vcpu, is_l2(guest)};
    const WantedOfContext& of_context = wanted_of_context_.at(context);
    if (const auto found = processor.tlb.find(tag); found != processor.tlb.end()) {
        for (const Translation& entry : found->second) {
            if (entry.guest != guest) return "a translation of another guest's";
            if (entry.made <= wanted.all || entry.made <= wanted.address[entry.address] ||
                (!entry.global && entry.made <= wanted.non_global)) {
                return "a translation that was to be invalidated";
            }
            if (entry.made < wanted.there_since) return "a translation from before it ran on another CPU";
            if (entry.made <= of_context.all) return "a combined mapping of a page that was taken";
        }
    }
    if (const auto found = processor.oldest_guest_physical.find(context);
        found != processor.oldest_guest_physical.end()) {
        if (found->second <= of_context.all) return "a guest-physical mapping of a page that was taken";
        if (found->second < of_context.there_since) {
            return "a guest-physical mapping from before the EPT contexts were used on another CPU";
        }
    }
    return std::nullopt;
}

// The map's own counts against a plain list in order of use.
std::optional<std::string> Model::check_slots(std::size_t index, std::uint32_t vpid12,
                                              std::uint64_t evictions, std::uint64_t shared) {
    Vcpu& vcpu = *vcpus_[index];
    std::deque<std::uint32_t>& used = vcpu.recently_used;
    const tag::MapStatistics& counted = vcpu.map.statistics();
    if (counted.shared != shared) return std::nullopt;
    // One that has no slot yet, though it may have shared vpid01, starts cold.
    if (std::erase(used, vpid12) == 0) wanted_[Guest{index, vpid12}].warm = false;
    if (counted.evictions != evictions) {
        if (used.empty()) return "evicted from an empty map";
        wanted_[Guest{index, used.front()}].warm = false;
        used.pop_front();
    }
    used.push_back(vpid12);
    if (used.size() != vcpu.map.used()) return "the map has another number of slots in use than it should";
    return std::nullopt;
}

std::optional<std::string> Model::enter(std::size_t index, std::uint32_t vpid12, bool keep, bool fail) {
    Vcpu& vcpu = *vcpus_[index];
    Processor& processor = processors_[vcpu.cpu];
    const Guest guest{index, vpid12};
    const Context context{index, is_l2(guest)};
    const tag::Cpu cpu{vcpu.cpu};
    const bool nested = is_l2(guest) && vcpu.in_l2 != vpid12;  // L1 asked, not L0
    Wanted& wanted = wanted_[guest];
    WantedOfContext& of_context = wanted_of_context_[context];
    ++now_;

    const bool offered = vpid12 < l1 && vcpu.map.capacity() != 0;
    const tag::MapStatistics before = vcpu.map.statistics();
    tag::Entry entry = vpid12 == l1 ? vcpu.vpid01.enter_l1(cpu)
                       : vpid12 == without_vpid
                           ? vcpu.map.enter_without_vpid(cpu)
                           : vcpu.map.enter(Vpid12{static_cast<std::uint16_t>(vpid12)}, cpu);

    // SDM 3C 29.4.3.1: VM entry with "enable VPID" = 0, and the VM exit after it, invalidate VPID 0000H. An
    // L2 without VPID and its L1 share it, so L1's own translations go by its doing.
    if (vpid12 == without_vpid && nested) {
        wanted.all = now_;
        wanted.warm = false;
        wanted_[Guest{index, l1}].all = now_;
        wanted_[Guest{index, l1}].warm = false;
        ++now_;
    }
    if (offered) {
        if (auto complaint = check_slots(index, vpid12, before.evictions, before.shared)) {
            if (entry.flush) std::move(*entry.flush).keep();
            return complaint;
        }
    }

    // Sharing a tag, each is the end of the other's warmth, even by an entry that then fails.
    if (entry.shares_vpid01 || vpid12 == l1) {
        for (auto& [other, of_other] : wanted_) {
            const bool same_tag = other.vcpu == index && other != guest &&
                                  (!is_l2(other) || std::ranges::find(vcpu.recently_used, other.vpid12) ==
                                                        vcpu.recently_used.end());
            if (same_tag && (entry.shares_vpid01 || is_l2(other))) of_other.warm = false;
        }
    }
    std::optional<std::string> complaint;
    if (entry.flush) {
        const FlushTarget target = entry.flush->target();
        if (target.cpu != cpu) complaint = "a flush for another CPU than is entered";
        if (target.extent != Extent::nothing && target.tag != entry.tag) {
            complaint = "a flush of another tag than is entered";
        }
        if (target.extent != Extent::nothing && target.tag == TagNumber::none)
            complaint = "INVVPID of VPID 0000H";
        if (target.extent == Extent::nothing && !target.ept_contexts) complaint = "a flush of nothing";
        if (wanted.warm) complaint = "a flush that nothing called for";
        if (complaint || keep) {
            std::move(*entry.flush).keep();
            wanted.warm = false;
            return complaint;
        }
        run_flush(guest, target);
        std::move(*entry.flush).paid();
    } else if (keep) {
        return std::nullopt;  // it fails before there is anything to pay
    }
    if (vpid12 == l1 && entry.shares_vpid01) return "L1 said to share its tag";
    if (vpid12 != l1 && entry.shares_vpid01 != (entry.tag == vcpu.vpid01.number())) {
        return "the tag and shares_vpid01 disagree";
    }
    if (fail) {
        if (entry.tag == TagNumber::none) transition_of_vpid_zero(processor);
        return std::nullopt;
    }

    if (wanted.cpu != vcpu.cpu) {
        wanted.cpu = vcpu.cpu;
        wanted.there_since = now_;
    }
    if (of_context.cpu != vcpu.cpu) {
        of_context.cpu = vcpu.cpu;
        of_context.there_since = now_;
        // The others of the context will owe an INVEPT no more, but an INVVPID: they are where they were.
    }
    if (entry.tag == TagNumber::none) transition_of_vpid_zero(processor);
    if (auto seen = look(guest, entry.tag, vcpu.cpu)) return seen;
    // L1 may have named every single address since.
    const bool all_named = std::ranges::all_of(wanted.address, [](std::uint64_t when) { return when != 0; });
    if (wanted.warm && !all_named && entry.tag != TagNumber::none && processor.tlb[entry.tag].empty()) {
        return "the warm translations are gone";
    }
    fill(guest, entry.tag, vcpu.cpu);
    if (entry.tag == TagNumber::none) transition_of_vpid_zero(processor);

    wanted.warm = true;
    vcpu.in_l2 = is_l2(guest) ? std::optional{vpid12} : std::nullopt;
    return std::nullopt;
}

std::optional<std::string> Model::invvpid(const Step& step) {
    Vcpu& vcpu = *vcpus_[step.vcpu];
    const Vpid12 vpid12{step.vpid12};
    const tag::Cpu cpu{vcpu.cpu};
    ++now_;
    const auto wanted_of = [&](std::uint32_t of) -> Wanted& { return wanted_[Guest{step.vcpu, of}]; };
    const bool only_address = step.kind == Step::Kind::invvpid_address;
    std::optional<tag::OwedFlush> owed = [&] {
        switch (step.kind) {
            case Step::Kind::invvpid_address:
                wanted_of(step.vpid12).address[step.address] = now_;
                return vcpu.map.invvpid_address(vpid12, linear(step.address), cpu);
            case Step::Kind::invvpid_single:
                wanted_of(step.vpid12).all = now_;
                return vcpu.map.invvpid_single(vpid12, cpu);
            case Step::Kind::invvpid_retaining_globals:
                wanted_of(step.vpid12).non_global = now_;
                return vcpu.map.invvpid_single_retaining_globals(vpid12, cpu);
            default:
                for (auto& [guest, wanted] : wanted_) {
                    if (guest.vcpu == step.vcpu && guest.vpid12 < l1) wanted.all = now_;
                }
                return vcpu.map.invvpid_all(cpu);
        }
    }();
    ++now_;
    // L1 and the L2s that share its tag may lose all of it; the others keep what L1 did not name.
    for (auto& [guest, wanted] : wanted_) {
        if (guest.vcpu != step.vcpu) continue;
        const bool has_slot = std::ranges::find(vcpu.recently_used, guest.vpid12) != vcpu.recently_used.end();
        const bool named =
            step.kind == Step::Kind::invvpid_all ? guest.vpid12 < l1 : guest.vpid12 == step.vpid12;
        if (!has_slot && (guest.vpid12 != l1 || vcpu.map.statistics().shared != 0)) wanted.warm = false;
        if (has_slot && named && !(only_address && owed && !step.keep)) wanted.warm = false;
    }
    if (!owed) return std::nullopt;
    const FlushTarget target = owed->target();
    if (step.keep || target.cpu != cpu) {
        std::move(*owed).keep();
        return target.cpu == cpu ? std::nullopt : std::optional<std::string>{"to be run now, but elsewhere"};
    }
    run_flush(Guest{step.vcpu, step.vpid12}, target);
    std::move(*owed).paid();
    return std::nullopt;
}

std::optional<std::string> Model::take(const Step& step) {
    Vcpu& vcpu = *vcpus_[step.vcpu];
    // What L1 does, it does while running.
    const auto l1_runs = [&] { return run_l1(step.vcpu); };
    switch (step.kind) {
        case Step::Kind::run_l1:
            return l1_runs();
        case Step::Kind::run_l2:
            if (auto complaint = l1_runs()) return complaint;
            return enter(step.vcpu, step.vpid12, step.keep, step.fail);
        case Step::Kind::run_l2_without_vpid:
            if (auto complaint = l1_runs()) return complaint;
            return enter(step.vcpu, without_vpid, step.keep, step.fail);
        case Step::Kind::reenter_l2:
            if (!vcpu.in_l2) return std::nullopt;
            return enter(step.vcpu, *vcpu.in_l2, false, false);
        case Step::Kind::invvpid_address:
        case Step::Kind::invvpid_single:
        case Step::Kind::invvpid_all:
        case Step::Kind::invvpid_retaining_globals:
            if (auto complaint = l1_runs()) return complaint;
            return invvpid(step);
        case Step::Kind::move:
            if (vcpu.cpu != step.cpu) cool(step.vcpu, true, true);
            vcpu.cpu = step.cpu;
            return std::nullopt;
        case Step::Kind::vmxoff:
            if (auto complaint = l1_runs()) return complaint;
            vcpu.map.reset();
            vcpu.recently_used.clear();
            cool(step.vcpu, true, false);
            return std::nullopt;
        case Step::Kind::other_vm: {
            const std::optional<Vpid> tag = pool_.allocate();
            if (!tag) return std::nullopt;
            ++now_;
            for (std::uint32_t cpu = 0; cpu < model_cpus; ++cpu) {
                // It flushes first, as everybody does.
                processors_[cpu].tlb[tag->number()].clear();
                fill(Guest{nobody, 1}, tag->number(), cpu);
            }
            return std::nullopt;
        }
        case Step::Kind::page_taken:
            ++now_;
            vcpu.map.ept_contexts_stale();
            for (const bool of_l2 : {false, true}) wanted_of_context_[Context{step.vcpu, of_l2}].all = now_;
            ++now_;
            cool(step.vcpu, true, true);
            return std::nullopt;
        case Step::Kind::invept: {
            if (auto complaint = l1_runs()) return complaint;
            ++now_;
            wanted_of_context_[Context{step.vcpu, true}].all = now_;
            ++now_;
            if (vcpu.map.ept02_cpu() == tag::Cpu{vcpu.cpu}) {
                run_flush(Guest{step.vcpu, step.vpid12},
                          FlushTarget{TagNumber::none, tag::Cpu{vcpu.cpu}, Extent::nothing, {}, true});
            } else {
                vcpu.map.ept02_contexts_stale();
            }
            cool(step.vcpu, true, false);
            return std::nullopt;
        }
        case Step::Kind::flush_by_l1:
        case Step::Kind::flush_address_by_l1: {
            if (auto complaint = l1_runs()) return complaint;
            Wanted& wanted = wanted_[Guest{step.vcpu, l1}];
            ++now_;
            if (step.kind == Step::Kind::flush_by_l1) {
                vcpu.vpid01.invalidate();
                wanted.all = now_;
            } else {
                vcpu.vpid01.invalidate_address(linear(step.address));
                wanted.address[step.address] = now_;
            }
            ++now_;
            wanted.warm = false;
            return std::nullopt;
        }
        case Step::Kind::count:
            break;
    }
    return std::nullopt;
}

}  // namespace flatback::tag_test
