"""Import and export of the official state dicts (PeterouZh/CIPS-3D): generator, main and joint discriminator.

model = load_official("G_ema.pth")       # recognised from the keys, widths and depths from the shapes
print(model.official)                    # what was read, and which tensors the official code never uses
torch.save(export_official(model), "G_ema.pth")
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from cips3d.models.discriminator import Blur, Discriminator
from cips3d.models.generator import Generator
from cips3d.models.official_discriminator import AUX_PREFIX, MAIN_PREFIX, discriminator_layout, read_discriminator
from cips3d.models.official_generator import generator_layout, read_generator
from cips3d.models.official_layout import Layout

logger = logging.getLogger(__name__)
SHOWN_KEYS = 8  # of each kind in an error or report


@dataclass(frozen=True)
class OfficialReport:
    """What `load_official` did: the kind of model, and the keys it used and (kept for the export) did not use."""

    kind: str
    used: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        text = f"official {self.kind}: {len(self.used)} tensors loaded"
        if self.unused:
            text += (
                f", {len(self.unused)} kept for export only, the official code never uses them: {_some(self.unused)}"
            )
        return text


class UnusedTensors(nn.Module):
    """Official tensors without a use, as buffers: they follow `.to()` and stay out of state dicts."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for key, tensor in tensors.items():
            self.register_buffer(_buffer_name(key), tensor, persistent=False)

    def get(self, key: str) -> Tensor:
        return self.get_buffer(_buffer_name(key))


def load_official(source: str | PathLike[str] | Mapping[str, Tensor], impl: str = "auto") -> Generator | Discriminator:
    """A generator or discriminator with the weights of an official state dict (a file or the dict itself).

    Files are read with weights_only. Strict: the keys must be exactly the expected ones, with their shapes. The model
    is in eval mode, trainable, on the CPU (or the tensors' device), in the stored dtypes; `impl` goes to the
    generator's ops. `model.official` is an `OfficialReport`, also logged. Raises ValueError naming what does not fit.
    """
    state = read_state(source)
    kind = _recognise(state)
    model: Generator | Discriminator
    with torch.device("meta"):
        if kind == "generator":
            model = Generator(read_generator(state), impl)
        else:
            model = Discriminator(read_discriminator(state))
    layout = official_layout(model)
    _check_keys(kind, state, layout)
    _assign(model, state, layout)
    unused = {entry.key: state[entry.key].detach().clone() for entry in layout if entry.name is None}
    model.official_unused = UnusedTensors(unused)
    used = tuple(entry.key for entry in layout if entry.name is not None)
    model.official = report = OfficialReport(kind, used, tuple(unused))  # type: ignore[assignment]
    logger.info("%s", report)
    return model.eval()


def export_official(model: Generator | Discriminator) -> dict[str, Tensor]:
    """The official state dict of a model, key for key: copies, on the model's device and in its dtypes.

    Tensors without a use are those that were loaded; for a model that was not loaded, the official initialisation
    (norms) or zeros (heads). Raises ValueError for a generator the official code cannot express.
    """
    loaded = getattr(model, "official_unused", None)
    parameter = next(model.parameters())
    result = {}
    for entry in official_layout(model):
        if entry.name is not None:
            tensor = entry.to_official(_tensor(model, entry.name))
        elif loaded is not None:
            tensor = loaded.get(entry.key)
        else:
            assert entry.unused is not None
            tensor = entry.unused.to(parameter)
        result[entry.key] = tensor.detach().clone()
    return result


def official_gradients(model: Generator | Discriminator) -> dict[str, Tensor | None]:
    """{official key: gradient in the official layout}; None for unused tensors, buffers and frozen parts."""
    gradients: dict[str, Tensor | None] = {}
    for entry in official_layout(model):
        grad = None if entry.name is None else _tensor(model, entry.name).grad
        gradients[entry.key] = None if grad is None else entry.to_official(grad)
    return gradients


def official_layout(model: Generator | Discriminator) -> Layout:
    """All official keys of a model in the official order, each with the tensor it belongs to."""
    return generator_layout(model) if isinstance(model, Generator) else discriminator_layout(model)


def read_state(source: str | PathLike[str] | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state dict in a file, or as it is; ValueError if it holds other things than floating-point tensors."""
    state = source if isinstance(source, Mapping) else _read_file(source)
    if isinstance(state, Mapping):
        others = tuple(f"{key}: {kind}" for key, value in state.items() if (kind := _kind_of_other(value)))
    else:
        others = (type(state).__name__,)
    if others:
        raise ValueError(
            "load_official: wanted a plain state dict {key: floating-point tensor} as the official code saves it "
            f"(generator.pth, G_ema.pth, discriminator.pth), got {_some(others)}"
        )
    return state


def _read_file(path: str | PathLike[str]) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # torch.load has many kinds for what it cannot read
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"load_official: {path} is no file of tensors alone ({reason}); wanted generator.pth, G_ema.pth or "
            "discriminator.pth of the official code, not its pickled *_model.pth"
        ) from error


def _kind_of_other(value: object) -> str:
    """What a value is that is no floating-point tensor; empty for one that is."""
    if not isinstance(value, Tensor):
        return type(value).__name__
    return "" if value.is_floating_point() else str(value.dtype)


def _recognise(state: Mapping[str, Tensor]) -> str:
    if any(key.startswith(("siren.", "inr_net.")) for key in state):
        return "generator"
    if any(key.startswith((MAIN_PREFIX, AUX_PREFIX)) for key in state):
        return "joint discriminator"
    if any(key.startswith("conv_in.") for key in state):
        return "main discriminator"
    raise ValueError(
        "load_official: neither a generator (siren.*, inr_net.*) nor a discriminator (main_disc.*, aux_disc.*, "
        f"conv_in.*); keys: {_some(tuple(state)) or 'none'}"
    )


def _check_keys(kind: str, state: Mapping[str, Tensor], layout: Layout) -> None:
    expected = {entry.key for entry in layout}
    missing = tuple(entry.key for entry in layout if entry.key not in state)
    unexpected = tuple(key for key in state if key not in expected)
    problems = [
        f"{len(keys)} {what}: {_some(keys)}"
        for what, keys in (("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if problems:
        raise ValueError(f"load_official: not the state dict of an official {kind}: {'; '.join(problems)}")


def _assign(model: nn.Module, state: Mapping[str, Tensor], layout: Layout) -> None:
    """Gives the model on the meta device copies of the stored tensors, after checking their shapes."""
    model.to_empty(device=next(iter(state.values())).device)
    for entry in layout:
        tensor = state[entry.key]
        ours = entry.unused if entry.name is None else _tensor(model, entry.name)
        assert ours is not None
        wanted = entry.to_official(ours).shape
        if tensor.shape != wanted:
            raise ValueError(f"load_official: {entry.key} must be {list(wanted)}, got {list(tensor.shape)}")
        if entry.name is not None:
            _set_tensor(model, entry.name, entry.to_ours(tensor.detach()).clone(), entry.key)


def _set_tensor(model: nn.Module, name: str, value: Tensor, key: str) -> None:
    owner_name, _, attribute = name.rpartition(".")
    owner = model.get_submodule(owner_name)
    if isinstance(owner, Blur):
        wanted = Blur(owner.padding).kernel
        if not torch.allclose(value.float(), wanted.to(value.device)):
            raise ValueError(
                f"load_official: {key} must be the binomial kernel {wanted[0].tolist()} / ..., got {value}"
            )
        owner.kernel = value
    else:
        setattr(owner, attribute, nn.Parameter(value))


def _tensor(model: nn.Module, name: str) -> Tensor:
    owner_name, _, attribute = name.rpartition(".")
    return getattr(model.get_submodule(owner_name), attribute)


def _buffer_name(key: str) -> str:
    return key.replace(".", "/")  # buffer names must not contain dots


def _some(keys: tuple[str, ...]) -> str:
    rest = len(keys) - SHOWN_KEYS
    return ", ".join(keys[:SHOWN_KEYS]) + (f" and {rest} more" if rest > 0 else "")
