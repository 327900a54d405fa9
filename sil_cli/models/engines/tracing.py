"""What a network computes, as a list of torch's own operations, for any number of images.

The network runs twice, on two and on three images, while every operation is noted together with what it was given.
Both lists have to be the same but for whole numbers, and where those differ by the number of images, they stand for
it. Nothing is compiled and no package beside torch is needed, in contrast to `torch.export`, whose import alone takes
longer than a small network's training step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FEW, MORE = 2, 3
"""ImageCount that a network is run with; a single one would be taken for an axis to be stretched."""

WHOLE: Mapping[Callable[..., Any], str] = {
    F.linear: "linear",
    F.instance_norm: "instance_norm",
    F.adaptive_avg_pool2d: "adaptive_avg_pool2d",
}
"""Functions that are noted as they are called, and not as the operations that torch makes of them. Where another
function of torch's calls them, as attention does `linear`, it is the operations that are noted."""


class TraceError(Exception):
    """A network does what can't be written down as a fixed list of operations; says what."""


@dataclass(frozen=True)
class ImageCount:
    """So many times the number of images, where a whole number stands else."""

    factor: int


Size = int | ImageCount


@dataclass(frozen=True)
class Value:
    """A tensor under way.

    Attributes:
        number: Its own in this trace.
        shape: Of it.
        dtype: Of it.
        constant: Itself, where it depends neither on the images nor on their number.
    """

    number: int
    shape: tuple[Size, ...]
    dtype: torch.dtype
    constant: Tensor | None


@dataclass(frozen=True)
class Call:
    """An operation.

    Attributes:
        kind: torch's name for it, "convolution", whichever of its forms it was and whether in place or not.
        arguments: In torch's order; tensors are `Value`s, and numbers may be `ImageCount`.
        options: Those given by name.
        results: What came out.
    """

    kind: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    results: tuple[Value, ...]


@dataclass(frozen=True)
class Trace:
    """What a network computes: calls in their order, from what is given to the result."""

    calls: Sequence[Call]
    given: Value
    result: Value


def trace(network: nn.Module, example: Tensor) -> Trace:
    """Note what a network in eval mode does with images.

    Args:
        network: Takes one tensor and gives one, both with an axis of images first.
        example: One image, with that axis.

    Raises:
        TraceError: It does not the same for every number of images, or changes a tensor that others look at.
    """
    few, more = (_record(network, example, count) for count in (FEW, MORE))
    if _kinds(few) != _kinds(more):  # what a network keeps of its first pass it doesn't compute again
        few = _record(network, example, FEW)
    if _kinds(few) != _kinds(more):
        raise TraceError("it computes otherwise for another number of images")
    calls = [_joined(one, other) for one, other in zip(few.calls, more.calls, strict=True)]
    return Trace(calls, _joined(few.given, more.given), _joined(few.result, more.result))


def _kinds(found: Trace) -> list[str]:
    return [call.kind for call in found.calls]


def _record(network: nn.Module, example: Tensor, count: int) -> Trace:
    images = example.expand(count, *example.shape[1:]).clone()
    recorder = _Recorder()
    given = recorder.value(images, constant=False)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its fused operations are nobody else's
    try:
        with torch.no_grad(), recorder, _Functions(recorder):
            result = network(images)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return Trace(recorder.calls, given, recorder.value(result))


def _joined(one: Any, other: Any) -> Any:
    """What two runs noted as one, with `ImageCount` for numbers that differ as the numbers of images do."""
    if isinstance(one, Value):
        shape = _joined(one.shape, other.shape)
        return Value(one.number, shape, one.dtype, one.constant if one.shape == other.shape else None)
    if isinstance(one, Call):
        parts = (_joined(getattr(one, name), getattr(other, name)) for name in ("arguments", "options", "results"))
        return Call(one.kind, *parts)
    if isinstance(one, tuple | list):
        if len(one) != len(other):
            raise TraceError("it computes otherwise for another number of images")
        return type(one)(_joined(*pair) for pair in zip(one, other, strict=True))
    if isinstance(one, dict):
        return {name: _joined(value, other[name]) for name, value in one.items()}
    if one == other:
        return one
    if type(one) is type(other) is int and one * MORE == other * FEW:
        return ImageCount(one // FEW)
    raise TraceError(f"a number in it depends on that of the images: {one}, and {other} for one more")


@dataclass
class _Notes:
    """All tensors that were seen, kept so that no other gets the identity of one, by what they are now."""

    values: dict[int, Value] = field(default_factory=dict)
    kept: list[Tensor] = field(default_factory=list)
    sharing: dict[int, set[int]] = field(default_factory=dict)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what reaches torch's kernels."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        self.is_within = False
        self._notes = _Notes()
        self._count = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch.compile is told not to look into this, for which torch would import it, for two seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.is_within:
            return func(*args, **kwargs)
        name: str = func._schema.name.removeprefix("aten::")
        changed = [args[at] for at, each in enumerate(func._schema.arguments) if _is_written(each) and at < len(args)]
        return self.note(name.rstrip("_") if changed else name, func, args, kwargs, changed)

    def note(self, kind: str, function: Any, args: Any, kwargs: Any, changed: Sequence[Tensor] = ()) -> Any:
        """Call a function and note it, with what it was given and what came out."""
        arguments, options = self._noted(tuple(args)), self._noted(kwargs)
        for tensor in changed:
            self._refuse_change(tensor)
        before, self.is_within = self.is_within, True
        try:
            found = function(*args, **kwargs)
        finally:
            self.is_within = before
        results = found if isinstance(found, tuple | list) else [found]
        is_constant = all(value.constant is not None for value in _values_in([arguments, options]))
        made = tuple(self.value(each, constant=is_constant, anew=True) for each in results if isinstance(each, Tensor))
        self.calls.append(Call(kind, arguments, options, made))
        return found

    def value(self, tensor: Tensor, *, constant: bool = True, anew: bool = False) -> Value:
        """What a tensor is known as; one that no operation here made, such as a weight, is a constant."""
        known = self._notes.values.get(id(tensor))
        if known is not None and not anew:
            return known
        self._count += 1
        value = Value(self._count, tuple(tensor.shape), tensor.dtype, tensor if constant else None)
        self._notes.values[id(tensor)] = value
        self._notes.kept.append(tensor)
        self._notes.sharing.setdefault(tensor.untyped_storage().data_ptr(), set()).add(id(tensor))
        return value

    def _noted(self, given: Any) -> Any:
        if isinstance(given, Tensor):
            return self.value(given)
        if isinstance(given, tuple | list):
            return type(given)(self._noted(each) for each in given)
        if isinstance(given, dict):
            return {name: self._noted(each) for name, each in given.items()}
        return given

    def _refuse_change(self, tensor: Tensor) -> None:
        if self.value(tensor).constant is not None:
            raise TraceError("it changes its own values")
        if len(self._notes.sharing[tensor.untyped_storage().data_ptr()]) > 1:
            raise TraceError("it changes a tensor of which it has views")


class _Functions(TorchFunctionMode):
    """Has the functions of `WHOLE` noted before torch takes them to pieces."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        kind = WHOLE.get(func)
        if kind is None or self._recorder.is_within:
            return func(*args, **kwargs)
        return self._recorder.note(kind, func, args, kwargs)


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and argument.alias_info.is_write


def _values_in(given: Any) -> list[Value]:
    """All the values in arguments."""
    if isinstance(given, Value):
        return [given]
    parts = given.values() if isinstance(given, dict) else given if isinstance(given, tuple | list) else ()
    return [value for part in parts for value in _values_in(part)]


def values_of(call: Call) -> list[Value]:
    """All the values that an operation is given."""
    return _values_in([call.arguments, call.options])
