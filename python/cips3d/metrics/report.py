"""The demo's report: one HTML page with everything inside it, so that it can be mailed as it is."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch

import cips3d_ext
from cips3d.config.training import TrainingConfig
from cips3d.metrics.pose import PoseReport
from cips3d.metrics.speed import Speed
from cips3d.training.loop import TrainingResult

SMOOTHING = 0.9  # of the plotted losses, exponential, a row of stats.jsonl at a time

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h1 { font-weight: 600 } h2 { font-weight: 600; margin-top: 2.5rem } p { max-width: 44rem }
img, video { max-width: 100%; border-radius: 4px } .pixels { image-rendering: pixelated }
table { border-collapse: collapse } td, th { padding: .2rem 1rem .2rem 0; text-align: right }
td:first-child, th:first-child { text-align: left } .big { font-size: 2.2rem; font-weight: 600 } footer { color: #777 }
"""


@dataclass(frozen=True)
class Report:
    """What the page tells. `folder` holds run/stats.jsonl, samples.png, yaw_sweep.png, real.png and turntable.mp4."""

    folder: Path
    config: TrainingConfig
    result: TrainingResult
    pose: PoseReport
    speeds: Sequence[Speed]
    seconds: float  # of the whole command


def write_report(report: Report) -> Path:
    """Write `folder`/report.html and return its path."""
    folder, pose = report.folder, report.pose
    resolution = report.config.schedule.resolution
    sections = [
        "<h1>CIPS-3D, trained on this machine</h1>",
        f"<p>{report.result.step} steps in {report.result.seconds / 60:.1f} minutes on {report.config.data.size} "
        f"pictures of {resolution} x {resolution} pixels; this page took {report.seconds / 60:.1f} minutes in all.</p>",
        _video(folder / "turntable.mp4"),
        "<h2>Pose control</h2>",
        f'<p><span class="big">{pose.generated_yaw:.3f}</span> correlation between the yaw that was commanded and the '
        f"yaw that a network recovers from the generated picture (pitch: {pose.generated_pitch:.3f}). The network "
        f"learned from real pictures alone; on real ones that it has not seen it reaches {pose.real_yaw:.3f} and "
        f"{pose.real_pitch:.3f}.</p>",
        "<p>Each row is one pair of codes, seen from left to right:</p>",
        _image(folder / "yaw_sweep.png"),
        "<h2>Samples</h2><p>Random codes in random poses, and below them pictures of the training set.</p>",
        _image(folder / "samples.png"),
        f"<p>{_image(folder / 'real.png')}</p>",
        "<h2>Losses</h2>",
        _loss_plot(folder / "run" / "stats.jsonl"),
        "<h2>Speed of the kernels</h2>",
        "<p>Forward and backward together, medians of interleaved runs, fused kernels against plain PyTorch.</p>",
        _speed_table(report.speeds),
        f"<footer><p>{html.escape(_environment())}</p></footer>",
    ]
    path = folder / "report.html"
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>CIPS-3D demo</title><style>{STYLE}</style>"
    path.write_text(page + "\n".join(sections) + "</html>\n", encoding="utf-8")
    return path


def _embedded(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _image(path: Path) -> str:
    return f'<img class="pixels" alt="{path.stem}" src="{_embedded(path, "image/png")}">'


def _video(path: Path) -> str:
    return f'<video autoplay loop muted playsinline controls src="{_embedded(path, "video/mp4")}"></video>'


def _loss_plot(stats: Path) -> str:
    """Smoothed losses over steps as inline SVG, with lines where the resolution changes."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in stats.read_text(encoding="utf-8").splitlines()]
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    steps = [row["step"] for row in rows]
    for name, label in (("d_loss", "discriminator"), ("g_loss", "generator")):
        axes.plot(steps, _smooth([row[name] for row in rows]), label=label)
    for before, after in zip(rows, rows[1:], strict=False):
        if before["resolution"] != after["resolution"]:
            axes.axvline(before["step"], color="grey", linestyle=":", label=f"{after['resolution']} pixels from here")
    axes.set(xlabel="step", ylabel="loss")
    axes.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg")
    pyplot.close(figure)
    return text.getvalue()[text.getvalue().index("<svg") :]


def _smooth(values: list[float]) -> list[float]:
    result, mean = [], values[0] if values else 0.0
    for value in values:
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        result.append(mean)
    return result


def _speed_table(speeds: Sequence[Speed]) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(speed.name)}<td>{1e3 * speed.reference:.2f} ms<td>{1e3 * speed.fused:.2f} ms"
        f"<td>{speed.ratio:.2f}x"
        for speed in speeds
    )
    return f"<table><tr><th>op<th>reference<th>fused<th>speed-up{rows}</table>"


def _environment() -> str:
    status = cips3d_ext.status()
    return (
        f"torch {status.torch}, {torch.get_num_threads()} threads of {os.cpu_count()} ({platform.machine()}), "
        f"SIMD level {status.cpu_level or 'none'}, Python {platform.python_version()}"
    )
