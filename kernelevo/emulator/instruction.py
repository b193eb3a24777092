"""PTX instructions and operands: what the parser gives, what the checks, the analysis and the rules take.

Every node knows its position in the PTX text; `source_line` is the line of the .cu file that the last `.loc`
named (None without -lineinfo). Nothing here knows what an instruction means.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a PTX file; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Register:
    """A virtual register declared by .reg, for example %r7."""

    name: str


@dataclass(frozen=True, slots=True)
class SpecialRegister:
    """A read-only special register, for example %tid.x or %laneid."""

    name: str


@dataclass(frozen=True, slots=True)
class Immediate:
    """A literal. Integers are Python ints as written (maybe negative); 0f and 0d literals are exact bit patterns."""

    bits: int | None  # of a 0f (32 bit) or 0d (64 bit) literal
    value: int | float  # integer literals: int; floating literals: the value
    is_float: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """The address of a variable, parameter or label by name, plus a constant offset in bytes."""

    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Address:
    """A memory operand [base+offset]; offset in bytes."""

    base: Register | Symbol | Immediate
    offset: int


@dataclass(frozen=True, slots=True)
class Vector:
    """{a, b, ...} as source or destination; "_" is None."""

    elements: tuple[Operand | None, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """d|p: a destination with a second, predicate destination (shfl, setp)."""

    first: Operand | None
    second: Operand | None


Operand = Register | SpecialRegister | Immediate | Symbol | Address | Vector | Pair


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: `@!guard opcode.modifier.type operands;`.

    `add.rn.ftz.f32` has opcode "add", modifiers ("rn", "ftz") and types ("f32",); `cvt.rn.f32.s32` has types
    ("f32", "s32"), destination first, as written; `ld.global.nc.v4.f32` has modifiers ("global", "nc", "v4").
    A part counts as a type when it is one of TYPES.
    """

    opcode: str
    modifiers: tuple[str, ...]
    types: tuple[str, ...]
    operands: tuple[Operand, ...]  # in the order of the text, destination first where there is one
    guard: Register | None
    guard_negated: bool
    position: Position
    source_line: int | None

    @property
    def form(self) -> str:
        """The full dotted form without operands, modifiers before types."""
        return ".".join((self.opcode, *self.modifiers, *self.types))


TYPES = frozenset(
    [
        "pred",
        *("b8", "b16", "b32", "b64", "b128"),
        *("u8", "u16", "u32", "u64", "u16x2"),
        *("s8", "s16", "s32", "s64", "s16x2"),
        *("f16", "f16x2", "bf16", "bf16x2", "tf32", "f32", "f64"),
        *("e4m3", "e5m2", "e4m3x2", "e5m2x2"),
    ]
)
