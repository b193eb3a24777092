"""Floating-point formats in exact rational arithmetic: the independent computation that rules are tested against.

A value is a Fraction, or one of the strings "nan", "inf", "-inf", "-0".
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

Value = Fraction | str


@dataclass(frozen=True)
class Format:
    """A binary IEEE format."""

    size: int
    mantissa: int

    @property
    def bias(self) -> int:
        return (1 << self.size - self.mantissa - 2) - 1

    @property
    def infinity(self) -> int:
        return ((1 << self.size - 1 - self.mantissa) - 1) << self.mantissa

    def decode(self, bits: int) -> Value:
        """The value of a bit pattern."""
        sign = -1 if bits >> self.size - 1 else 1
        size = bits & ((1 << self.size - 1) - 1)
        if size >= self.infinity:
            return "nan" if size > self.infinity else ("-inf" if sign < 0 else "inf")
        exponent, fraction = size >> self.mantissa, size & ((1 << self.mantissa) - 1)
        if size == 0:
            return "-0" if sign < 0 else Fraction(0)
        if exponent:
            fraction |= 1 << self.mantissa
        power = max(exponent, 1) - self.bias - self.mantissa
        return sign * fraction * Fraction(2) ** power

    def encode(self, value: Value, mode: str = "rn", *, zero_sign: int = 0) -> int:
        """The bits of a value rounded in direction rn, rna, rz, rm or rp; zero_sign for an exact zero."""
        top = 1 << self.size - 1
        if isinstance(value, str):
            return {"nan": self.infinity + 1, "inf": self.infinity, "-inf": top | self.infinity, "-0": top}[value]
        if value == 0:
            return top if zero_sign else 0
        sign, size = (top, -value) if value < 0 else (0, value)
        power = size.numerator.bit_length() - size.denominator.bit_length()
        if Fraction(2) ** power > size:
            power -= 1
        power = max(power, 1 - self.bias)
        scaled = size / Fraction(2) ** (power - self.mantissa)
        whole = scaled.numerator // scaled.denominator
        rest = scaled - whole
        half = Fraction(1, 2)
        up = {"rn": rest > half or (rest == half and whole & 1), "rna": rest >= half, "rz": False,
              "rm": bool(sign) and rest > 0, "rp": not sign and rest > 0}[mode]  # fmt: skip
        whole += int(up)
        if whole >> self.mantissa == 0:
            return sign | whole
        bits = (power + self.bias - 1 << self.mantissa) + whole
        if bits >= self.infinity:
            away = mode in ("rn", "rna") or (mode == "rm" and sign) or (mode == "rp" and not sign)
            bits = self.infinity if away else self.infinity - 1
        return sign | bits


F16, BF16, F32, F64 = Format(16, 10), Format(16, 7), Format(32, 23), Format(64, 52)
FORMATS = {"f16": F16, "bf16": BF16, "f32": F32, "f64": F64}


def sign_of(value: Value) -> int:
    return int(value in ("-0", "-inf") or (isinstance(value, Fraction) and value < 0))


def _number(value: Value) -> Fraction:
    return Fraction(0) if isinstance(value, str) else value


def add(form: Format, a: Value, b: Value, mode: str) -> int:
    """Bits of a + b."""
    if "nan" in (a, b) or {a, b} == {"inf", "-inf"}:
        return form.encode("nan")
    for value in (a, b):
        if value in ("inf", "-inf"):
            return form.encode(value)
    both_minus = sign_of(a) and sign_of(b)
    mixed = sign_of(a) or sign_of(b)
    return form.encode(_number(a) + _number(b), mode, zero_sign=int(mixed if mode == "rm" else both_minus))


def multiply(a: Value, b: Value) -> Value:
    """a * b exactly."""
    sign = sign_of(a) ^ sign_of(b)
    if "nan" in (a, b):
        return "nan"
    if any(value in ("inf", "-inf") for value in (a, b)):
        return (
            "nan" if any(_number(v) == 0 and v not in ("inf", "-inf") for v in (a, b)) else ("-inf" if sign else "inf")
        )
    product = _number(a) * _number(b)
    return "-0" if product == 0 and sign else product


def divide(a: Value, b: Value) -> Value:
    """a / b exactly."""
    sign = sign_of(a) ^ sign_of(b)
    infinite = [value in ("inf", "-inf") for value in (a, b)]
    if "nan" in (a, b) or all(infinite):
        return "nan"
    zero, infinity = ("-0" if sign else Fraction(0)), ("-inf" if sign else "inf")
    if infinite[0]:
        return infinity
    if infinite[1]:
        return zero
    if _number(b) == 0:
        return "nan" if _number(a) == 0 else infinity
    return zero if _number(a) == 0 else _number(a) / _number(b)


def square_root(form: Format, a: Value, mode: str) -> int:
    """Bits of the root; the integer root keeps enough digits, plus one that stands for all others."""
    if a in ("nan", "-inf") or (sign_of(a) and a != "-0"):
        return form.encode("nan")
    if a in ("inf", "-0"):
        return form.encode(a)
    number = _number(a)
    shift = 2200
    scaled = (number.numerator << shift) // number.denominator
    root = isqrt(scaled)
    inexact = root * root * number.denominator != number.numerator << shift
    return form.encode(Fraction(2 * root + int(inexact), 2) / (1 << shift // 2), mode)


SPECIAL_F32 = (
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF, 0x807FFFFF, 0x00800000, 0x80800000, 0x00800001,
    0x01000000, 0x3F800000, 0xBF800000, 0x3F800001, 0x3F7FFFFF, 0x3F000000, 0x40000000, 0xC0400000, 0x34000000,
    0x33800000, 0xB3800000, 0x4B000000, 0x4B800001, 0x4F000000, 0xCF000000, 0x4EFFFFFF, 0x5F000000, 0x7F7FFFFF,
    0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0x477FE000, 0x477FF000, 0x38800000, 0x33000001, 0x3EAAAAAB,
    0x7E800000, 0x7F000000, 0x1F800000, 0x20000001,
)  # fmt: skip
SPECIAL_F64 = (
    0, 1 << 63, 1, (1 << 63) | 1, 0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x8010000000000000, 0x3FF0000000000000,
    0xBFF0000000000000, 0x3FF0000000000001, 0x3FEFFFFFFFFFFFFF, 0x3CA0000000000000, 0x3C90000000000001,
    0x4000000000000000, 0x4330000000000001, 0x43E0000000000000, 0xC3E0000000000000, 0x43DFFFFFFFFFFFFF,
    0x41DFFFFFFFC00000, 0x41E0000000000000, 0x7FEFFFFFFFFFFFFF, 0xFFEFFFFFFFFFFFFF, 0x7FF0000000000000,
    0xFFF0000000000000, 0x7FF8000000000000, 0x36A0000000000000, 0x3690000000000001, 0x47EFFFFFE0000000,
    0x47EFFFFFF0000000, 0x3810000000000000, 0x3FD5555555555555, 0x40EFFDFFFFFFFFFF, 0x3F10000000000000,
    0x3E60000000000001,
)  # fmt: skip
SPECIAL_F16 = (
    0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x0401, 0x3C00, 0xBC00, 0x3C01, 0x3BFF, 0x3800, 0x4000,
    0x4200, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x1400, 0x1001, 0x6400, 0x6401, 0x2AAA, 0x0C01, 0x7800, 0xD555,
    0x5BFF, 0x07FF,
)  # fmt: skip
SPECIAL_BF16 = (
    0x0000, 0x8000, 0x0001, 0x8001, 0x007F, 0x0080, 0x0081, 0x3F80, 0xBF80, 0x3F81, 0x3F7F, 0x3F00, 0x4000, 0xC040,
    0x7F7F, 0xFF7F, 0x7F80, 0xFF80, 0x7FC0, 0x3C00, 0x3B81, 0x4300, 0x4301, 0x3EAB, 0x1F80, 0x2001, 0x7E80, 0x0180,
    0x5F7F, 0x4EFF,
)  # fmt: skip
SPECIAL = {"f16": SPECIAL_F16, "bf16": SPECIAL_BF16, "f32": SPECIAL_F32, "f64": SPECIAL_F64}
