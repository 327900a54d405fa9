"""torch's operations as ONNX's: from what was traced of a network to a graph."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sil_cli.models.engines.onnx_file import Node
from sil_cli.models.engines.onnx_writer import Graph
from sil_cli.models.engines.tracing import ImageCount, TraceError, Value, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from sil_cli.models.engines.onnx_writer import Shape
    from sil_cli.models.engines.tracing import Call, Trace

PLAIN = {
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exp": "Exp",
    "log": "Log",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
    "erf": "Erf",
    "reciprocal": "Reciprocal",
    "hardswish": "HardSwish",
    "mish": "Mish",
    "softplus": "Softplus",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "div": "Div",
    "pow": "Pow",
    "mm": "MatMul",
    "bmm": "MatMul",
}
"""Operations that take tensors and numbers, and are the same in ONNX."""

SAME = ("clone", "contiguous", "detach", "alias", "lift_fresh", "dropout")
RESHAPED = ("view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "flatten", "unflatten")
LAST = 2**63 - 1
"""Where torch says that a slice ends that ends nowhere."""


def write_graph(trace: Trace, given: str, result: str, names: Mapping[int, str]) -> Graph:
    """The graph of a network.

    Args:
        trace: What it computes.
        given: How to call its input.
        result: How to call its output.
        names: Of its weights, by the identity of the tensor.

    Raises:
        TraceError: It has an operation that is not known here.
    """
    writer = _Writer(given, trace.given, names)
    for call in _needed(trace):
        writer.write(call)
    writer.finish(trace.result, result)
    return writer.graph


def _needed(trace: Trace) -> list[Call]:
    """The calls that the result depends on and that depend on the images or their number, in order."""
    wanted, needed = {trace.result.number}, []
    for call in reversed(trace.calls):
        if any(value.number in wanted and value.constant is None for value in call.results):
            needed.append(call)
            wanted.update(value.number for value in values_of(call))
    return needed[::-1]


class _Writer:
    """A graph under way: what each operation of torch adds to it."""

    def __init__(self, given: str, value: Value, names: Mapping[int, str]) -> None:
        self.graph = Graph(shapes={given: _shape(value)}, types={given: np.dtype(np.uint8)})
        self._given = given
        self._names = {value.number: given}
        self._weights = names
        self._count: Counter[str] = Counter()

    def write(self, call: Call) -> None:
        """Add an operation, whose first result is the only one that may be used but where it gives several alike."""
        if call.kind in SAME:
            self._names[call.results[0].number] = self.name(call.arguments[0])
            return
        made = self._made(call)
        for value, name in zip(call.results, made, strict=False):
            self._names[value.number] = name

    def finish(self, value: Value, name: str) -> None:
        """Give the result its name."""
        last = self.name(value)
        node = next(each for each in self.graph.nodes if last in each.outputs)
        self.graph.shapes[name] = self.graph.shapes.pop(last)
        node.outputs[node.outputs.index(last)] = name
        for each in self.graph.nodes:
            each.inputs[:] = [name if used == last else used for used in each.inputs]

    def name(self, value: Value) -> str:
        """What a tensor is called in the graph; a constant is put into it."""
        if value.number not in self._names:
            if value.constant is None:
                raise TraceError("it uses a result of an operation that is not written down")
            label = self._weights.get(id(value.constant)) or f"constant_{value.number}"
            self._names[value.number] = self.graph.constant(label, _array(value.constant))
        return self._names[value.number]

    def add(
        self,
        kind: str,
        inputs: Sequence[Any],
        shape: Shape,
        *,
        fractions: Mapping[str, float] | None = None,
        words: Mapping[str, str] | None = None,
        dtype: type[np.generic] = np.float32,
        **attributes: Sequence[int] | int,
    ) -> str:
        """Add a node with one output.

        Args:
            kind: ONNX's name for it.
            inputs: Names, values, arrays, or numbers, which become constants in float32.
            shape: Of what it gives.
            fractions: Attributes that are other than whole numbers.
            words: Attributes that are text.
            dtype: Of what it gives.
            attributes: Those that are whole numbers.

        Returns:
            The output's name.
        """
        self._count[kind] += 1
        output = f"{kind.lower()}_{self._count[kind]}"
        names = [self._input(each, f"{output}_{place}") for place, each in enumerate(inputs)]
        self.graph.nodes.append(Node(kind, names, [output], attributes, fractions or {}, words or {}))
        self.graph.shapes[output] = shape
        if dtype is not np.float32:
            self.graph.types[output] = np.dtype(dtype)
        return output

    def _input(self, given: Any, label: str) -> str:
        if isinstance(given, str):
            return given
        if isinstance(given, Value):
            return self.name(given)
        array = given if isinstance(given, np.ndarray) else np.array(given, dtype=np.float32)
        return self.graph.constant(label, array)

    def images_times(self, factor: int) -> str:
        """A tensor of one value, so many times the number of images."""
        count = self.add("Shape", [self._given], (1,), dtype=np.int64, start=0, end=1)
        if factor == 1:
            return count
        return self.add("Mul", [count, np.array([factor], dtype=np.int64)], (1,), dtype=np.int64)

    def sizes(self, sizes: Sequence[int | ImageCount]) -> str | NDArray[np.generic]:
        """Sizes as a tensor."""
        if not any(isinstance(size, ImageCount) for size in sizes):
            return _whole(*sizes)
        parts = [
            self.images_times(size.factor)
            if isinstance(size, ImageCount)
            else self._input(_whole(size), f"size_{size}")
            for size in sizes
        ]
        return self.add("Concat", parts, (len(sizes),), dtype=np.int64, axis=0)

    def _made(self, call: Call) -> Sequence[str]:
        """Add what an operation is in ONNX; the names of its results."""
        try:
            return self._rule(call)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as error:  # a form that no rule saw
            raise TraceError(f"it computes {call.kind} in a form for which there is no rule") from error

    def _rule(self, call: Call) -> Sequence[str]:
        if call.kind in PLAIN:
            return [self.add(PLAIN[call.kind], call.arguments, _shape(call.results[0]))]
        if call.kind in RESHAPED:
            return [_reshape(self, call)]
        if call.kind in SEVERAL:
            return SEVERAL[call.kind](self, call)
        if call.kind not in OPERATORS:
            raise TraceError(f"it computes {call.kind}, for which there is no rule")
        return [OPERATORS[call.kind](self, call)]


def _shape(value: Value) -> Shape:
    return tuple(_size(size) for size in value.shape)


def _size(size: int | ImageCount) -> int | str:
    if isinstance(size, ImageCount):
        return "batch" if size.factor == 1 else f"batch_times_{size.factor}"
    return size


def _array(tensor: Tensor) -> NDArray[np.generic]:
    if tensor.dtype in (torch.bool, torch.float64, torch.bfloat16, torch.float16):
        raise TraceError(f"it has constants of type {tensor.dtype}")
    array: NDArray[np.generic] = tensor.detach().cpu().contiguous().numpy()
    return array


def _whole(*numbers: Any) -> NDArray[np.generic]:
    return np.array(numbers, dtype=np.int64)


def _argument(call: Call, place: int, name: str, otherwise: Any = None) -> Any:
    """What was given at a place or by name."""
    if place < len(call.arguments):
        return call.arguments[place]
    return call.options.get(name, otherwise)


def _pair(numbers: Sequence[int]) -> list[int]:
    return list(numbers) * (2 // len(numbers))


def _axis(number: int, value: Value) -> int:
    return number % len(value.shape)


def _out(call: Call) -> Shape:
    return _shape(call.results[0])


def _reshape(writer: _Writer, call: Call) -> str:
    sizes = call.results[0].shape
    free = [size for size in sizes if isinstance(size, ImageCount)]
    wanted = (
        writer.sizes(sizes)
        if len(free) > 1
        else _whole(*(-1 if isinstance(size, ImageCount) else size for size in sizes))
    )
    return writer.add("Reshape", [call.arguments[0], wanted], _out(call))


def _sum_of(kind: str) -> Callable[[_Writer, Call], str]:
    def add(writer: _Writer, call: Call) -> str:
        first, second = call.arguments[:2]
        factor = call.options.get("alpha", 1)
        if factor != 1:
            second = (
                writer.add("Mul", [second, factor], _shape(second)) if isinstance(second, Value) else second * factor
            )
        return writer.add(kind, [first, second], _out(call))

    return add


def _convolution(writer: _Writer, call: Call) -> str:
    maps, weight, bias, stride, padding, dilation, transposed, _, groups = call.arguments
    if transposed or len(weight.shape) != 4:
        raise TraceError("it has convolutions of another kind than over two axes")
    inputs = [maps, weight] if bias is None else [maps, weight, bias]
    return writer.add(
        "Conv",
        inputs,
        _out(call),
        kernel_shape=list(weight.shape[2:]),
        strides=_pair(stride),
        pads=_pair(padding) * 2,
        dilations=_pair(dilation),
        group=groups,
    )


def _batch_norm(writer: _Writer, call: Call) -> str:
    """A norm by known statistics."""
    features, weight, bias, mean, variance, training, _, epsilon = call.arguments
    if training or mean is None:
        raise TraceError("it normalises by the statistics of a batch")
    channels = mean.shape[0]
    weight, bias = (
        np.full(channels, fill, np.float32) if each is None else each for each, fill in ((weight, 1), (bias, 0))
    )
    return writer.add(
        "BatchNormalization", [features, weight, bias, mean, variance], _out(call), fractions={"epsilon": epsilon}
    )


def _instance_norm(writer: _Writer, call: Call) -> str:
    features, channels = call.arguments[0], int(call.arguments[0].shape[1])
    mean = _argument(call, 1, "running_mean")
    weight, bias = (_argument(call, place, name) for place, name in ((3, "weight"), (4, "bias")))
    if mean is not None and not _argument(call, 5, "use_input_stats", otherwise=True):
        raise TraceError("it has an instance norm by known statistics")
    weight, bias = (
        np.full(channels, fill, np.float32) if each is None else each for each, fill in ((weight, 1), (bias, 0))
    )
    epsilon = _argument(call, 7, "eps", 1e-5)
    return writer.add("InstanceNormalization", [features, weight, bias], _out(call), fractions={"epsilon": epsilon})


def _layer_norm(writer: _Writer, call: Call) -> str:
    features, sizes, weight, bias, epsilon = call.arguments
    scale = np.ones(sizes, np.float32) if weight is None else weight
    inputs = [features, scale] if bias is None else [features, scale, bias]
    return writer.add("LayerNormalization", inputs, _out(call), axis=-len(sizes), fractions={"epsilon": epsilon})


def _linear(writer: _Writer, call: Call) -> str:
    features, weight, bias = (_argument(call, place, name) for place, name in enumerate(("input", "weight", "bias")))
    if weight.constant is None:
        raise TraceError("it multiplies by weights that it computes")
    label = f"{writer.name(weight)}_transposed"
    turned = writer.graph.constant(label, np.ascontiguousarray(_array(weight.constant).T))
    product = writer.add("MatMul", [features, turned], _out(call))
    return product if bias is None else writer.add("Add", [product, bias], _out(call))


def _addmm(writer: _Writer, call: Call) -> str:
    added, first, second = call.arguments
    return writer.add("Add", [writer.add("MatMul", [first, second], _out(call)), added], _out(call))


def _attention(writer: _Writer, call: Call) -> str:
    """softmax(Q Kᵀ scale + mask) V."""
    query, key, value = call.arguments[:3]
    mask = call.options.get("attn_mask")
    if _argument(call, 4, "is_causal", otherwise=False):
        raise TraceError("it has attention to what came before alone")
    scale = call.options.get("scale") or query.shape[-1] ** -0.5
    axes = [*range(len(key.shape) - 2), len(key.shape) - 1, len(key.shape) - 2]
    turned = writer.add("Transpose", [key], tuple(_shape(key)[axis] for axis in axes), perm=axes)
    scaled = writer.add("Mul", [query, scale], _shape(query))
    pairs = (*_shape(query)[:-1], _shape(key)[-2])
    scores = writer.add("MatMul", [scaled, turned], pairs)
    if mask is not None:
        scores = writer.add("Add", [scores, mask], pairs)
    return writer.add("MatMul", [writer.add("Softmax", [scores], pairs, axis=-1), value], _out(call))


def _added_product(writer: _Writer, call: Call) -> str:
    """addcmul: a + factor · b · c."""
    added, first, second = call.arguments
    product = writer.add("Mul", [first, second], _out(call))
    if (factor := call.options.get("value", 1)) != 1:
        product = writer.add("Mul", [product, factor], _out(call))
    return writer.add("Add", [added, product], _out(call))


def _softmax(writer: _Writer, call: Call) -> str:
    return writer.add("Softmax", call.arguments[:1], _out(call), axis=call.arguments[1])


def _max_pool(writer: _Writer, call: Call) -> str:
    kernel, strides, pads = _window(call)
    return writer.add(
        "MaxPool",
        call.arguments[:1],
        _out(call),
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=_pair(_argument(call, 4, "dilation") or [1]),
        ceil_mode=int(_argument(call, 5, "ceil_mode", otherwise=False)),
    )


def _average_pool(writer: _Writer, call: Call) -> str:
    kernel, strides, pads = _window(call)
    if _argument(call, 6, "divisor_override") is not None:
        raise TraceError("it divides a sum by another number than that of the values")
    return writer.add(
        "AveragePool",
        call.arguments[:1],
        _out(call),
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        ceil_mode=int(_argument(call, 4, "ceil_mode", otherwise=False)),
        count_include_pad=int(_argument(call, 5, "count_include_pad", otherwise=True)),
    )


def _window(call: Call) -> tuple[list[int], list[int], list[int]]:
    """Kernel, strides and margins of a pooling."""
    kernel = _pair(call.arguments[1])
    return kernel, _pair(_argument(call, 2, "stride") or kernel), _pair(_argument(call, 3, "padding") or [0]) * 2


def _adaptive_pool(writer: _Writer, call: Call) -> str:
    maps, wanted = call.arguments[0], _argument(call, 1, "output_size")
    sizes = _shape(maps)[2:]
    wanted = _pair([wanted] if isinstance(wanted, int) else wanted)
    wanted = [want or size for size, want in zip(sizes, wanted, strict=True)]
    if wanted == [1, 1]:
        return writer.add("GlobalAveragePool", [maps], _out(call))
    kernel = [int(size) // want for size, want in zip(sizes, wanted, strict=True)]
    if [size * want for size, want in zip(kernel, wanted, strict=True)] != list(sizes):
        raise TraceError("it pools maps to a size that does not divide theirs")
    return writer.add("AveragePool", [maps], _out(call), kernel_shape=kernel, strides=kernel)


def _reduction(kind: str, axes_at: int) -> Callable[[_Writer, Call], str]:
    def reduce(writer: _Writer, call: Call) -> str:
        axes = _argument(call, axes_at, "dim")
        if axes is None or axes == []:
            raise TraceError("it reduces over the images")
        axes = [axes] if isinstance(axes, int) else axes
        keep = bool(_argument(call, axes_at + 1, "keepdim", otherwise=False))
        return writer.add(kind, [call.arguments[0], _whole(*axes)], _out(call), keepdims=int(keep))

    return reduce


def _length(writer: _Writer, call: Call) -> str:
    if _argument(call, 1, "ord", 2) != 2:
        raise TraceError("it takes another norm than the Euclidean")
    return _reduction("ReduceL2", 2)(writer, call)


def _clip(writer: _Writer, call: Call) -> str:
    """Of `clamp`, `clamp_min` and `hardtanh`, which has limits of its own."""
    usual = (-1.0, 1.0) if call.kind == "hardtanh" else (None, None)
    least, most = _argument(call, 1, "min", usual[0]), _argument(call, 2, "max", usual[1])
    limits = ["" if limit is None else limit for limit in (least, most)]
    return writer.add("Clip", [call.arguments[0], *limits], _out(call))


def _silu(writer: _Writer, call: Call) -> str:
    features = call.arguments[0]
    return writer.add("Mul", [features, writer.add("Sigmoid", [features], _out(call))], _out(call))


def _hard_sigmoid(writer: _Writer, call: Call) -> str:
    return writer.add("HardSigmoid", call.arguments, _out(call), fractions={"alpha": 1 / 6, "beta": 0.5})


def _gelu(writer: _Writer, call: Call) -> str:
    return writer.add(
        "Gelu", call.arguments[:1], _out(call), words={"approximate": call.options.get("approximate", "none")}
    )


def _leaky(writer: _Writer, call: Call) -> str:
    return writer.add("LeakyRelu", call.arguments[:1], _out(call), fractions={"alpha": _argument(call, 1, "", 0.01)})


def _rsqrt(writer: _Writer, call: Call) -> str:
    return writer.add("Reciprocal", [writer.add("Sqrt", call.arguments, _out(call))], _out(call))


def _permuted(writer: _Writer, call: Call) -> str:
    given = call.arguments[0]
    axes = list(range(len(given.shape)))
    if call.kind == "permute":
        axes = [_axis(axis, given) for axis in call.arguments[1]]
    else:  # `t` exchanges the only two
        one, other = (_axis(axis, given) for axis in (call.arguments[1:] or (0, 1)))
        axes[one], axes[other] = other, one
    dtype = np.uint8 if given.dtype == torch.uint8 else np.float32
    return writer.add("Transpose", [given], _out(call), perm=axes, dtype=dtype)


def _expanded(writer: _Writer, call: Call) -> str:
    given, result = call.arguments[0], call.results[0]
    before = (1,) * (len(result.shape) - len(given.shape)) + tuple(given.shape)
    wanted = [1 if old == new else new for old, new in zip(before, result.shape, strict=True)]
    if set(wanted) <= {1} and len(given.shape) == len(result.shape):
        return writer.name(given)
    return writer.add("Expand", [given, writer.sizes(wanted)], _out(call))


def _sliced(writer: _Writer, call: Call) -> str:
    given, axis = call.arguments[0], _argument(call, 1, "dim", 0)
    start, end, step = (_argument(call, place, name, usual) for place, name, usual in SLICED)
    if given.shape == call.results[0].shape and step == 1:
        return writer.name(given)
    if isinstance(start, ImageCount) or isinstance(end, ImageCount):
        raise TraceError("it takes some of the images")
    limits = [_whole(start or 0), _whole(LAST if end is None else end), _whole(axis), _whole(step)]
    return writer.add("Slice", [given, *limits], _out(call))


SLICED = ((2, "start", 0), (3, "end", None), (4, "step", 1))


def _selected(writer: _Writer, call: Call) -> str:
    given, axis, index = call.arguments
    return writer.add("Gather", [given, np.array(index, dtype=np.int64)], _out(call), axis=_axis(axis, given))


def _joined(writer: _Writer, call: Call) -> str:
    parts = call.arguments[0]
    return writer.add("Concat", parts, _out(call), axis=_axis(_argument(call, 1, "dim", 0), parts[0]))


def _cast(writer: _Writer, call: Call) -> str:
    given, wanted = call.arguments[0], call.results[0].dtype
    if wanted == given.dtype:
        return writer.name(given)
    if wanted != torch.float32:
        raise TraceError(f"it computes in {wanted}")
    return writer.add("Cast", [given], _out(call), to=1)


def _padded(writer: _Writer, call: Call) -> str:
    given, margins = call.arguments[:2]
    pairs = [margins[place : place + 2] for place in range(0, len(margins), 2)][::-1]  # torch begins with the last axis
    pairs = [[0, 0]] * (len(given.shape) - len(pairs)) + pairs
    sides = _whole(*(pair[0] for pair in pairs), *(pair[1] for pair in pairs))
    return writer.add("Pad", [given, sides, float(_argument(call, 2, "value", 0.0))], _out(call))


def _rolled(writer: _Writer, call: Call) -> str:
    """Along each axis, the end comes before the beginning."""
    given, shifts, axes = call.arguments
    result, shape = given, _shape(given)
    for shift, axis in zip(shifts, axes, strict=True):
        start = given.shape[axis] - shift % given.shape[axis]
        pieces = [
            writer.add(
                "Slice", [result, _whole(first), _whole(last), _whole(axis)], (*shape[:axis], long, *shape[axis + 1 :])
            )
            for first, last, long in ((start, LAST, shift % given.shape[axis]), (0, start, start))
        ]
        result = writer.add("Concat", pieces, shape, axis=axis)
    return writer.name(result) if isinstance(result, Value) else result


def _repeated(writer: _Writer, call: Call) -> str:
    given, times = call.arguments
    ahead = len(times) - len(given.shape)
    if ahead:
        sizes = [1] * ahead + list(given.shape)
        given = writer.add("Reshape", [given, writer.sizes(sizes)], tuple(_size(size) for size in sizes))
    return writer.add("Tile", [given, writer.sizes(times)], _out(call))


def _filled(writer: _Writer, call: Call) -> str:
    """Of `zeros`, `ones` and `full`, as many as there are images."""
    value = {"zeros": 0.0, "ones": 1.0}.get(call.kind)
    filled = np.array([call.arguments[1] if value is None else value], dtype=np.float32)
    return writer.add("Expand", [filled, writer.sizes(call.arguments[0])], _out(call))


def _split(writer: _Writer, call: Call) -> Sequence[str]:
    """Of `split` and `split_with_sizes`, whose results lie one behind the other."""
    given, axis, start, made = call.arguments[0], _argument(call, 2, "dim", 0), 0, []
    for value in call.results:
        size = value.shape[axis]
        if isinstance(size, ImageCount):
            raise TraceError("it takes some of the images")
        limits = [_whole(start), _whole(start + size), _whole(axis)]
        made.append(writer.add("Slice", [given, *limits], _shape(value)))
        start += size
    return made


def _unbound(writer: _Writer, call: Call) -> Sequence[str]:
    given, axis = call.arguments[0], _axis(_argument(call, 1, "dim", 0), call.arguments[0])
    return [
        writer.add("Gather", [given, np.array(place, dtype=np.int64)], _shape(value), axis=axis)
        for place, value in enumerate(call.results)
    ]


OPERATORS: Mapping[str, Callable[[_Writer, Call], str]] = {
    "add": _sum_of("Add"),
    "sub": _sum_of("Sub"),
    "addcmul": _added_product,
    "addmm": _addmm,
    "convolution": _convolution,
    "native_batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "native_layer_norm": _layer_norm,
    "linear": _linear,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_softmax": _softmax,
    "_safe_softmax": _softmax,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_pool,
    "mean": _reduction("ReduceMean", 1),
    "sum": _reduction("ReduceSum", 1),
    "amax": _reduction("ReduceMax", 1),
    "linalg_vector_norm": _length,
    "clamp": _clip,
    "clamp_min": _clip,
    "hardtanh": _clip,
    "silu": _silu,
    "hardsigmoid": _hard_sigmoid,
    "gelu": _gelu,
    "leaky_relu": _leaky,
    "rsqrt": _rsqrt,
    "permute": _permuted,
    "transpose": _permuted,
    "t": _permuted,
    "expand": _expanded,
    "slice": _sliced,
    "select": _selected,
    "cat": _joined,
    "_to_copy": _cast,
    "constant_pad_nd": _padded,
    "roll": _rolled,
    "repeat": _repeated,
    "zeros": _filled,
    "ones": _filled,
    "full": _filled,
}
"""By torch's name, what adds an operation with one result to a graph, and gives the result's name."""

SEVERAL: Mapping[str, Callable[[_Writer, Call], Sequence[str]]] = {
    "split": _split,
    "split_with_sizes": _split,
    "unbind": _unbound,
}
"""Likewise with several."""
