"""A vector register as a number of numba's: with ``+ - *``, one lane for each of several fits."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model

_CPU = binding.get_host_cpu_features()
BYTES = 64 if _CPU.get("avx512f") else 32 if _CPU.get("avx") else 16
"""Size of a vector register of this machine."""


class Vector(types.Type):  # type: ignore[misc]
    """As many float32 or float64 as fill a register."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(name=f"Vector({kind})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc]
    """LLVM's own vector type."""

    def __init__(self, manager: Any, kind: Vector) -> None:
        lanes = 8 * BYTES // kind.kind.bitwidth
        scalar = manager.lookup(kind.kind).get_value_type()
        super().__init__(manager, kind, ir.VectorType(scalar, lanes))


def inlined(function: Callable[..., Any]) -> Any:
    """A function that compiled code calls, given as the instructions that it stands for."""
    return intrinsic(function)


def _place(context: Any, builder: Any, array_type: Any, array: Any, at_type: Any, at: Any) -> Any:
    """Pointer to the vector at ``array[at]``, or ``array[at, 0]`` where an index is left out."""
    fields = context.make_array(array_type)(context, builder, array)
    index = list(cgutils.unpack_tuple(builder, at, len(at_type)))
    if len(index) < array_type.ndim:
        index.append(context.get_constant(types.intp, 0))
    pointer = cgutils.get_item_pointer(context, builder, array_type, fields, index)
    vector = context.get_value_type(Vector(array_type.dtype))
    return builder.bitcast(pointer, vector.as_pointer())


def _bytes(array_type: Any) -> int:
    return int(array_type.dtype.bitwidth) // 8


@inlined
def load(typing: Any, array: Any, at: Any) -> Any:
    """The vector ``array[at]``; ``at`` is a tuple with an index for all axes but the last.

    With one for the last axis too, the vector begins there.
    """

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(
            _place(context, builder, array, args[0], at, args[1]), align=_bytes(array)
        )

    return Vector(array.dtype)(array, at), build


@inlined
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """``array[at] = value``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = _place(context, builder, array, args[0], at, args[1])
        builder.store(args[2], place, align=_bytes(array))
        return context.get_dummy_value()

    return types.void(array, at, value), build


@inlined
def spread(typing: Any, value: Any) -> Any:
    """A number in all lanes."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(context.get_value_type(signature.return_type), builder, args[0])

    return Vector(value)(value), build


def _spread(vector: Any, builder: Any, value: Any) -> Any:
    zero = ir.Constant(ir.IntType(32), 0)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, zero)
    order = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), order)


@inlined
def positive(typing: Any, value: Any) -> Any:
    """``max(value, 0)`` lane by lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[0].type, None)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[0], zero)

    return value(value), build


def _operator(function: Any, instruction: str) -> None:
    """Let ``function`` take two vectors, or a number and a vector."""

    @inlined
    def emit(typing: Any, a: Any, b: Any) -> Any:
        kind = a if isinstance(a, Vector) else b

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            vector = context.get_value_type(kind)
            sides = [
                value if isinstance(given, Vector) else _spread(vector, builder, value)
                for given, value in zip((a, b), args, strict=True)
            ]
            return getattr(builder, instruction)(*sides)

        return kind(a, b), build

    @overload(function, strict=False)
    def choose(a: Any, b: Any) -> Any:
        given = [t.kind if isinstance(t, Vector) else t for t in (a, b)]
        if (isinstance(a, Vector) or isinstance(b, Vector)) and given[0] == given[1]:
            return lambda a, b: emit(a, b)
        return None


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
