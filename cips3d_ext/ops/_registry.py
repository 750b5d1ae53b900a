"""How an op is put together: one `OpSpec`, registered once, gives the dispatcher op its reference, fake and autograd.

The dispatcher then holds, for `cips3d_ext::<op>` and `cips3d_ext::<op>_backward`:

    CPU, CUDA                     native kernels, from the compiled libraries (loaded before the schemas are defined)
    every other device            the reference (CompositeExplicitAutograd)
    Meta / FakeTensor             shapes only
    Autograd                      first order: `<op>_backward`, with create_graph the reference backward in autograd;
                                  second order of `<op>_backward`: differentiates the reference backward;
                                  where `<op>_second` has a kernel, it and `<op>_backward` take both orders
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .._native import REBUILD, native
from ._autocast import has_autocast
from ._engine import wanted_by_engine

NAMESPACE = "cips3d_ext"
IMPLS = ("auto", "fused", "reference")
DEVICES = ("cpu", "cuda")
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

_library = torch.library.Library(NAMESPACE, "DEF")


@dataclass(frozen=True)
class OpSpec:
    """One op. Schemas list the tensors first, then the options; the backward schema is
    `(grad_outputs..., kept results..., residuals..., tensors..., options..., int grad_mask) -> one gradient for each
    entry of grad_of`.

    grad_of: for each gradient the backward op returns, the indices of the tensor arguments it belongs to.
    residuals: how many of the forward op's outputs, the last ones, are what its backward op needs besides the inputs.
        They are fresh tensors, saved for backward, constants for every derivative, and no result of `call`. Such an op
        returns [0] for a result that was not asked for, which has no gradient.
    keep: given if the forward schema ends in `str keep`, which says what to keep for a backward and is no option:
        `call` fills in keep(tensors, options) if a backward may follow, else "". Then residuals may be empty, which the
        backward op must accept.
    reference(*tensors, **options) returns all outputs, residuals included.
    reference_backward(*grad_outputs, *residuals, *tensors, **options, grad_mask=...) returns None where no gradient is
        wanted. With residuals, the gradient of an output that nobody used is None. Kept results may be None.
    parts: the ops that this one is made of. On a device where it has no kernel of its own and they have, impl="auto"
        takes the dispatcher op all the same, which there runs of_parts and of_parts_backward: the reference and its
        backward made of these ops.
    beyond(device type, tensors, options): why the device's native kernel does not take this call, "" if it does. Then
        impl="auto" takes the dispatcher op `<op>_of_parts`, which runs of_parts on every device.
    kept_results: (output, gradient) pairs: the results that the backward op needs for that gradient. Saved only where
        it is wanted, else the backward op gets None; constants for every derivative.
    passed_on: (gradient, output) pairs: the gradient that is the output's own where no other output has one. The
        backward op is then not asked for it.
    second_schema: of `<op>_second(gradients of the gradients in `directions`..., the backward op's tensors and
        options..., int grad_mask) -> gradients of grad_outputs..., tensors...`, second derivatives in a native kernel.
        Other devices, other directions and third derivatives differentiate the reference backward.
    """

    name: str
    schema: str
    reference: Callable[..., Any]
    fake: Callable[..., Any]
    backward_schema: str = ""
    reference_backward: Callable[..., Sequence[Tensor | None]] | None = None
    grad_of: tuple[tuple[int, ...], ...] = ()
    residuals: int = 0
    keep: Callable[[Sequence[Tensor | None], Sequence[Any]], str] | None = None
    helpers: tuple[str, ...] = ()  # further dispatcher ops that this op consists of
    parts: tuple[str, ...] = ()
    of_parts: Callable[..., Any] | None = None
    of_parts_backward: Callable[..., Sequence[Tensor | None]] | None = None
    beyond: Callable[[str, Sequence[Any], Sequence[Any]], str] | None = None
    kept_results: tuple[tuple[int, int], ...] = ()
    passed_on: tuple[tuple[int, int], ...] = ()
    second_schema: str = ""
    directions: tuple[int, ...] = ()
    # From the schemas, read here since torch.compile cannot parse one:
    options: tuple[str, ...] = field(init=False)  # names of the option arguments
    tensors: int = field(init=False)  # how many tensor arguments
    arguments: int = field(init=False)  # how many tensor and option arguments
    backward_tensors: int = field(init=False)  # how many tensor arguments of the backward op
    outputs: int = field(init=False)  # how many gradients of outputs come first among them

    def __post_init__(self) -> None:
        tensors, options = argument_names(self.schema)
        options = options[:-1] if self.keep else options
        backward_tensors = len(argument_names(self.backward_schema)[0]) if self.backward_schema else 0
        derived = {
            "options": tuple(options),
            "tensors": len(tensors),
            "arguments": len(tensors) + len(options),
            "backward_tensors": backward_tensors,
            "outputs": backward_tensors - len(tensors) - self.residuals - len(self.kept_results),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def without_residuals(self, outputs: Any) -> Any:
        """What the public function sees of the forward op's outputs."""
        if not self.residuals:
            return outputs
        results = outputs[: -self.residuals]
        return results[0] if len(results) == 1 else results

    def run_reference(self, tensors: Sequence[Any], options: Sequence[Any]) -> Any:
        """The reference, in the dtype it is given, also inside an autocast region."""
        device_type = tensors[0].device.type
        with torch.autocast(device_type, enabled=False) if has_autocast(tensors[0]) else nullcontext():
            return self.reference(*tensors, **dict(zip(self.options, options, strict=True)))

    def run_reference_backward(self, args: Sequence[Any]) -> Sequence[Tensor | None]:
        """The reference backward of all arguments of the backward op."""
        assert self.reference_backward is not None
        options = dict(zip(self.options, args[self.backward_tensors : -1], strict=True))
        return self.reference_backward(*args[: self.backward_tensors], **options, grad_mask=args[-1])


REGISTRY: dict[str, OpSpec] = {}
NATIVE_DEVICES: dict[str, frozenset[str]] = {}  # op -> devices for which all its dispatcher ops have a native kernel


def argument_names(schema: str) -> tuple[list[str], list[str]]:
    """(tensor arguments, option arguments) of a schema, in order."""
    arguments = torch._C.parse_schema(f"{NAMESPACE}::{schema}").arguments
    tensors = [a.name for a in arguments if "Tensor" in str(a.type)]
    return tensors, [a.name for a in arguments if a.name not in tensors]


def dispatcher_op(name: str) -> Any:
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def define(schema: str, implementation: Callable[..., Any] | None, fake: Callable[..., Any]) -> None:
    """Defines one dispatcher op with its reference implementation (positional arguments), if any, and its fake."""
    name = schema.split("(", 1)[0]
    try:
        _library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise ImportError(f"cips3d_ext: the compiled libraries are of another version ({reason}); {REBUILD}") from None
    if implementation is not None:
        _library.impl(name, implementation, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{NAMESPACE}::{name}", fake, lib=_library)


def record_native(spec: OpSpec) -> None:
    names = [spec.name, *spec.helpers] + ([f"{spec.name}_backward"] if spec.backward_schema else [])
    NATIVE_DEVICES[spec.name] = frozenset(
        device for device in DEVICES if all(has_kernel(name, device) for name in names)
    )
    REGISTRY[spec.name] = spec


def has_kernel(name: str, device_type: str) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", device_type.upper())


def has_second(spec: OpSpec, gradients: Sequence[int], device_type: str) -> bool:
    """Whether a native kernel differentiates these gradients on a device."""
    return (
        bool(spec.second_schema)
        and set(gradients) <= set(spec.directions)
        and device_type in DEVICES
        and has_kernel(f"{spec.name}_second", device_type)
    )


def register(spec: OpSpec) -> None:
    """Registers a differentiable op and its backward op."""
    define_differentiable(spec)
    if spec.beyond is not None:
        name = parts_name(spec.name)
        schema, backward_schema = (text.replace(spec.name, name, 1) for text in (spec.schema, spec.backward_schema))
        define_differentiable(replace(spec, name=name, schema=schema, backward_schema=backward_schema))
    record_native(spec)


def parts_name(name: str) -> str:
    return f"{name}_of_parts"


def define_differentiable(spec: OpSpec) -> None:
    """The dispatcher op and its backward op, with what they run where no native kernel is, fakes and derivatives."""

    composed = replace(
        spec,
        reference=spec.of_parts or spec.reference,
        reference_backward=spec.of_parts_backward or spec.reference_backward,
    )

    def forward_kernel(*args: Any) -> Any:
        return composed.run_reference(args[: spec.tensors], args[spec.tensors : spec.arguments])

    def backward_kernel(*args: Any) -> tuple[Tensor, ...]:
        like = args[-1 - spec.arguments]
        return tuple(like.new_empty(0) if g is None else g.contiguous() for g in composed.run_reference_backward(args))

    def backward_fake(*args: Any) -> tuple[Tensor, ...]:
        inputs, mask = args[-1 - spec.arguments : -1], args[-1]
        like = inputs[0]
        targets = [inputs[of[0]] for of in spec.grad_of]
        return tuple(
            like.new_empty(0) if t is None or not mask >> i & 1 else t.new_empty(t.shape) for i, t in enumerate(targets)
        )

    def second_fake(*args: Any) -> tuple[Tensor, ...]:
        tensors = args[len(spec.directions) : -1 - len(spec.options)]
        targets = [tensors[i] for i in differentiated(spec)]
        return tuple(
            tensors[0].new_empty(0 if t is None or not args[-1] >> i & 1 else t.shape) for i, t in enumerate(targets)
        )

    define(spec.schema, forward_kernel, spec.fake)
    define(spec.backward_schema, backward_kernel, backward_fake)
    if spec.second_schema:
        define(spec.second_schema, None, second_fake)
    register_first_order(spec)
    register_second_order(spec)


def register_first_order(spec: OpSpec) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        residuals = output[-spec.residuals :] if spec.residuals else ()
        if residuals:
            absent = [result for result in output[: -spec.residuals] if result.shape == (0,)]
            ctx.mark_non_differentiable(*residuals, *absent)
            ctx.set_materialize_grads(False)  # no zeros of the residuals' sizes
        wanted = [any(ctx.needs_input_grad[j] for j in spec.grad_of[of]) for _, of in spec.kept_results]
        results = [output[i] if w else None for (i, _), w in zip(spec.kept_results, wanted, strict=True)]
        ctx.save_for_backward(*results, *residuals, *inputs[: spec.tensors])
        ctx.options = inputs[spec.tensors : spec.arguments]

    def backward(ctx: Any, *grad_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        needs = wanted_by_engine(ctx)
        result: list[Tensor | None] = [None] * len(needs)
        grad_outputs = grad_outputs[: spec.outputs]
        given = [i for i, grad in enumerate(grad_outputs) if grad is not None]
        passed = {of: grad_outputs[i] for of, i in spec.passed_on if given == [i]}
        mask = sum(1 << i for i, of in enumerate(spec.grad_of) if i not in passed and any(needs[j] for j in of))
        grads: Sequence[Tensor | None] = [None] * len(spec.grad_of)
        if given and mask:
            args = (*grad_outputs, *saved, *ctx.options, mask)
            wanted = [i for i in range(len(spec.grad_of)) if mask >> i & 1]
            composed = torch.is_grad_enabled() and not torch.compiler.is_compiling()
            if composed and not has_second(spec, wanted, saved[-spec.tensors].device.type):
                # create_graph: the reference's backward has a graph to differentiate; the kernel's would need it anew.
                grads = spec.run_reference_backward(args)
            else:
                grads = dispatcher_op(f"{spec.name}_backward")(*args)
        for i, of in enumerate(spec.grad_of):
            for j in of:
                result[j] = passed.get(i, grads[i]) if needs[j] else None
        return tuple(result)

    register_formula(spec.name, backward, setup_context)


def register_second_order(spec: OpSpec) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[: spec.backward_tensors])
        ctx.options = inputs[spec.backward_tensors :]

    def by_kernel(ctx: Any, needs: Sequence[bool], grad_grads: Sequence[Tensor | None]) -> tuple[Tensor | None, ...]:
        positions = differentiated(spec)
        mask = sum(1 << i for i, position in enumerate(positions) if needs[position])
        directions = [grad_grads[i] for i in spec.directions]
        found = dispatcher_op(f"{spec.name}_second")(*directions, *ctx.saved_tensors, *ctx.options[:-1], mask)
        result: list[Tensor | None] = [None] * len(needs)
        for position, grad in zip(positions, found, strict=True):
            result[position] = grad if needs[position] else None
        return tuple(result)

    def backward(ctx: Any, *grad_grads: Tensor | None) -> tuple[Tensor | None, ...]:
        needs = wanted_by_engine(ctx)
        given = [i for i, gg in enumerate(grad_grads) if gg is not None]
        if not torch.is_grad_enabled() and has_second(spec, given, ctx.saved_tensors[0].device.type):
            return by_kernel(ctx, needs, grad_grads)
        constants = range(spec.outputs, spec.backward_tensors - spec.tensors)
        with torch.enable_grad():  # aliases: the same tensor may be given twice
            tensors = [
                None if t is None else t.detach() if i in constants else t.view_as(t)
                for i, t in enumerate(ctx.saved_tensors)
            ]
            grads = spec.run_reference_backward((*tensors, *ctx.options))
        pairs = [
            (g, gg)
            for g, gg in zip(grads, grad_grads, strict=True)
            if g is not None and g.requires_grad and gg is not None
        ]
        wanted = [i for i, t in enumerate(tensors) if t is not None and needs[i] and t.requires_grad]
        result: list[Tensor | None] = [None] * len(needs)
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

    register_formula(f"{spec.name}_backward", backward, setup_context)


def differentiated(spec: OpSpec) -> list[int]:
    """Of the backward op's tensors those that have derivatives: the gradients it is given and the forward's own."""
    return [*range(spec.outputs), *range(spec.backward_tensors - spec.tensors, spec.backward_tensors)]


def register_formula(name: str, backward: Callable[..., Any], setup_context: Callable[..., None]) -> None:
    """What PyTorch's register_autograd does, for schemas without defaults and lists of tensors: that one looks for
    defaults at every call, in time that grows with the square of the arguments (torch 2.13)."""
    op = dispatcher_op(name)

    def below(*args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args)

    class Formula(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            output = below(*args)
            setup_context(ctx, args, output)
            ctx.are_tensors = [isinstance(arg, Tensor) for arg in args]
            return output

        @staticmethod
        def backward(ctx: Any, *grad_outputs: Any) -> Any:
            return backward(ctx, *grad_outputs)

    def differentiable(*args: Any) -> Any:
        wanted = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
        return Formula.apply(*args) if wanted else below(*args)

    Formula.__name__ = f"{name}_formula"
    _library.impl(name, differentiable, "Autograd")


def register_without_gradient(spec: OpSpec) -> None:
    """Registers an op none of whose inputs has a gradient."""
    define(spec.schema, lambda *args: spec.run_reference(args[: spec.tensors], args[spec.tensors :]), spec.fake)
    register_formula(spec.name, lambda ctx, *grads: (None,) * spec.arguments, lambda ctx, inputs, output: None)
    record_native(spec)


def reasons_against_native(name: str, device_type: str) -> list[str]:
    """Why `name` has no native kernel on a device; empty if it has one."""
    if device_type in NATIVE_DEVICES[name]:
        return []
    if runs_as_parts(name, device_type):
        return [f"{name} as a whole has no {device_type} kernel, its parts have: {', '.join(REGISTRY[name].parts)}"]
    if device_type not in DEVICES:
        return [f"there is no native kernel for device '{device_type}' (native: {', '.join(DEVICES)})"]
    return [native.problems.get(device_type, f"the loaded {device_type} library has no kernel for {name}; {REBUILD}")]


def runs_as_parts(name: str, device_type: str) -> bool:
    """Whether the native kernels of its parts stand in for a kernel of the op itself."""
    parts = REGISTRY[name].parts
    return bool(parts) and all(device_type in NATIVE_DEVICES[part] for part in parts)


def use_native(name: str, impl: str, tensor: Tensor) -> bool:
    """Whether a call takes the dispatcher op, or else the reference in plain autograd.

    Raises ValueError for an unknown impl, RuntimeError if "fused" cannot be had.
    """
    if impl not in IMPLS:
        raise ValueError(f"{name}: impl must be one of {IMPLS}, got {impl!r}")
    if impl == "reference":
        return False
    if tensor.device.type in NATIVE_DEVICES[name] or tensor.device.type == "meta":
        return True
    if impl == "fused":
        reasons = "; ".join(reasons_against_native(name, tensor.device.type))
        raise RuntimeError(
            f"{name}: impl='fused' is not possible: {reasons}. Use impl='auto' to fall back to "
            f"{'these' if runs_as_parts(name, tensor.device.type) else 'the reference'}."
        )
    return runs_as_parts(name, tensor.device.type)


def call(name: str, impl: str, tensors: tuple[Tensor | None, ...], options: tuple[Any, ...]) -> Any:
    """One call: the dispatcher op (a native kernel or its parts') or, in the same dtype, the reference in autograd."""
    first = tensors[0]
    assert first is not None
    spec = REGISTRY[name]
    if not use_native(name, impl, first):
        return spec.without_residuals(spec.run_reference(tensors, options))
    if spec.beyond and first.device.type in NATIVE_DEVICES[name]:
        reason = spec.beyond(first.device.type, tensors, options)
        if reason and impl == "fused":
            raise RuntimeError(
                f"{name}: impl='fused' is not possible: {reason}. Use impl='auto' to fall back to its parts."
            )
        if reason:
            return spec.without_residuals(dispatcher_op(parts_name(name))(*tensors, *options))
    if spec.keep:
        may_follow = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)
        options = (*options, spec.keep(tensors, options) if may_follow else "")
    return spec.without_residuals(dispatcher_op(name)(*tensors, *options))
