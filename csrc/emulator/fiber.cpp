#include "emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define CIPS3D_ASAN 1
#else
#define CIPS3D_ASAN 0
#endif

namespace cips3d::simt {

namespace {

constexpr size_t kGuardBytes = 4096;  // one page: a stack overflow is a fault, not silent corruption

// The entry of the fiber that starts next, and the scheduler that it returns to.
void (*starting_entry)() = nullptr;
#if defined(__x86_64__)
void* scheduler_stack_pointer = nullptr;
#else
ucontext_t scheduler_context;
#endif
#if CIPS3D_ASAN
const void* scheduler_stack = nullptr;
size_t scheduler_stack_bytes = 0;
void* scheduler_sanitizer_state = nullptr;
#endif

void start() {
#if CIPS3D_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
  starting_entry();
  __builtin_trap();  // entry ends with leave(true)
}

}  // namespace

#if defined(__x86_64__)
// Saves the callee-saved registers and the stack pointer, takes those of the other side.
extern "C" void cips3d_simt_switch(void** save_stack_pointer, void* next_stack_pointer);
asm(R"(.text
.local cips3d_simt_switch
cips3d_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");
#endif

Fiber::Fiber() {
  void* memory =
      mmap(nullptr, kGuardBytes + kFiberStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory, kGuardBytes, PROT_NONE);
  stack_ = static_cast<char*>(memory) + kGuardBytes;
}

Fiber::~Fiber() {
#if CIPS3D_ASAN
  __asan_unpoison_memory_region(stack_, kFiberStackBytes);  // the address range may come back as another fiber's
#endif
  munmap(stack_ - kGuardBytes, kGuardBytes + kFiberStackBytes);
}

void Fiber::prepare(void (*entry)()) {
  starting_entry = entry;
#if defined(__x86_64__)
  constexpr int kSavedRegisters = 6;
  // `ret` pops &start; the stack pointer is then 8 off a multiple of 16, as after a call
  void** top = reinterpret_cast<void**>(stack_ + kFiberStackBytes) - 2;
  *top = reinterpret_cast<void*>(&start);
  top -= kSavedRegisters;
  std::memset(top, 0, kSavedRegisters * sizeof(void*));
  stack_pointer_ = top;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = kFiberStackBytes;
  context_.uc_link = nullptr;
  makecontext(&context_, &start, 0);
#endif
#if CIPS3D_ASAN
  sanitizer_state_ = nullptr;
#endif
}

void Fiber::resume() {
#if CIPS3D_ASAN
  __sanitizer_start_switch_fiber(&scheduler_sanitizer_state, stack_, kFiberStackBytes);
#endif
#if defined(__x86_64__)
  cips3d_simt_switch(&scheduler_stack_pointer, stack_pointer_);
#else
  swapcontext(&scheduler_context, &context_);
#endif
#if CIPS3D_ASAN
  __sanitizer_finish_switch_fiber(scheduler_sanitizer_state, nullptr, nullptr);
#endif
}

void Fiber::leave(bool for_good) {
#if CIPS3D_ASAN
  // a stack that is left for good may hold poisoned frames of functions that never return
  if (for_good) __asan_unpoison_memory_region(stack_, kFiberStackBytes);
  __sanitizer_start_switch_fiber(for_good ? nullptr : &sanitizer_state_, scheduler_stack, scheduler_stack_bytes);
#endif
  (void)for_good;
#if defined(__x86_64__)
  cips3d_simt_switch(&stack_pointer_, scheduler_stack_pointer);
#else
  swapcontext(&context_, &scheduler_context);
#endif
#if CIPS3D_ASAN
  __sanitizer_finish_switch_fiber(sanitizer_state_, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

}  // namespace cips3d::simt
