// A lock among L0's processors, which hold one for a bounded time and with interrupts off.
#pragma once

#include <atomic>

namespace flatback::metal {

// Not for an NMI handler, nor for who holds it already.
class SpinLock final {
public:
    void lock() {
        while (held_.exchange(true, std::memory_order_acquire)) {
            while (held_.load(std::memory_order_relaxed)) asm volatile("pause");
        }
    }
    void unlock() { held_.store(false, std::memory_order_release); }

private:
    std::atomic<bool> held_{false};
};

class [[nodiscard]] SpinLockGuard final {
public:
    explicit SpinLockGuard(SpinLock& lock) : lock_(lock) { lock_.lock(); }
    ~SpinLockGuard() { lock_.unlock(); }
    SpinLockGuard(const SpinLockGuard&) = delete;
    SpinLockGuard& operator=(const SpinLockGuard&) = delete;

private:
    SpinLock& lock_;
};

}  // namespace flatback::metal
