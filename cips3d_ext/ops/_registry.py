"""How an op is put together: one `OpSpec`, registered once, gives the dispatcher op its reference, fake and autograd.

The dispatcher then holds, for `cips3d_ext::<op>` and `cips3d_ext::<op>_backward`:

    CPU, CUDA                     native kernels, from the compiled libraries (loaded before the schemas are defined)
    every other device            the reference (CompositeExplicitAutograd)
    Meta / FakeTensor             shapes only
    Autograd                      first order: `<op>_backward`; second order: differentiates the reference backward
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .._native import REBUILD, native

NAMESPACE = "cips3d_ext"
IMPLS = ("auto", "fused", "reference")
DEVICES = ("cpu", "cuda")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_library = torch.library.Library(NAMESPACE, "DEF")


@dataclass(frozen=True)
class OpSpec:
    """One op. Schemas list the tensors first, then the options; the backward schema is
    `(grad_outputs..., tensors..., options..., int grad_mask) -> one gradient for each entry of grad_of`.

    grad_of: for each gradient the backward op returns, the indices of the tensor arguments it belongs to.
    reference_backward(*grad_outputs, *tensors, **options, grad_mask=...) returns None where no gradient is wanted.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    backward_schema: str = ""
    reference_backward: Callable[..., Sequence[Tensor | None]] | None = None
    grad_of: tuple[tuple[int, ...], ...] = ()
    helpers: tuple[str, ...] = ()  # further dispatcher ops that this op consists of
    options: tuple[str, ...] = field(init=False)  # names of the option arguments; torch.compile cannot parse a schema

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(argument_names(self.schema)[1]))

    def run_reference(self, tensors: Sequence[Any], options: Sequence[Any]) -> Any:
        """The reference, in the dtype it is given, also inside an autocast region."""
        device_type = tensors[0].device.type
        available = torch.amp.is_autocast_available(device_type)
        with torch.autocast(device_type, enabled=False) if available else nullcontext():
            return self.reference(*tensors, **dict(zip(self.options, options, strict=True)))


REGISTRY: dict[str, OpSpec] = {}
NATIVE_DEVICES: dict[str, frozenset[str]] = {}  # op -> devices for which all its dispatcher ops have a native kernel


def argument_names(schema: str) -> tuple[list[str], list[str]]:
    """(tensor arguments, option arguments) of a schema, in order."""
    arguments = torch._C.parse_schema(f"{NAMESPACE}::{schema}").arguments
    tensors = [a.name for a in arguments if "Tensor" in str(a.type)]
    return tensors, [a.name for a in arguments if a.name not in tensors]


def dispatcher_op(name: str) -> Any:
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def define(schema: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Defines one dispatcher op with its reference implementation (positional arguments) and its fake."""
    name = schema.split("(", 1)[0]
    try:
        _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ImportError(f"cips3d_ext: the compiled libraries are of another version ({reason}); {REBUILD}") from None
    _library.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)


def record_native(spec: OpSpec) -> None:
    names = [spec.name, *spec.helpers] + ([f"{spec.name}_backward"] if spec.backward_schema else [])
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    NATIVE_DEVICES[spec.name] = frozenset(
        device for device in DEVICES if all(has_kernel(f"{NAMESPACE}::{n}", device.upper()) for n in names)
    )
    REGISTRY[spec.name] = spec


def register(spec: OpSpec) -> None:
    """Registers a differentiable op and its backward op."""
    tensors, options = argument_names(spec.schema)
    count, total = len(tensors), len(tensors) + len(options)
    assert spec.reference_backward is not None
    reference_backward = spec.reference_backward

    def forward_kernel(*args: Any) -> Any:
        return spec.run_reference(args[:count], args[count:])

    def call_reference_backward(*args: Any) -> Sequence[Tensor | None]:
        values, mask = args[:-1], args[-1]
        first_option = len(values) - len(options)
        named = dict(zip(options, values[first_option:], strict=True))
        return reference_backward(*values[:first_option], **named, grad_mask=mask)

    def fill(grads: Sequence[Tensor | None], args: Sequence[Any]) -> tuple[Tensor, ...]:
        like = next(a for a in args if isinstance(a, Tensor))
        return tuple(like.new_empty(0) if g is None else g.contiguous() for g in grads)

    def backward_kernel(*args: Any) -> tuple[Tensor, ...]:
        return fill(call_reference_backward(*args), args)

    def backward_fake(*args: Any) -> tuple[Tensor, ...]:
        inputs, mask = args[-1 - total : -1], args[-1]
        like = next(a for a in args if isinstance(a, Tensor))
        targets = [inputs[of[0]] for of in spec.grad_of]
        return tuple(
            like.new_empty(0) if t is None or not mask >> i & 1 else t.new_empty(t.shape) for i, t in enumerate(targets)
        )

    define(spec.schema, forward_kernel, spec.fake)
    define(spec.backward_schema, backward_kernel, backward_fake)

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:count])
        ctx.options = inputs[count:]

    def first_order(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        needs = ctx.needs_input_grad
        mask = sum(1 << i for i, of in enumerate(spec.grad_of) if any(needs[j] for j in of))
        grads = dispatcher_op(f"{spec.name}_backward")(*grad_outputs, *saved, *ctx.options, mask)
        result: list[Tensor | None] = [None] * total
        for grad, of in zip(grads, spec.grad_of, strict=True):
            for j in of:
                result[j] = grad if needs[j] else None
        return tuple(result)

    backward_tensors = len(argument_names(spec.backward_schema)[0])

    def setup_second_order(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:backward_tensors])
        ctx.options = inputs[backward_tensors:]

    def second_order(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = ctx.needs_input_grad
        with torch.enable_grad():  # aliases: the same tensor may be given twice
            tensors = [None if t is None else t.view_as(t) for t in ctx.saved_tensors]
            grads = call_reference_backward(*tensors, *ctx.options)
        pairs = [
            (g, gg)
            for g, gg in zip(grads, grad_grads, strict=True)
            if g is not None and g.requires_grad and gg is not None
        ]
        wanted = [i for i, t in enumerate(tensors) if t is not None and needs[i] and t.requires_grad]
        result: list[Tensor | None] = [None] * (backward_tensors + len(ctx.options))
        if pairs and wanted:
            sources = [t for i in wanted if (t := tensors[i]) is not None]
            found = torch.autograd.grad(
                [g for g, _ in pairs],
                sources,
                [gg for _, gg in pairs],
                allow_unused=True,
                create_graph=torch.is_grad_enabled(),
            )
            for i, grad in zip(wanted, found, strict=True):
                result[i] = grad
        return tuple(result)

    register_formula(spec.name, first_order, setup_context)
    register_formula(f"{spec.name}_backward", second_order, setup_second_order)
    record_native(spec)


def register_formula(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    torch.library.register_autograd(f"{NAMESPACE}::{name}", backward, setup_context=setup_context, lib=_library)


def register_without_gradient(spec: OpSpec) -> None:
    """Registers an op none of whose inputs has a gradient."""
    count = len(argument_names(spec.schema)[0])

    define(spec.schema, lambda *args: spec.run_reference(args[:count], args[count:]), spec.fake)
    register_formula(
        spec.name, lambda ctx, *grads: (None,) * (count + len(spec.options)), lambda ctx, inputs, output: None
    )
    record_native(spec)


def reasons_against_native(name: str, device_type: str) -> list[str]:
    """Why `name` has no native kernel on a device; empty if it has one."""
    if device_type in NATIVE_DEVICES[name]:
        return []
    if device_type not in DEVICES:
        return [f"there is no native kernel for device '{device_type}' (native: {', '.join(DEVICES)})"]
    return [native.problems.get(device_type, f"the loaded {device_type} library has no kernel for {name}; {REBUILD}")]


def use_native(name: str, impl: str, tensor: Tensor) -> bool:
    """Decides the path of one call. Raises ValueError for an unknown impl, RuntimeError if "fused" cannot be had."""
    if impl not in IMPLS:
        raise ValueError(f"{name}: impl must be one of {IMPLS}, got {impl!r}")
    if impl == "reference":
        return False
    if tensor.device.type in NATIVE_DEVICES[name] or tensor.device.type == "meta":
        return True
    if impl == "fused":
        reasons = "; ".join(reasons_against_native(name, tensor.device.type))
        raise RuntimeError(
            f"{name}: impl='fused' is not possible: {reasons}. Use impl='auto' to fall back to the reference."
        )
    return False


def call(name: str, impl: str, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]) -> Any:
    """One call of an op: the dispatcher op (native kernel) or, in the same dtype, the reference in plain autograd."""
    first = tensors[0]
    assert first is not None
    if use_native(name, impl, first):
        return dispatcher_op(name)(*tensors, *options)
    return REGISTRY[name].run_reference(tensors, options)
