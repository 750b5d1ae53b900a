"""CIPS-3D (Zhou et al. 2021, arXiv 2110.09788): a 3D-aware GAN, a NeRF followed by a per-pixel INR."""
