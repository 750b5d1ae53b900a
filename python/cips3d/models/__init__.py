"""The networks of CIPS-3D. Import from the submodules: `generator`, `discriminator`, `augment`, `official`."""
