// What the CPU kernels along rays are given: plain pointers, to tensors (ops volume_render, sample_pdf, merge_samples)
// or to one thread's working memory (render_rays).
#pragma once
#include "common/merge_samples_math.h"
#include "common/sample_pdf_math.h"
#include "common/volume_render_math.h"

namespace cips3d {

// Contiguous arrays of the call's dtype.
struct SamplePdfTask {
  const void *bins, *weights, *u;
  void* depths;
  SamplePdfOptions options;
  SamplePdfSizes sizes;
};

// Contiguous arrays. sort: a, b = depths of the two sets, merged = sorted depths. gather: a, b -> merged features.
// scatter: merged -> a, b.
struct MergeSamplesTask {
  void *a, *b, *merged;
  int64_t* order;
  MergeSamplesSizes sizes;
};

// Arrays of the call's dtype, contiguous but for features' feature_stride; null where an optional tensor is absent.
struct VolumeRenderInputs {
  const void *density, *features, *depths, *noise, *beta, *ray_norm;
  VolumeRenderOptions options;
  VolumeRenderSizes sizes;
};

struct VolumeRenderForwardTask {
  VolumeRenderInputs inputs;
  void *feature, *depth, *weights, *transmittance, *accumulation;
};

// Gradients of outputs are null where absent, gradients of inputs where unwanted.
struct VolumeRenderBackwardTask {
  VolumeRenderInputs inputs;
  const void *grad_feature, *grad_depth, *grad_weights, *grad_transmittance, *grad_accumulation;
  void *grad_density, *grad_features, *grad_depths, *grad_ray_norm;
};

}  // namespace cips3d
