// The emulator's engine: runs a CUDA grid on one CPU thread, one fiber a CUDA thread. See README.md for what it
// detects.
//
// A fiber runs until it meets a block barrier or a warp collective; the order in which ready fibers run is the
// schedule. Code that leans on an order (a missing barrier) gives another result under another schedule.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace cips3d::simt {

constexpr unsigned kWarpLanes = 32;
constexpr size_t kMaxDynamicShared = 163 << 10;  // of a block, as on sm_80
constexpr int kMultiprocessors = 3;              // launchers that fill the device make a few blocks
constexpr size_t kMaxLaneBytes = 32;  // what one lane can bring to a collective: an mma's A and B fragments, 24 bytes

struct Index3 {
  unsigned x = 0, y = 0, z = 0;
};

struct Dim3 {
  unsigned x, y, z;
  constexpr Dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// forward: threads in order, each up to the next meeting point. reverse: last thread and block first.
// skew: blocks and warps shuffled, and one warp runs as far as it can before the next one starts.
enum class Order { kForward, kReverse, kSkew };

// What a kernel did wrong; the message names the kernel's source line.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A place in a kernel. As a default argument it is the caller's.
struct Where {
  const char* file;
  int line;
  static constexpr Where here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

void set_schedule(Order order, unsigned seed);

// Runs `kernel` once for each thread of the grid. Throws Error for the first mistake found.
void launch(Dim3 grid, Dim3 block, size_t dynamic_shared_bytes, const std::function<void()>& kernel);

// ---- for kernels: where am I ---------------------------------------------------------------------------------------
extern Index3 thread_index, block_index;
extern Dim3 block_dim, grid_dim;
unsigned lane_index();

// ---- for kernels: shared memory ------------------------------------------------------------------------------------
// The running block's array of this key (made and filled with NaN patterns at its first use in a block).
void* static_shared(const void* key, size_t bytes);
void* dynamic_shared();

// ---- for kernels: meeting points -----------------------------------------------------------------------------------
void block_barrier(Where where);

// What all lanes of a mask brought to a collective, lane by lane. Valid until this lane's next collective.
class LaneValues {
 public:
  explicit LaneValues(const unsigned char (*slots)[kMaxLaneBytes]) : slots_(slots) {}
  template <class T>
  T of(unsigned lane) const {
    T value;
    __builtin_memcpy(&value, slots_[lane], sizeof(T));
    return value;
  }

 private:
  const unsigned char (*slots_)[kMaxLaneBytes];
};

LaneValues warp_meet(uint32_t mask, const void* value, size_t bytes, Where where);

template <class T>
LaneValues warp_meet(uint32_t mask, const T& value, Where where) {
  static_assert(sizeof(T) <= kMaxLaneBytes, "too large for a warp collective");
  return warp_meet(mask, &value, sizeof(T), where);
}

// ---- for kernels: asynchronous copies; the bytes arrive only at the wait --------------------------------------------
void async_copy(void* target, const void* source, size_t bytes, Where where);
void async_commit();
void async_wait(size_t groups_left);

// Stops the kernel with an Error. Does not return to the kernel.
[[noreturn]] void fail(const std::string& message, Where where);

inline void require_aligned(const void* pointer, size_t bytes, Where where) {
  if (reinterpret_cast<uintptr_t>(pointer) % bytes != 0)
    fail("misaligned access: " + std::to_string(bytes) + " bytes at an address that is no multiple of it", where);
}

}  // namespace cips3d::simt
