"""The analysis of shapes: what it knows of thread indices, and random kernels in which a wrong shape would show.

A random kernel runs twice: converged code relies on shapes, diverged code (the counted variant) knows none. Without the
test for wrapping where indices are widened, or with a careless shift, a third of these seeds fail.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from kernelevo import emulator
from kernelevo.emulator import LaunchStatus, Variant
from kernelevo.emulator.shapes import LANES, ZERO, Shape, constant, thread_shapes

from .core_harness import pack

BLOCKS = [(32, 1), (128, 1), (16, 16), (8, 8, 2), (32, 4), (16, 4), (8, 4, 4), (24, 4), (4, 16), (33, 2), (2, 32, 2)]


def test_rows_of_a_block_are_seen() -> None:
    x, y, z = thread_shapes((256, 1, 1))
    assert x.offsets == LANES and (x.low, x.high, x.multiple) == (0, 255, 32)
    assert y == z == constant(0)
    x, y, _ = thread_shapes((32, 8, 1))
    assert x.offsets == LANES and x.multiple == 1 << 63 and y.uniform
    x, y, _ = thread_shapes((16, 16, 1))
    assert x.offsets == tuple(lane % 16 for lane in LANES) and y.even == 2
    assert y.divided(2).offsets == ZERO
    assert thread_shapes((24, 4, 1))[0].offsets is None


def test_a_shape_seen_from_more_leaders_describes_the_same_values() -> None:
    shape = Shape(tuple(3 * lane for lane in LANES), 1, 0, 1000, 8)
    quarters = shape.divided(4)
    leaders = [40 + 3 * lane for lane in range(0, 32, 8)]
    assert quarters.offsets
    assert [leaders[lane // 8] + quarters.offsets[lane] for lane in LANES] == [40 + 3 * lane for lane in LANES]
    assert quarters.multiple == 8


class RandomKernel:
    """PTX of integer operations, loops, branches, loads and shuffles, made to wrap, shift out and mask often."""

    PARAMETERS = 3
    CONSTANTS = (
        0,
        1,
        2,
        3,
        4,
        7,
        15,
        16,
        24,
        31,
        32,
        63,
        255,
        -1,
        -2,
        -16,
        -32,
        0x7FFFFFFF,
        -0x80000000,
        0x12345,
        1 << 27,
    )

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.lines: list[str] = []
        self.count = {"r": 0, "rd": 0, "p": 0}
        self.labels = 0
        self.values: list[str] = []
        for special in ("%tid.x", "%tid.y", "%tid.z", "%ctaid.x", "%ntid.x", "%laneid", "%nctaid.x"):
            self.values.append(self.define("r", f"mov.u32 {{}}, {special};"))
        self.first = len(self.values)
        for k in range(self.PARAMETERS):
            self.values.append(self.define("r", f"ld.param.u32 {{}}, [p{k}];"))
        self.data, self.out = (self.define("rd", f"ld.param.u64 {{}}, [{name}];") for name in ("data", "out"))
        self.variables = [self.define("r", f"mov.u32 {{}}, {self.rng.choice(self.values)};") for _ in range(4)]
        widened = [self.define("r", self.wide(self.rng.choice("us"), self.value(), self.value())) for _ in range(6)]
        self.statements(0, self.rng.randrange(15, 40))
        self.results = self.values[-16:] + self.variables + widened
        self.store()

    def define(self, kind: str, text: str) -> str:
        name = f"%{kind}{self.count[kind]}"
        self.count[kind] += 1
        self.lines.append(text.format(name))
        return name

    def value(self) -> str:
        return self.rng.choice(self.values[-14:] + self.values[: self.first] + self.variables)

    def source(self) -> str:
        return str(self.rng.choice(self.CONSTANTS)) if self.rng.random() < 0.4 else self.value()

    def condition(self) -> str:
        compare = self.rng.choice(("lt", "ge", "eq", "ne")) + "." + self.rng.choice(("s32", "u32"))
        return self.define("p", f"setp.{compare} {{}}, {self.value()}, {self.source()};")

    def statements(self, depth: int, count: int) -> None:
        for _ in range(count):
            chance = self.rng.random()
            if chance < 0.06 and depth < 3:
                self.branch(depth)
            elif chance < 0.12 and depth < 3:
                self.loop(depth)
            elif chance < 0.14:
                variable = self.rng.choice(self.variables)
                self.lines.append(f"@{self.condition()} add.s32 {variable}, {variable}, {self.source()};")
            else:
                self.operation(depth)

    def branch(self, depth: int) -> None:
        self.labels += 1
        label, kept = self.labels, list(self.values)
        self.lines.append(f"@{self.condition()} bra E{label};")
        self.statements(depth + 1, self.rng.randrange(1, 6))
        self.lines += [f"bra F{label};", f"E{label}:"]
        self.values = list(kept)
        self.statements(depth + 1, self.rng.randrange(0, 5))
        self.lines.append(f"F{label}:")
        self.values = kept
        if depth == 0 and self.rng.random() < 0.3:
            self.lines.append("bar.sync 0;")

    def loop(self, depth: int) -> None:
        self.labels += 1
        label, kept = self.labels, list(self.values)
        limit = self.define("r", f"and.b32 {{}}, {self.value()}, {self.rng.choice((1, 3, 7))};")
        counter = self.define("r", f"mov.u32 {{}}, {self.rng.choice(('0', limit, '1'))};")
        self.values.append(counter)
        self.lines.append(f"L{label}:")
        self.statements(depth + 1, self.rng.randrange(1, 6))
        self.lines.append(f"add.s32 {counter}, {counter}, 1;")
        if self.rng.random() < 0.3:
            self.lines.append(f"@{self.condition()} bra X{label};")
        again = self.define("p", f"setp.lt.s32 {{}}, {counter}, {self.rng.choice((limit, '5'))};")
        self.lines += [f"@{again} bra L{label};", f"X{label}:"]
        self.values = kept

    def operation(self, depth: int) -> None:
        rng, sign = self.rng, self.rng.choice("us")
        a, b, c = self.value(), self.source(), self.value()
        shift, divisor = rng.randrange(34), rng.choice((1, 2, 3, 8, 16, 24, 1000))
        text = rng.choice((
            f"add.s32 {{}}, {a}, {b};", f"sub.s32 {{}}, {a}, {b};", f"neg.s32 {{}}, {a};",
            f"mul.lo.s32 {{}}, {a}, {b};", f"mad.lo.s32 {{}}, {a}, {b}, {c};", f"shl.b32 {{}}, {a}, {shift};",
            f"shr.{sign}32 {{}}, {a}, {shift};", f"and.b32 {{}}, {a}, {b};", f"or.b32 {{}}, {a}, {b};",
            f"xor.b32 {{}}, {a}, {b};", f"div.{sign}32 {{}}, {a}, {divisor};", f"rem.{sign}32 {{}}, {a}, {divisor};",
            f"min.{sign}32 {{}}, {a}, {b};", f"max.{sign}32 {{}}, {a}, {b};", "select", "wide", "wide", "narrow",
            "load", "shuffle",
        ))  # fmt: skip
        if text == "select":
            text = f"selp.b32 {{}}, {a}, {c}, {self.condition()};"
        elif text == "wide":
            text = self.wide(sign, a, c)
        elif text == "narrow":
            kind = rng.choice(("u16", "s16", "u8", "s8"))
            self.lines.append(f"cvt.u16.u32 %h0, {a};")
            text = f"cvt.u32.{kind} {{}}, %h0;"
        elif text == "load":
            index = self.define("r", f"and.b32 {{}}, {a}, 1023;")
            place = self.define("rd", f"mul.wide.u32 {{}}, {index}, 4;")
            self.lines.append(f"add.s64 {place}, {place}, {self.data};")
            text = f"ld.global.u32 {{}}, [{place}];"
        elif text == "shuffle":
            mode = rng.choice(("idx", "bfly", "down", "up"))
            text = f"shfl.sync.{mode}.b32 {{}}, {a}, 3, 31, -1;" if depth == 0 else f"mov.u32 {{}}, {a};"
        if rng.random() < 0.2:
            self.lines.append(text.format(rng.choice(self.variables)))
        else:
            self.values.append(self.define("r", text))

    def wide(self, sign: str, a: str, c: str) -> str:
        """A 64-bit value of 32-bit ones, folded to 32 bits so that all of it shows."""
        if self.rng.random() < 0.6:  # lanes on both sides of where 32 bits end
            edge = self.rng.choice((0x7FFFFFF8, -8, -0x80000000, -4, 0x7FFFFFE0))
            a = self.define("r", f"add.s32 {{}}, {self.rng.choice(self.values[:2])}, {edge};")
        factor = self.rng.choice(("4", "12", "-4", "3", c))
        text = self.rng.choice((
            f"mul.wide.{sign}32 {{}}, {a}, {factor};", f"cvt.s64.{sign}32 {{}}, {a};",
            f"cvt.u64.{sign}32 {{}}, {a};",
        ))  # fmt: skip
        whole = self.define("rd", text)
        low = self.define("r", f"cvt.u32.u64 {{}}, {whole};")
        upper = self.define("rd", f"shr.u64 {{}}, {whole}, {self.rng.choice((16, 31, 32))};")
        high = self.define("r", f"cvt.u32.u64 {{}}, {upper};")
        return f"xor.b32 {{}}, {low}, {high};"

    def store(self) -> None:
        x, y, z, block, nx = self.values[:5]
        t, n = self.define("r", "mov.u32 {}, %ntid.y;"), self.define("r", "mov.u32 {}, %ntid.z;")
        self.lines.append(f"mul.lo.s32 {n}, {n}, {t}; mul.lo.s32 {n}, {n}, {nx}; mad.lo.s32 {t}, {z}, {t}, {y};")
        self.lines.append(f"mad.lo.s32 {t}, {t}, {nx}, {x}; mad.lo.s32 {t}, {block}, {n}, {t};")
        place = self.define("rd", f"mul.wide.u32 {{}}, {t}, {4 * len(self.results)};")
        self.lines.append(f"add.s64 {place}, {place}, {self.out};")
        self.lines += [f"st.global.u32 [{place}+{4 * k}], {value};" for k, value in enumerate(self.results)]
        self.lines.append("ret;")

    @property
    def text(self) -> str:
        parameters = [".param .u64 data", ".param .u64 out", *(f".param .u32 p{k}" for k in range(self.PARAMETERS))]
        registers = f".reg .b32 %r<{self.count['r']}>; .reg .b64 %rd<{self.count['rd']}>; .reg .b16 %h<1>;"
        return (
            ".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(" + ", ".join(parameters) + ")\n{\n"
            f"{registers} .reg .pred %p<{self.count['p'] + 1}>;\n" + "\n".join(self.lines) + "\n}\n"
        )


@pytest.mark.parametrize("seed", range(24))
def test_converged_code_computes_what_diverged_code_does(seed: int) -> None:
    kernel = RandomKernel(seed)
    rng = random.Random(seed)
    x, y, z = (*BLOCKS[seed % len(BLOCKS)], 1, 1)[:3]
    threads = 2 * x * y * z
    data = np.random.default_rng(seed).integers(-50, 2000, 1024).astype(np.int32)
    scalars = [np.int32(rng.choice((0, 1, 5, 64, 1000, -7, 0x7FFFFFF0, rng.getrandbits(31)))) for _ in range(3)]
    module = emulator.load_ptx(kernel.text, f"seed{seed}.ptx")
    found = []
    for variant in (Variant.COUNTED, Variant.FAST):
        out = np.zeros((threads, len(kernel.results)), np.int32)
        compiled = emulator.compile_kernel(module, "k", (x, y, z), variant)
        report = emulator.launch(
            compiled, (2, 1, 1), (x, y, z), 0, pack(data, out, *scalars), 1, time_limit_seconds=30
        )  # fmt: skip
        assert report.status is LaunchStatus.DONE, report.message
        found.append(out)
    np.testing.assert_array_equal(found[1], found[0])


def run_ptx(body: str, block: int, *arguments: np.ndarray | np.generic, parameters: str) -> None:
    """Runs a kernel `k` of one block; its out-pointer with 4 * thread added is %out, the thread %t."""
    text = (
        f".version 8.0\n.target sm_90\n.address_size 64\n.visible .entry k(.param .u64 out, {parameters})\n{{\n"
        ".reg .b16 %h<4>; .reg .b32 %r<9>, %t; .reg .b64 %rd<9>, %out; .reg .pred %p<4>;\n"
        "ld.param.u64 %rd8, [out]; mov.u32 %t, %tid.x; mad.wide.u32 %out, %t, 4, %rd8;\n" + body + "ret;\n}\n"
    )
    compiled = emulator.compile_kernel(emulator.load_ptx(text, "k.ptx"), "k", (block, 1, 1))
    report = emulator.launch(compiled, (1, 1, 1), (block, 1, 1), 0, pack(*arguments), 1, time_limit_seconds=30)
    assert report.status is LaunchStatus.DONE, report.message


@pytest.mark.parametrize("start", [5, 2**32 - 10, 2**33 + 7])
@pytest.mark.parametrize(("halves", "shift"), [("{_, %r1}", 32), ("{%r1, _}", 0)])
def test_half_of_a_register_is_not_the_whole_even_if_the_other_is_dropped(start: int, halves: str, shift: int) -> None:
    out = np.zeros(32, np.uint32)
    body = (
        "ld.param.u64 %rd1, [start]; cvt.u64.u32 %rd2, %t; add.s64 %rd3, %rd1, %rd2;\n"
        f"mov.b64 {halves}, %rd3; st.global.u32 [%out], %r1;\n"
    )
    run_ptx(body, 32, out, np.int64(start), parameters=".param .u64 start")
    np.testing.assert_array_equal(out, (start + np.arange(32) >> shift) % 2**32)


def test_relu_lifts_a_known_value_to_zero() -> None:
    out = np.full(32, 7, np.int32)
    body = "mov.b32 %r1, -5; min.relu.s32 %r2, %r1, -9; st.global.u32 [%out], %r2;\n"
    run_ptx(body, 32, out, np.int32(0), parameters=".param .u32 none")
    np.testing.assert_array_equal(out, np.zeros(32, np.int32))
