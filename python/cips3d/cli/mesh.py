"""Write one head's surface as a mesh with the NeRF's own colours, as .ply, .obj or .glb.

cips3d mesh --run-dir runs/first --seed 3 --out head.ply
cips3d mesh --checkpoint G_ema.pth --resolution 512 --level 30 --out head.glb

Lengths are in world units (cameras are at distance 1), y is up, and the head looks along z. Colours mean something if
the model was trained with loss.use_aux.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from cips3d.cli.arguments import add_latent_argument, add_model_arguments, describe, model_of, styles_of
from cips3d.models.mesh import check_format, extract_mesh, write_mesh

RESOLUTION = 256  # points along an axis: 67 MB of densities


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_arguments(parser, resolution_help=f"grid points along an axis (default {RESOLUTION})")
    add_latent_argument(parser)
    parser.add_argument("--out", type=Path, help="file to write, .ply, .obj or .glb (default mesh-seedSEED.ply)")
    parser.add_argument(
        "--level",
        type=float,
        help="density of the surface, 1/length (default: Otsu's threshold of the opacities, between empty and full)",
    )


def run(args: argparse.Namespace) -> None:
    out = args.out or Path(f"mesh-seed{args.seed}.ply")
    check_format(out)  # before all the work
    model = model_of(args)
    config = model.generator.config
    mesh = extract_mesh(
        model.generator,
        styles_of(args, model, 1, args.psi)[0],
        resolution=args.resolution or RESOLUTION,
        step=(config.far - config.near) / model.render.samples_per_ray,
        level=args.level,
        progress=lambda starts: tqdm(starts, desc="density", unit="chunk"),
    )
    write_mesh(mesh, out, describe(args))
    print(f"{out}: {len(mesh.vertices)} vertices, {len(mesh.faces)} faces")
