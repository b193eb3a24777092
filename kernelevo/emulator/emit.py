"""LLVM IR for PTX values: an Emitter builds code for one value (lanes = 1) or one value per lane (lanes = 32).

Takes an llvmlite IRBuilder. Gives PTX types as LLVM types, constants, casts and the small pieces that instruction
rules (rules/) are made of. The same rule code works at both widths because every method is shape-polymorphic.
Knows nothing of instructions, registers, guards or control flow.

How PTX types are carried, per lane:

    pred                     i1
    b8..b64, u8..u64, s8..s64  an integer of that size; signedness belongs to the instruction, not the value
    f16                      half
    f32, tf32                float
    f64                      double
    bf16                     i16, the bit pattern
    f16x2, bf16x2            i32, the first element in the low half
    u16x2, s16x2, e4m3x2 ..  an integer of the size
    b128                     i128

Every operation rounds once and is never contracted: LLVM fuses only what is written as llvm.fma. The floating-point
environment must be the default one (round to nearest, denormals kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache

import llvmlite.binding as llvm
from llvmlite import ir

WARP = 32  # lanes of a warp

SIZES = {"pred": 1, "f16x2": 32, "bf16x2": 32, "u16x2": 32, "s16x2": 32, "tf32": 32, "e4m3": 8, "e5m2": 8,
         "e4m3x2": 16, "e5m2x2": 16}  # fmt: skip

_FLOATS = {"f16": ir.HalfType(), "f32": ir.FloatType(), "tf32": ir.FloatType(), "f64": ir.DoubleType()}


def size_of(ptx_type: str) -> int:
    """Bits of a PTX type: 32 for "s32", 1 for "pred", 32 for "bf16x2"."""
    return SIZES.get(ptx_type) or int(ptx_type.lstrip("bfsu"))


def element_type(ptx_type: str) -> ir.Type:
    """The LLVM type of one lane of `ptx_type`."""
    return _FLOATS.get(ptx_type) or ir.IntType(size_of(ptx_type))


def is_signed(ptx_type: str) -> bool:
    return ptx_type.startswith("s")


def host_features() -> frozenset[str]:
    """The LLVM names of the vector extensions of this machine, for Emitter(features=...)."""
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


def vector_constant(element: ir.Type, values: Iterable[int]) -> ir.Constant:
    """A constant vector of integers; made and written out once, as the same few come back all the time."""
    return _vector_constant(element, tuple(values))


@cache
def _vector_constant(element: ir.Type, values: tuple[int, ...]) -> ir.Constant:
    return ir.Constant(ir.VectorType(element, len(values)), list(values))


class Splat(ir.Constant):  # type: ignore[misc]  # llvmlite is untyped
    """A vector constant with the same scalar in every lane, written in LLVM's short form."""

    def __init__(self, scalar: ir.Constant, lanes: int) -> None:
        self.type = ir.VectorType(scalar.type, lanes)
        self.constant = scalar

    def _to_string(self) -> str:
        return f"{self.type} {self.get_reference()}"

    def _get_reference(self) -> str:
        return f"splat ({self.constant})"


class BitsConstant(ir.Constant):  # type: ignore[misc]  # llvmlite is untyped
    """A floating-point constant given by the bits of the f64 that LLVM writes it as."""

    def __init__(self, element: ir.Type, bits: int) -> None:
        self.type = element
        self.constant = bits

    def _get_reference(self) -> str:
        return f"0x{self.constant:016X}"


class Emitter:
    """Builds code at one width.

    builder: the llvmlite IRBuilder, positioned where the code goes.
    lanes: 1 gives scalars, n > 1 gives <n x T>.
    mask: <32 x i1>, the lanes that execute; only warp-wide rules read it.
    features: what the target machine was created with (see host_features); rules use AVX-512 forms only if named.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        lanes: int = 1,
        *,
        mask: ir.Value | None = None,
        features: frozenset[str] = frozenset(),
    ) -> None:
        self.builder = builder
        self.lanes = lanes
        self.mask = mask
        self.features = features
        self.touch: Callable[[ir.Value, int], ir.Value] | None = None
        """(addresses, bytes of an element) -> the addresses to use; called by rules that find addresses themselves"""

    def at(self, lanes: int) -> Emitter:
        """The same builder at another width."""
        return Emitter(self.builder, lanes, mask=self.mask, features=self.features)

    # --- types and constants

    def shape(self, element: ir.Type) -> ir.Type:
        """`element` at this width."""
        return element if self.lanes == 1 else ir.VectorType(element, self.lanes)

    def type_of(self, ptx_type: str) -> ir.Type:
        return self.shape(element_type(ptx_type))

    def const(self, ptx_type: str, value: int | float) -> ir.Constant:
        """`value` in every lane. For f16, f32 and f64 a number; for bf16 and integers the integer bits."""
        return self.constant(element_type(ptx_type), value)

    def constant(self, element: ir.Type, value: int | float) -> ir.Constant:
        if isinstance(element, ir.IntType):
            value = int(value)
            value &= (1 << element.width) - 1
            if element.width > 1 and value >> (element.width - 1):
                value -= 1 << element.width
        scalar = ir.Constant(element, value)
        if self.lanes == 1:
            return scalar
        return Splat(scalar, self.lanes)

    def float_bits(self, ptx_type: str, bits: int) -> ir.Value:
        """The f32 or f64 constant with this bit pattern, whatever the host does to subnormals and NaNs."""
        scalar = BitsConstant(element_type(ptx_type), widened(bits) if ptx_type == "f32" else bits)
        return scalar if self.lanes == 1 else Splat(scalar, self.lanes)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A scalar in every lane; a constant stays a constant."""
        if self.lanes == 1:
            return scalar
        vector = ir.VectorType(scalar.type, self.lanes)
        if isinstance(scalar, ir.Constant):
            return Splat(scalar, self.lanes)
        one = self.builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, ir.IntType(32)(0))
        zeros = self.vector(ir.IntType(32), [0] * self.lanes)
        return self.builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

    def vector(self, element: ir.Type, values: Sequence[int]) -> ir.Constant:
        """A constant <n x element> with one integer per lane, whatever this emitter's width."""
        return vector_constant(element, values)

    def known(self, value: ir.Value) -> int | None:
        """The integer every lane holds when `value` is a constant of one value, as when the operand is a literal."""
        if isinstance(value, Splat):
            value = value.constant
        if isinstance(value, ir.Constant) and isinstance(value.type, ir.IntType) and isinstance(value.constant, int):
            number: int = value.constant & ((1 << value.type.width) - 1)
            return number
        return None

    def stack_slot(self, value: ir.Value) -> ir.Value:
        """A copy of a vector in the frame as an array, to reach lanes that are only known at run time."""
        with self.builder.goto_entry_block():
            slot = self.builder.alloca(ir.ArrayType(value.type.element, value.type.count))
            slot.align = 64
        self.builder.store(value, self.builder.bitcast(slot, ir.PointerType(value.type)), align=64)
        return slot

    def stack_vector(self, slot: ir.Value) -> ir.Value:
        """The vector that a stack_slot holds now."""
        array = slot.type.pointee
        vector = ir.VectorType(array.element, array.count)
        return self.builder.load(self.builder.bitcast(slot, ir.PointerType(vector)), align=64)

    def lane_pointer(self, slot: ir.Value, lane: ir.Value) -> ir.Value:
        """The address of one lane of a stack_slot."""
        return self.builder.gep(slot, [ir.IntType(32)(0), lane])

    # --- casts

    def bits(self, value: ir.Value, ptx_type: str) -> ir.Value:
        """The same bits as another PTX type of the same size."""
        return self.bitcast(value, self.type_of(ptx_type))

    def bitcast(self, value: ir.Value, target: ir.Type) -> ir.Value:
        return value if value.type == target else self.builder.bitcast(value, target)

    def coerce(self, value: ir.Value, ptx_type: str, *, signed: bool = False) -> ir.Value:
        """The same bits as `ptx_type`, cut where it is smaller; where it is larger, zero- or sign-extended.

        For operands in registers of another type, and for results in registers wider than the type: PTX extends an
        s8 result in a 32-bit register by its sign.
        """
        target = element_type(ptx_type)
        own = self.element_of(value)
        if own == target:
            return value
        have, want = _width(own), _width(target)
        if not isinstance(own, ir.IntType):
            value = self.bitcast(value, self.shape(ir.IntType(have)))
        value = self.resize(value, want, signed=signed)
        return self.bitcast(value, self.shape(target))

    def resize(self, value: ir.Value, width: int, *, signed: bool) -> ir.Value:
        """An integer value truncated or extended to `width` bits."""
        have = self.element_of(value).width
        target = self.shape(ir.IntType(width))
        if have == width:
            return value
        if have > width:
            return self.builder.trunc(value, target)
        return self.builder.sext(value, target) if signed else self.builder.zext(value, target)

    def element_of(self, value: ir.Value) -> ir.Type:
        return value.type.element if isinstance(value.type, ir.VectorType) else value.type

    def to_f32(self, value: ir.Value, ptx_type: str) -> ir.Value:
        """f16, bf16, f32 or f64 (rounded to nearest) as f32."""
        target = self.type_of("f32")
        if ptx_type == "bf16":
            wide = self.builder.zext(value, self.type_of("b32"))
            return self.bitcast(self.builder.shl(wide, self.const("b32", 16)), target)
        if ptx_type == "f16":
            return self.builder.fpext(value, target)
        return value if value.type == target else self.builder.fptrunc(value, target)

    # --- calls and selections

    def intrinsic(self, name: str, result: ir.Type, *args: ir.Value, overloads: Sequence[ir.Type] = ()) -> ir.Value:
        """Call an LLVM intrinsic; `overloads` (the result type when empty) are mangled onto its name."""
        suffix = "".join("." + mangle(each) for each in (overloads or (result,)))
        return self.call(name + suffix, result, *args)

    def call(self, name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        """Call a function by its full name, declaring it in the module when new."""
        module = self.builder.module
        function = module.globals.get(name)
        if function is None:
            function = ir.Function(module, ir.FunctionType(result, [each.type for each in args]), name)
        return self.builder.call(function, args)

    def select(self, condition: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
        return self.builder.select(condition, yes, no)

    def is_nan(self, value: ir.Value) -> ir.Value:
        return self.builder.fcmp_unordered("uno", value, value)

    def class_test(self, value: ir.Value, classes: int) -> ir.Value:
        """llvm.is.fpclass: bits from 0 are sNaN qNaN -inf -normal -subnormal -0 +0 +subnormal +normal +inf."""
        result = self.type_of("pred")
        return self.call(f"llvm.is.fpclass.{mangle(value.type)}", result, value, ir.IntType(32)(classes))

    def abs(self, value: ir.Value) -> ir.Value:
        return self.intrinsic("llvm.fabs", value.type, value)

    def fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        return self.intrinsic("llvm.fma", a.type, a, b, c)

    # --- pieces of floating-point semantics

    def flush(self, value: ir.Value, ptx_type: str = "f32") -> ir.Value:
        """.ftz: a subnormal f32 or f16 becomes a zero of its sign."""
        bits_type = f"b{size_of(ptx_type)}"
        infinity = {"f16": 0x7C00, "f32": 0x7F800000}[ptx_type]
        bits = self.bits(value, bits_type)
        exponent = self.builder.and_(bits, self.const(bits_type, infinity))
        tiny = self.builder.icmp_unsigned("==", exponent, self.const(bits_type, 0))
        sign = self.builder.and_(bits, self.const(bits_type, 1 << size_of(ptx_type) - 1))
        return self.bits(self.select(tiny, sign, bits), ptx_type)

    def saturate(self, value: ir.Value, ptx_type: str) -> ir.Value:
        """.sat: clamped to [0.0, 1.0]; NaN becomes +0.0."""
        zero, one = self.const(ptx_type, 0.0), self.const(ptx_type, 1.0)
        positive = self.select(self.builder.fcmp_ordered(">", value, zero), value, zero)
        return self.select(self.builder.fcmp_ordered("<", positive, one), positive, one)


def widened(bits: int) -> int:
    """The bits of the f64 that equals an f32, without floating-point arithmetic."""
    sign, exponent, fraction = bits >> 31 << 63, bits >> 23 & 0xFF, bits & 0x7FFFFF
    if exponent == 0xFF:
        return sign | 0x7FF << 52 | fraction << 29
    if exponent == 0 and fraction:
        shift = 24 - fraction.bit_length()
        exponent, fraction = 1 - shift, fraction << shift & 0x7FFFFF
    elif exponent == 0:
        return sign
    return sign | exponent + 1023 - 127 << 52 | fraction << 29


def mangle(llvm_type: ir.Type) -> str:
    """The suffix LLVM gives an intrinsic for an overloaded type: v32f32, i64."""
    if isinstance(llvm_type, ir.VectorType):
        return f"v{llvm_type.count}{mangle(llvm_type.element)}"
    if isinstance(llvm_type, ir.IntType):
        return f"i{llvm_type.width}"
    if isinstance(llvm_type, ir.PointerType):
        return "p0"
    return {"half": "f16", "float": "f32", "double": "f64"}[str(llvm_type)]


def _width(element: ir.Type) -> int:
    return element.width if isinstance(element, ir.IntType) else {"half": 16, "float": 32, "double": 64}[str(element)]
