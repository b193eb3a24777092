"""Integer arithmetic, bit operations and shifts against Python integers."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelevo.emulator.emit import is_signed, size_of

from .rule_harness import CompiledRules, compile_forms

Python = Callable[..., int]


def wrap(value: int, kind: str) -> int:
    """`value` modulo 2^size as a value of the type."""
    size = size_of(kind)
    value &= (1 << size) - 1
    return value - (1 << size) if is_signed(kind) and value >> size - 1 else value


def limits(kind: str) -> tuple[int, int]:
    size = size_of(kind)
    return (-(1 << size - 1), (1 << size - 1) - 1) if is_signed(kind) else (0, (1 << size) - 1)


def clamp(value: int, kind: str) -> int:
    low, high = limits(kind)
    return min(max(value, low), high)


def truncated_quotient(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def unsigned(value: int, size: int) -> int:
    return value & (1 << size) - 1


# --- form -> (argument types, result type, Python meaning)

TABLE: dict[str, tuple[tuple[str, ...], str, Python]] = {}


def rule(form: str, arguments: str, result: str, meaning: Python) -> None:
    TABLE[form] = (tuple(arguments.split()), result, meaning)


KINDS = ("u16", "u32", "u64", "s16", "s32", "s64")
for kind in KINDS:
    wide = f"{kind[0]}{2 * size_of(kind)}"
    size = size_of(kind)
    two, three = f"{kind} {kind}", f"{kind} {kind} {kind}"
    rule(f"add.{kind}", two, kind, lambda a, b: a + b)
    rule(f"sub.{kind}", two, kind, lambda a, b: a - b)
    rule(f"mul.lo.{kind}", two, kind, lambda a, b: a * b)
    rule(f"mul.hi.{kind}", two, kind, lambda a, b, size=size: a * b >> size)
    rule(f"mad.lo.{kind}", three, kind, lambda a, b, c: a * b + c)
    rule(f"mad.hi.{kind}", three, kind, lambda a, b, c, size=size: (a * b >> size) + c)
    rule(f"div.{kind}", two, kind, lambda a, b: truncated_quotient(a, b) if b else -1)
    rule(f"rem.{kind}", two, kind, lambda a, b: a - b * truncated_quotient(a, b) if b else -1)
    rule(f"min.{kind}", two, kind, min)
    rule(f"max.{kind}", two, kind, max)
    rule(f"sad.{kind}", three, kind, lambda a, b, c: c + abs(a - b))
    rule(f"shr.{kind}", f"{kind} u32", kind, lambda a, n: a >> min(n, 64))
    if size < 64:
        rule(f"mul.wide.{kind}", two, wide, lambda a, b: a * b)
        rule(f"mad.wide.{kind}", f"{kind} {kind} {wide}", wide, lambda a, b, c: a * b + c)
    if is_signed(kind):
        rule(f"abs.{kind}", kind, kind, abs)
        rule(f"neg.{kind}", kind, kind, lambda a: -a)
for size in (16, 32, 64):
    kind, name = f"u{size}", f"b{size}"
    rule(f"and.{name}", f"{kind} {kind}", kind, lambda a, b: a & b)
    rule(f"or.{name}", f"{kind} {kind}", kind, lambda a, b: a | b)
    rule(f"xor.{name}", f"{kind} {kind}", kind, lambda a, b: a ^ b)
    rule(f"not.{name}", kind, kind, lambda a: ~a)
    rule(f"cnot.{name}", kind, kind, lambda a: int(a == 0))
    rule(f"shl.{name}", f"{kind} u32", kind, lambda a, n: a << min(n, 64))
    rule(f"shr.{name}", f"{kind} u32", kind, lambda a, n: a >> min(n, 64))
for size in (32, 64):
    kind, name = f"u{size}", f"b{size}"
    rule(f"popc.{name}", kind, "u32", lambda a: a.bit_count())
    rule(f"clz.{name}", kind, "u32", lambda a, size=size: size - a.bit_length())
    rule(f"brev.{name}", kind, kind, lambda a, size=size: int(f"{a:0{size}b}"[::-1], 2))
    for sign in ("u", "s"):
        typed = f"{sign}{size}"
        rule(f"bfind.{typed}", typed, "u32", lambda a: (~a if a < 0 else a).bit_length() - 1)
        rule(
            f"bfind.shiftamt.{typed}",
            typed,
            "u32",
            lambda a, size=size: size - (~a if a < 0 else a).bit_length() if (~a if a < 0 else a) else -1,
        )

        def bfe(a: int, position: int, length: int, size: int = size, sign: str = sign) -> int:
            """The loop of the ISA."""
            a, position, length, msb = unsigned(a, size), position & 0xFF, length & 0xFF, size - 1
            filler = 0 if sign == "u" or length == 0 else a >> min(position + length - 1, msb) & 1
            return sum(
                (a >> position + k & 1 if k < length and position + k <= msb else filler) << k for k in range(size)
            )

        rule(f"bfe.{typed}", f"{typed} u32 u32", typed, bfe)

    def bfi(a: int, b: int, position: int, length: int, size: int = size) -> int:
        position, length = position & 0xFF, length & 0xFF
        for k in range(length):
            if position + k < size:
                b = b & ~(1 << position + k) | (a >> k & 1) << position + k
        return b

    rule(f"bfi.{name}", f"{kind} {kind} u32 u32", kind, bfi)
rule("add.sat.s32", "s32 s32", "s32", lambda a, b: clamp(a + b, "s32"))
rule("sub.sat.s32", "s32 s32", "s32", lambda a, b: clamp(a - b, "s32"))
rule("mad.hi.sat.s32", "s32 s32 s32", "s32", lambda a, b, c: clamp((a * b >> 32) + c, "s32"))
rule("min.relu.s32", "s32 s32", "s32", lambda a, b: max(min(a, b), 0))
rule("max.relu.s32", "s32 s32", "s32", lambda a, b: max(a, b, 0))


def low24(a: int, kind: str) -> int:
    a &= 0xFFFFFF
    return a - (1 << 24) if kind == "s32" and a >> 23 else a


for kind in ("u32", "s32"):
    rule(f"mul24.lo.{kind}", f"{kind} {kind}", kind, lambda a, b, kind=kind: low24(a, kind) * low24(b, kind))
    rule(f"mul24.hi.{kind}", f"{kind} {kind}", kind, lambda a, b, kind=kind: low24(a, kind) * low24(b, kind) >> 16)
    rule(
        f"mad24.lo.{kind}",
        f"{kind} {kind} {kind}",
        kind,
        lambda a, b, c, kind=kind: low24(a, kind) * low24(b, kind) + c,
    )
rule(
    "mad24.hi.sat.s32",
    "s32 s32 s32",
    "s32",
    lambda a, b, c: clamp(wrap(low24(a, "s32") * low24(b, "s32") >> 16, "s32") + c, "s32"),
)


def funnel(a: int, b: int, n: int, *, left: bool, wrapped: bool) -> int:
    n = n & 31 if wrapped else min(n, 32)
    return (b << 32 | a) << n >> 32 if left else (b << 32 | a) >> n


for mode in ("clamp", "wrap"):
    rule(
        f"shf.l.{mode}.b32",
        "u32 u32 u32",
        "u32",
        lambda a, b, n, mode=mode: funnel(a, b, n, left=True, wrapped=mode == "wrap"),
    )
    rule(
        f"shf.r.{mode}.b32",
        "u32 u32 u32",
        "u32",
        lambda a, b, n, mode=mode: funnel(a, b, n, left=False, wrapped=mode == "wrap"),
    )
rule("bmsk.clamp.b32", "u32 u32", "u32", lambda a, b: ((1 << min(b, 32)) - 1) << min(a, 32))
rule("bmsk.wrap.b32", "u32 u32", "u32", lambda a, b: ((1 << (b & 31)) - 1) << (a & 31))


def bytes_of(word: int, size: int, kind: str) -> list[int]:
    return [wrap(word >> size * k, f"{kind[0]}{size}") for k in range(32 // size)]


for left, right in itertools.product(("u32", "s32"), repeat=2):
    out = "u32" if left == right == "u32" else "s32"
    rule(
        f"dp4a.{left}.{right}",
        f"{left} {right} {out}",
        out,
        lambda a, b, c, left=left, right=right: (
            c + sum(x * y for x, y in zip(bytes_of(a, 8, left), bytes_of(b, 8, right), strict=True))
        ),
    )
    for half in ("lo", "hi"):
        rule(
            f"dp2a.{half}.{left}.{right}",
            f"{left} {right} {out}",
            out,
            lambda a, b, c, left=left, right=right, half=half: (
                c
                + sum(
                    x * y
                    for x, y in zip(bytes_of(a, 16, left), bytes_of(b, 8, right)[2 * (half == "hi") :][:2], strict=True)
                )
            ),
        )


def lop3(table: int) -> Python:
    return lambda a, b, c: sum(
        (table >> ((a >> k & 1) << 2 | (b >> k & 1) << 1 | (c >> k & 1)) & 1) << k for k in range(32)
    )


for table in (0x00, 0xFF, 0x80, 0x96, 0xCA, 0xE8, 0x1B, 0x3C, 0xF8, 0x6A):
    rule(f"lop3.b32 r r r r #{table}", "u32 u32 u32", "u32", lop3(table))


def video(operation: str, count: int, kinds: tuple[str, str, str], modifier: str) -> Python:
    """vop4 and vop2 on whole words."""
    size = 32 // count
    part = f"{kinds[0][0]}{size}"

    def word(a: int, b: int, c: int) -> int:
        parts = [
            {"add": x + y, "sub": x - y, "absdiff": abs(x - y), "min": min(x, y), "max": max(x, y)}[operation]
            for x, y in zip(bytes_of(a, size, kinds[1]), bytes_of(b, size, kinds[2]), strict=True)
        ]
        if modifier == ".add":
            return c + sum(parts)
        parts = [clamp(each, part) if modifier == ".sat" else each for each in parts]
        return sum(unsigned(each, size) << size * k for k, each in enumerate(parts))

    return word


for operation, count, kinds, modifier in itertools.product(
    ("add", "sub", "absdiff", "min", "max"),
    (2, 4),
    (("u32", "u32", "u32"), ("s32", "s32", "s32"), ("s32", "u32", "s32")),
    ("", ".sat", ".add"),
):
    rule(
        f"v{operation}{count}{modifier}.{'.'.join(kinds)}",
        f"{kinds[1]} {kinds[2]} {kinds[0]}",
        kinds[0],
        video(operation, count, kinds, modifier),
    )


def prmt(a: int, b: int, control: int) -> int:
    pool = (b << 32 | a).to_bytes(8, "little")
    result = 0
    for place in range(4):
        nibble = control >> 4 * place & 15
        byte = pool[nibble & 7]
        if nibble & 8:
            byte = 0xFF if byte & 0x80 else 0
        result |= byte << 8 * place
    return result


rule("prmt.b32", "u32 u32 u32", "u32", prmt)
for control in (0x3210, 0x0123, 0x5410, 0x7632, 0x8888, 0x4CF1):
    rule(f"prmt.b32 r r r #{control}", "u32 u32", "u32", lambda a, b, control=control: prmt(a, b, control))
PRMT = {  # bytes d.b3 d.b2 d.b1 d.b0 for control 0..3, from the ISA's tables
    "f4e": ("3210", "4321", "5432", "6543"),
    "b4e": ("5670", "6701", "7012", "0123"),
    "rc8": ("0000", "1111", "2222", "3333"),
    "ecl": ("3210", "3211", "3222", "3333"),
    "ecr": ("0000", "1110", "2210", "3210"),
    "rc16": ("1010", "3232", "1010", "3232"),
}
for mode, words in PRMT.items():
    rule(f"prmt.b32.{mode}", "u32 u32 u32", "u32", lambda a, b, c, words=words: prmt(a, b, int(words[c & 3], 16)))


@pytest.fixture(scope="module")
def compiled() -> CompiledRules:
    return compile_forms([*TABLE, *CARRIES, *PACKED, *DIVISIONS])


SPECIAL = {
    size: sorted(
        {
            0,
            1,
            2,
            3,
            5,
            7,
            8,
            15,
            16,
            31,
            32,
            33,
            63,
            64,
            100,
            127,
            128,
            255,
            256,
            257,
            0xAAAA,
            0x1234,
            *((1 << size - 1) + d for d in (-2, -1, 0, 1)),
            *((1 << size) - d for d in (1, 2, 3, 7)),
            (1 << size // 2) - 1,
            (1 << size // 2),
            (1 << size // 2) + 1,
        }
    )
    for size in (16, 32, 64)
}


def columns_of(arguments: tuple[str, ...]) -> list[list[int]]:
    pools = [[wrap(each, kind) for each in SPECIAL[size_of(kind)]] for kind in arguments]
    rows = list(itertools.product(*(pool[::2] for pool in pools))) if len(pools) <= 2 else []
    rng = np.random.default_rng(len(arguments))
    for _ in range(400):
        row = []
        for kind, pool in zip(arguments, pools, strict=True):
            random = wrap(int.from_bytes(rng.bytes(8), "little") >> int(rng.integers(0, 60)), kind)
            row.append(pool[int(rng.integers(len(pool)))] if rng.random() < 0.5 else random)
        rows.append(tuple(row))
    return [list(column) for column in zip(*rows, strict=True)]


def as_array(values: list[int], kind: str) -> Any:
    return np.array(values, f"{'int' if is_signed(kind) else 'uint'}{size_of(kind)}")


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", TABLE)
def test_integer_instructions_match_python_integers(compiled: CompiledRules, form: str, lanes: int) -> None:
    arguments, result, meaning = TABLE[form]
    columns = columns_of(arguments)
    got = compiled(form, *(as_array(c, kind) for c, kind in zip(columns, arguments, strict=True)), lanes=lanes)
    expected = [wrap(meaning(*row), result) for row in zip(*columns, strict=True)]
    for place, (mine, want) in enumerate(zip(got.tolist(), expected, strict=True)):
        assert wrap(mine, result) == want, (form, [c[place] for c in columns], mine, want)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1), st.sampled_from(KINDS), st.sampled_from([1, 32])
)
def test_division_obeys_its_identity_for_any_operands(a: int, b: int, kind: str, lanes: int) -> None:
    rules = compile_forms([*TABLE, *CARRIES, *PACKED, *DIVISIONS])
    a, b = wrap(a, kind), wrap(b, kind)
    quotient, remainder = (
        int(rules(f"{op}.{kind}", as_array([a], kind), as_array([b], kind), lanes=lanes)[0]) for op in ("div", "rem")
    )
    if b == 0:
        assert quotient == remainder == wrap(-1, kind)
    else:
        assert wrap(quotient * b + remainder, kind) == a and abs(remainder) < abs(b)


DIVISIONS = [f"{op}.{kind} r r #{divisor}" for op in ("div", "rem") for kind in KINDS for divisor in (1, 3, 7, 64)]


@pytest.mark.parametrize("form", DIVISIONS)
def test_division_by_a_literal(compiled: CompiledRules, form: str) -> None:
    kind, divisor = form.split(maxsplit=1)[0].split(".")[1], int(form.split("#")[1])
    (column,) = columns_of((kind,))
    got = compiled(form, as_array(column, kind))
    op = TABLE[f"{form.split('.', maxsplit=1)[0]}.{kind}"][2]
    assert [int(each) for each in got] == [wrap(op(a, divisor), kind) for a in column]


CARRIES = [
    f"{op}{cc}.{kind}"
    for kind in ("u32", "s64")
    for op, cc in (
        ("add", ".cc"),
        ("addc", ""),
        ("addc", ".cc"),
        ("sub", ".cc"),
        ("subc", ""),
        ("subc", ".cc"),
        ("mad.lo", ".cc"),
        ("madc.hi", ""),
        ("madc.lo", ".cc"),
    )
]


@pytest.mark.parametrize("lanes", [32, 1])
@pytest.mark.parametrize("form", CARRIES)
def test_extended_precision_carries_in_and_out(compiled: CompiledRules, form: str, lanes: int) -> None:
    op, kind = form.split(".", maxsplit=1)[0], form.rsplit(".", 1)[-1]
    size, plain = size_of(kind), f"u{size_of(kind)}"
    count = 3 if op.startswith("mad") else 2
    columns = columns_of((plain,) * count)
    carry = [k % 2 for k in range(len(columns[0]))]
    inputs = [as_array(c, plain) for c in columns] + ([carry] if op.endswith("c") else [])
    got = compiled(form, *inputs, lanes=lanes)
    results, out = got if ".cc" in form else (got, None)
    for place, row in enumerate(zip(*columns, strict=True)):
        step = carry[place] if op.endswith("c") else 0
        if count == 3:
            signed = [wrap(each, kind) for each in row]
            product = signed[0] * signed[1]
            part = unsigned(product >> size if ".hi" in form else product, size)
            exact = part + row[2] + step
        else:
            exact = row[0] - row[1] - step if op.startswith("sub") else row[0] + row[1] + step
        assert unsigned(int(results[place]), size) == unsigned(exact, size), (form, row, step)
        if out is not None:
            assert out[place] == (not 0 <= exact < 1 << size), (form, row, step)


PACKED = [
    "add.u16x2",
    "max.s16x2",
    "min.relu.s16x2",
    "min.u16x2",
    "mov.b64 {2} r",
    "mov.b64 r {2}",
    "mov.b64 {4} r",
    "mov.b32 r {2}",
    "mov.b128 r {2}",
    "lop3.or.b32 d|p r r r #0x80 r",
]


@pytest.mark.parametrize("lanes", [32, 1])
def test_packed_operations_and_vectors_of_registers(compiled: CompiledRules, lanes: int) -> None:
    assert list(compiled("add.u16x2", [0xFFFF0001], [0x00010002], lanes=lanes)) == [0x00000003]
    assert list(compiled("max.s16x2", [0xFFFF0001], [0x00010002], lanes=lanes)) == [0x00010002]
    assert list(compiled("min.relu.s16x2", [0xFFFF0005], [0x00010002], lanes=lanes)) == [0x00000002]
    assert list(compiled("min.u16x2", [0xFFFF0001], [0x00010002], lanes=lanes)) == [0x00010001]
    whole = np.array([0x0123456789ABCDEF], np.uint64)
    assert [int(x[0]) for x in compiled("mov.b64 {2} r", whole, lanes=lanes)] == [0x89ABCDEF, 0x01234567]
    assert [int(x[0]) for x in compiled("mov.b64 {4} r", whole, lanes=lanes)] == [0xCDEF, 0x89AB, 0x4567, 0x0123]
    assert int(compiled("mov.b64 r {2}", [0x89ABCDEF], [0x01234567], lanes=lanes)[0]) == int(whole[0])
    assert int(compiled("mov.b32 r {2}", [0x5678], [0x1234], lanes=lanes)[0]) == 0x12345678
    result, some = compiled("lop3.or.b32 d|p r r r #0x80 r", [1, 1, 0], [1, 2, 0], [1, 3, 1], [0, 0, 1], lanes=lanes)
    assert result.tolist() == [1, 0, 0] and some.tolist() == [1, 0, 1]
