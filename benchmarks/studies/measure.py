"""Measure a study's finished runs that have no row yet: numbers to results.jsonl, pictures to pictures/.

python benchmarks/studies/measure.py --runs runs/study && python benchmarks/studies/tables.py
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from subjects import run_folder
from variants import SUBJECTS

from cips3d.config.training import load_training
from cips3d.data import ImageDataset, image_grid, to_float, to_uint8
from cips3d.data.synthetic import default_cache_dir
from cips3d.metrics import measure_mirror_symmetry, measure_reprojection
from cips3d.metrics.distances import feature_distances, real_features
from cips3d.metrics.extractors import small_extractor
from cips3d.metrics.regressor import Regressor, correlations, fit_regressor
from cips3d.training.loop import open_images
from cips3d.training.trained import TrainedModel, load_model, read_run

HERE = Path(__file__).parent
RESULTS, PICTURES = HERE / "results.jsonl", HERE / "pictures"
HEADS = 512  # new heads a number is measured on
MEASURE_SEED = 7  # of their codes and poses: another than any training's
SHOWN, YAWS, YAW_SPREADS = 2, 7, 2.0  # heads of a picture, and their yaws in standard deviations to either side


def rows() -> list[dict]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def measure(model: TrainedModel, dataset: ImageDataset, regressor: Regressor) -> dict[str, float]:
    """All numbers of one model."""
    codes, camera = model.codes(HEADS, MEASURE_SEED), model.poses(HEADS, MEASURE_SEED)
    panels = model.views(*codes, camera, ("inr", "nerf"))
    extractor = small_extractor()
    reals = real_features(dataset, extractor, default_cache_dir() / "features")
    distances = {
        name: feature_distances(extractor.features(to_uint8(images)), reals, extractor.version).frechet
        for name, images in panels.items()
    }
    estimated, true = regressor.predict(panels["inr"]), camera.pitch_yaw.flip(1)
    yaw, pitch = correlations(estimated, true)
    mirror, reprojection = measure_mirror_symmetry(model, HEADS), measure_reprojection(model, HEADS)
    return {
        "yaw": yaw,
        "pitch": pitch,
        "yaw_error_deg": math.degrees((estimated - true)[:, 0].abs().mean()),
        "mirror": mirror.score,
        "flips": mirror.flips,
        "reprojection": reprojection.error,
        "reprojection_seen": reprojection.seen,
        "fd_small": distances["inr"],
        "fd_small_nerf": distances["nerf"],
    }


def picture(model: TrainedModel, path: Path) -> None:
    """Two heads turning, each the INR's picture over the NeRF's own."""
    yaws = model.yaws(YAWS, YAW_SPREADS)
    codes = (z.repeat_interleave(YAWS, 0) for z in model.codes(SHOWN, 0))
    panels = model.views(*codes, model.camera_at(yaws.repeat(SHOWN)), ("inr", "nerf"))
    rows = [panels[name][head * YAWS : (head + 1) * YAWS] for head in range(SHOWN) for name in ("inr", "nerf")]
    path.parent.mkdir(exist_ok=True)
    image_grid(torch.cat(rows), columns=YAWS).save(path, optimize=True)


def pose_regressor(dataset: ImageDataset) -> Regressor:
    """What reads poses from pictures, learned from all of a data set."""
    images = to_float(torch.stack([dataset[i] for i in range(len(dataset))]))
    return fit_regressor(images, torch.tensor([dataset.pose(i) for i in range(len(dataset))]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/study"), help="the --out of train.py")
    parser.add_argument("--model", choices=SUBJECTS, default="cips3d", help="whose study (default cips3d)")
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1), help="default: 0 1")
    args = parser.parse_args()
    subject = SUBJECTS[args.model]
    known = {(row["variant"], row["seed"]) for row in rows()}
    wanted = [(v, s) for s in args.seeds for v in subject.variants if (v, s) not in known]
    finished = [(v, s, run_folder(args.runs, v, s)) for v, s in wanted]
    finished = [(v, s, folder) for v, s, folder in finished if done(folder)]
    print(f"{len(finished)} of {len(wanted)} missing runs are finished")
    if not finished:
        return
    dataset = open_images(load_training(subject.preset))
    regressor = pose_regressor(dataset)
    for variant, seed, folder in finished:
        model = load_model(folder)
        _, state = read_run(folder)
        row = {"variant": variant, "seed": seed, "steps": state["step"], "torch": torch.__version__}
        row |= {name: round(value, 5) for name, value in measure(model, dataset, regressor).items()}
        picture(model, PICTURES / f"{variant}-seed{seed}.png")
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(row, flush=True)


def done(folder: Path) -> bool:
    """Whether a run has come to the end of its schedule."""
    if not (folder / "checkpoints" / "latest.pt").exists():
        return False
    config, state = read_run(folder)
    return state["step"] >= config.schedule.end


if __name__ == "__main__":
    main()
