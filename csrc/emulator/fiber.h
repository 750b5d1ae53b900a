// Fibers: stacks that one thread switches between. x86-64 by a hand-written switch (30 million a second), elsewhere
// ucontext.
#pragma once
#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cips3d::simt {

constexpr size_t kFiberStackBytes = 128 << 10;

// One fiber at a time runs entry() on its own stack between resume() and the leave() it calls.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void prepare(void (*entry)());  // the next resume() starts entry(); whatever ran on this stack before is gone
  void resume();                  // scheduler -> fiber, until it leaves
  void leave(bool for_good);      // fiber -> scheduler

 private:
  char* stack_;  // above a page that must not be touched
#if defined(__x86_64__)
  void* stack_pointer_ = nullptr;
#else
  ucontext_t context_;
#endif
  void* sanitizer_state_ = nullptr;
};

}  // namespace cips3d::simt
