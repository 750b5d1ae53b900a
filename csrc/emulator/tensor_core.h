// mma.sync and ldmatrix on the emulator: collectives of all 32 lanes, with the fragment layouts of the PTX manual.
// Products and sums are exact in double and rounded once; hardware rounds more often, in an order of its own.
#pragma once
#include <cstring>

#include "emulator/device_api.h"

namespace cips3d::simt {

// One lane's share of A and B.
struct MmaOperands {
  uint32_t a[4], b[2];
};

inline float tf32_value(uint32_t bits) { return bits_float(bits & 0xffffe000u); }  // the low 13 bits are ignored

// Half `k & 1` of a register that holds two 16-bit numbers.
template <class T>
float packed_value(uint32_t bits, int k) {
  const uint16_t part = uint16_t(k & 1 ? bits >> 16 : bits);
  T value;
  std::memcpy(&value, &part, sizeof value);
  return float(value);
}

// d += A B for this lane's four elements; a(lane values, row, k) and b(lane values, k, column) read the fragments.
template <int K, class ReadA, class ReadB>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], ReadA read_a, ReadB read_b, Where where) {
  MmaOperands mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  const LaneValues lanes = warp_meet(kEveryLane, mine, where);
  const int group = int(lane_index()) / 4, in_group = int(lane_index()) % 4;
  for (int i = 0; i < 4; ++i) {
    const int row = group + 8 * (i / 2), column = 2 * in_group + i % 2;
    double sum = d[i];
    for (int k = 0; k < K; ++k) sum += double(read_a(lanes, row, k)) * double(read_b(lanes, k, column));
    d[i] = float(sum);
  }
}

inline void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  const auto read_a = [](const LaneValues& lanes, int row, int k) {
    return tf32_value(lanes.of<MmaOperands>(unsigned(row % 8 * 4 + k % 4)).a[row / 8 + 2 * (k / 4)]);
  };
  const auto read_b = [](const LaneValues& lanes, int k, int column) {
    return tf32_value(lanes.of<MmaOperands>(unsigned(column * 4 + k % 4)).b[k / 4]);
  };
  mma<8>(d, a, b, read_a, read_b, where);
}

template <class T>
void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where) {
  const auto read_a = [](const LaneValues& lanes, int row, int k) {
    return packed_value<T>(lanes.of<MmaOperands>(unsigned(row % 8 * 4 + k % 8 / 2)).a[row / 8 + 2 * (k / 8)], k);
  };
  const auto read_b = [](const LaneValues& lanes, int k, int column) {
    return packed_value<T>(lanes.of<MmaOperands>(unsigned(column * 4 + k % 8 / 2)).b[k / 8], k);
  };
  mma<16>(d, a, b, read_a, read_b, where);
}

// Four 8x8 matrices of 16-bit numbers; lane l brings the address of row l % 8 of matrix l / 8.
inline void ldmatrix_x4(uint32_t (&r)[4], const void* row, bool transposed, Where where) {
  require_aligned(row, 16, where);
  const LaneValues rows = warp_meet(kEveryLane, row, where);
  const unsigned group = lane_index() / 4, in_group = lane_index() % 4;
  const auto element = [&](unsigned matrix, unsigned i, unsigned j) {
    return uint32_t{static_cast<const uint16_t*>(rows.of<const void*>(matrix * 8 + i))[j]};
  };
  for (unsigned m = 0; m < 4; ++m) {
    const uint32_t low = transposed ? element(m, 2 * in_group, group) : element(m, group, 2 * in_group);
    const uint32_t high = transposed ? element(m, 2 * in_group + 1, group) : element(m, group, 2 * in_group + 1);
    r[m] = low | high << 16;
  }
}

}  // namespace cips3d::simt
