#include "emulator/simt.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <vector>

#include "emulator/fiber.h"

namespace cips3d::simt {

Index3 thread_index, block_index;
Dim3 block_dim, grid_dim;

namespace {

constexpr unsigned char kPoison = 0xff;  // all ones is a NaN in every floating type: what nobody wrote shows
constexpr size_t kSharedAlignment = 128;
constexpr unsigned kMaxThreads = 1024;         // a block's limits on every GPU from sm_80 on
constexpr unsigned kMaxBlocksYZ = 65535;       // a grid's y and z
constexpr size_t kMaxStaticShared = 48 << 10;  // what a block may have without asking

struct SharedArray {
  explicit SharedArray(size_t bytes)
      : bytes(bytes), memory(static_cast<unsigned char*>(::operator new(bytes, std::align_val_t(kSharedAlignment)))) {
    std::memset(memory, kPoison, bytes);
  }
  ~SharedArray() { ::operator delete(memory, std::align_val_t(kSharedAlignment)); }
  SharedArray(const SharedArray&) = delete;
  size_t bytes;
  unsigned char* memory;  // of exactly this size: AddressSanitizer sees every overrun
};

struct AsyncCopy {
  void* target;
  const void* source;
  size_t bytes;
};

enum class State { kReady, kAtBarrier, kInCollective, kDone };

struct Thread {
  Fiber fiber;
  Index3 index;
  State state = State::kDone;
  Where where{"", 0};  // of the barrier or collective it waits at
  uint32_t mask = 0;   // of that collective
  std::vector<AsyncCopy> uncommitted;
  std::deque<std::vector<AsyncCopy>> groups;
};

// A meeting of a warp's lanes under one mask. Two buffers: a lane may bring the next value while others still read this
// one.
struct Collective {
  unsigned arrived = 0, generation = 0;
  Where where{"", 0};
  unsigned char slots[2][kWarpLanes][kMaxLaneBytes];
};

struct Machine {
  Order order = Order::kForward;
  unsigned seed = 1;
  const std::function<void()>* kernel = nullptr;
  std::deque<Thread> threads;  // grown as needed, stacks are kept
  unsigned thread_count = 0;
  Thread* running = nullptr;
  std::vector<std::map<uint32_t, Collective>> collectives;  // by warp, by mask
  std::map<const void*, SharedArray> static_shared;
  std::unique_ptr<SharedArray> dynamic_shared;
  std::string error;
};

Machine machine;
std::mutex one_launch_at_a_time;

std::string text(Where where) {
  const std::string file = where.file;
  return file.substr(file.find_last_of('/') + 1) + ":" + std::to_string(where.line);
}

std::string text(Index3 i) {
  return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

unsigned linear_thread() { return thread_index.x + block_dim.x * (thread_index.y + block_dim.y * thread_index.z); }

void thread_main() {
  (*machine.kernel)();
  Thread& thread = *machine.running;
  if (!thread.uncommitted.empty() || !thread.groups.empty())
    machine.error = "a thread ended with a cp.async that it never waited for";
  thread.state = State::kDone;
  thread.fiber.leave(true);
}

void wait(State state, Where where) {
  machine.running->state = state;
  machine.running->where = where;
  machine.running->fiber.leave(false);
}

// Runs one thread up to its next meeting point.
void step(Thread& thread) {
  machine.running = &thread;
  thread_index = thread.index;
  thread.fiber.resume();
  if (machine.error.empty()) return;
  throw Error("emulator: " + machine.error + "; thread " + text(thread.index) + " of block " + text(block_index));
}

// Runs thread i if it is ready; says whether it did.
bool try_step(unsigned i) {
  Thread& thread = machine.threads[i];
  if (thread.state != State::kReady) return false;
  step(thread);
  return true;
}

bool run_warp_dry(unsigned warp) {
  bool ran = false;
  for (bool more = true; more; ran |= more) {
    more = false;
    const unsigned end = std::min(machine.thread_count, (warp + 1) * kWarpLanes);
    for (unsigned i = warp * kWarpLanes; i < end; ++i) more |= try_step(i);
  }
  return ran;
}

std::vector<unsigned> shuffled(unsigned count, std::mt19937& random) {
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  return order;
}

// One pass over the block's threads in the schedule's order; false when none could run.
bool run_pass(std::mt19937& random) {
  bool ran = false;
  const unsigned count = machine.thread_count;
  if (machine.order == Order::kSkew) {
    for (unsigned warp : shuffled((count + kWarpLanes - 1) / kWarpLanes, random)) ran |= run_warp_dry(warp);
  } else {
    for (unsigned k = 0; k < count; ++k) ran |= try_step(machine.order == Order::kReverse ? count - 1 - k : k);
  }
  return ran;
}

// Nobody can run: either all threads are at one block barrier, or the kernel is stuck, and this says why.
void open_barrier() {
  const Thread* first = nullptr;
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    const Thread& thread = machine.threads[i];
    if (thread.state == State::kInCollective)
      throw Error("emulator: deadlock in a warp collective at " + text(thread.where) +
                  ": lanes named in its mask never arrive; thread " + text(thread.index) + " of block " +
                  text(block_index));
    if (thread.state == State::kAtBarrier && !first) first = &thread;
  }
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    const Thread& thread = machine.threads[i];
    const bool ended = thread.state == State::kDone;
    if (!ended && thread.where.line == first->where.line && !std::strcmp(thread.where.file, first->where.file))
      continue;
    throw Error("emulator: divergent __syncthreads: thread " + text(first->index) + " waits at " + text(first->where) +
                ", thread " + text(thread.index) + (ended ? " has ended" : " waits at " + text(thread.where)) +
                "; block " + text(block_index));
  }
  for (unsigned i = 0; i < machine.thread_count; ++i) machine.threads[i].state = State::kReady;
}

void start_block(Dim3 block, size_t dynamic_shared_bytes) {
  machine.static_shared.clear();
  machine.dynamic_shared = std::make_unique<SharedArray>(dynamic_shared_bytes);
  machine.collectives.assign((machine.thread_count + kWarpLanes - 1) / kWarpLanes, {});
  for (unsigned i = 0; i < machine.thread_count; ++i) {
    Thread& thread = machine.threads[i];
    thread.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    thread.state = State::kReady;
    thread.uncommitted.clear();
    thread.groups.clear();
    thread.fiber.prepare(&thread_main);
  }
}

bool all_done() {
  for (unsigned i = 0; i < machine.thread_count; ++i)
    if (machine.threads[i].state != State::kDone) return false;
  return true;
}

void check_launch(Dim3 grid, Dim3 block, size_t dynamic_shared_bytes) {
  if (!grid.x || !grid.y || !grid.z || grid.y > kMaxBlocksYZ || grid.z > kMaxBlocksYZ || grid.x > 0x7fffffffu)
    throw Error("emulator: invalid grid " + text(Index3{grid.x, grid.y, grid.z}));
  if (!block.x || !block.y || !block.z || uint64_t{block.x} * block.y * block.z > kMaxThreads || block.z > 64)
    throw Error("emulator: invalid block " + text(Index3{block.x, block.y, block.z}));
  if (dynamic_shared_bytes > kMaxDynamicShared)
    throw Error("emulator: " + std::to_string(dynamic_shared_bytes) + " bytes of dynamic shared memory, at most " +
                std::to_string(kMaxDynamicShared));
}

}  // namespace

void set_schedule(Order order, unsigned seed) {
  machine.order = order;
  machine.seed = seed;
}

void launch(Dim3 grid, Dim3 block, size_t dynamic_shared_bytes, const std::function<void()>& kernel) {
  const std::lock_guard<std::mutex> lock(one_launch_at_a_time);
  check_launch(grid, block, dynamic_shared_bytes);
  std::mt19937 random(machine.seed);
  machine.kernel = &kernel;
  machine.error.clear();
  machine.thread_count = block.x * block.y * block.z;
  while (machine.threads.size() < machine.thread_count) machine.threads.emplace_back();
  grid_dim = grid;
  block_dim = block;

  const unsigned blocks = grid.x * grid.y * grid.z;
  std::vector<unsigned> order = shuffled(blocks, random);
  if (machine.order != Order::kSkew) std::sort(order.begin(), order.end());
  if (machine.order == Order::kReverse) std::reverse(order.begin(), order.end());
  try {
    for (unsigned b : order) {
      block_index = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
      start_block(block, dynamic_shared_bytes);
      while (!all_done())
        if (!run_pass(random)) open_barrier();
    }
  } catch (const Error&) {
    machine.threads.clear();  // their stacks hold half-run kernels
    throw;
  }
}

unsigned lane_index() { return linear_thread() % kWarpLanes; }

void* static_shared(const void* key, size_t bytes) {
  auto found = machine.static_shared.find(key);
  if (found == machine.static_shared.end()) {
    size_t total = bytes;
    for (const auto& array : machine.static_shared) total += array.second.bytes;
    if (total > kMaxStaticShared) fail("more than 48 KB of static shared memory", Where::here());
    found = machine.static_shared.try_emplace(key, bytes).first;
  }
  return found->second.memory;
}

void* dynamic_shared() { return machine.dynamic_shared->memory; }

void block_barrier(Where where) { wait(State::kAtBarrier, where); }

LaneValues warp_meet(uint32_t mask, const void* value, size_t bytes, Where where) {
  const unsigned lane = lane_index(), warp = linear_thread() / kWarpLanes;
  if (!(mask >> lane & 1)) fail("lane " + std::to_string(lane) + " is not in its own mask", where);
  Collective& collective = machine.collectives[warp][mask];
  if (collective.arrived == 0) collective.where = where;
  if (collective.where.line != where.line || std::strcmp(collective.where.file, where.file))
    fail("lanes of one mask meet in two places, the other at " + text(collective.where), where);
  auto& slots = collective.slots[collective.generation & 1];
  std::memcpy(slots[lane], value, bytes);
  if (++collective.arrived < unsigned(__builtin_popcount(mask))) {
    machine.running->mask = mask;
    wait(State::kInCollective, where);
    return LaneValues(slots);
  }
  collective.arrived = 0;
  ++collective.generation;
  for (unsigned i = 0; i < kWarpLanes && warp * kWarpLanes + i < machine.thread_count; ++i) {
    Thread& thread = machine.threads[warp * kWarpLanes + i];
    if (thread.state == State::kInCollective && thread.mask == mask) thread.state = State::kReady;
  }
  return LaneValues(slots);
}

void async_copy(void* target, const void* source, size_t bytes, Where where) {
  require_aligned(target, bytes, where);
  require_aligned(source, bytes, where);
  machine.running->uncommitted.push_back({target, source, bytes});
}

void async_commit() {
  machine.running->groups.push_back(std::move(machine.running->uncommitted));
  machine.running->uncommitted.clear();
}

void async_wait(size_t groups_left) {
  auto& groups = machine.running->groups;
  for (; groups.size() > groups_left; groups.pop_front())
    for (const AsyncCopy& copy : groups.front()) std::memcpy(copy.target, copy.source, copy.bytes);
}

void fail(const std::string& message, Where where) {
  machine.error = message + " at " + text(where);
  machine.running->state = State::kDone;
  machine.running->fiber.leave(true);
  __builtin_trap();  // never resumed
}

}  // namespace cips3d::simt
