"""Reading CUDA source: what the syntax queries answer, and that edits land where they should."""

from __future__ import annotations

import pytest

from kernelevo.models.rewrites.shapes import Partition, Use, accesses, guard, partition, tree_reductions
from kernelevo.models.rewrites.syntax import (
    Edit,
    Function,
    Unit,
    apply_edits,
    canonical,
    constant,
    definition,
    field,
    find,
    fresh,
    loops,
    parse,
    text,
    written,
)


def kernel_with(body: str, parameters: str = "const float* x, float* y, int n, int m") -> tuple[Unit, Function]:
    unit = parse(f"constexpr int BLOCK = 128;\n__global__ void k({parameters}) {{\n{body}\n}}\n")
    return unit, unit.kernels[0]


def spelled(expression: str, before: str = "") -> str:
    unit, kernel = kernel_with(f"{before} int result = {expression};")
    value = definition(unit, kernel, "result")
    assert value is not None
    return canonical(unit, kernel, value)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("blockIdx.x * blockDim.x + threadIdx.x", "threadIdx.x + blockDim.x * blockIdx.x"),
        ("(n + m) + 1", "1 + (m + n)"),
        ("static_cast<int64_t>(n) * m", "(int64_t)m * n"),
        ("(n)", "n"),
        ("n * 0x10", "16 * n"),
        ("BLOCK * n", "n * 128"),
        ("n % warpSize", "n % 32"),
    ],
)
def test_expressions_that_are_equal_are_spelled_alike(one: str, other: str) -> None:
    assert spelled(one) == spelled(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("n - m", "m - n"), ("n / m", "m / n"), ("n + m * 2", "(n + m) * 2"), ("n << 1", "n >> 1"), ("x[n]", "y[n]")],
)
def test_expressions_that_differ_are_spelled_differently(one: str, other: str) -> None:
    assert spelled(one) != spelled(other)


def test_a_named_value_is_spelled_as_what_it_stands_for() -> None:
    assert spelled("tid + 1", "const int tid = threadIdx.x;") == spelled("threadIdx.x + 1")


def test_a_variable_that_changes_stands_for_itself() -> None:
    assert spelled("tid + 1", "int tid = threadIdx.x; tid += 32;") != spelled("threadIdx.x + 1")


@pytest.mark.parametrize(
    ("expression", "value"),
    [("128", 128), ("BLOCK", 128), ("BLOCK * 2 - 1", 255), ("1 << 5", 32), ("7 / 2", 3), ("n", None), ("1 / 0", None)],
)
def test_constants_are_known_before_run_time_or_not_at_all(expression: str, value: int | None) -> None:
    unit, kernel = kernel_with(f"int result = {expression};")
    found = definition(unit, kernel, "result")
    assert found is not None
    assert constant(unit, kernel, found) == value


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("int i = threadIdx.x; i < n; i += blockDim.x", Partition.BLOCK),
        ("int64_t i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += blockDim.x * gridDim.x", Partition.GRID),
        ("int i = threadIdx.x & 31; i < n; i += 32", Partition.WARP),
        ("unsigned int i = 0; i < n; ++i", Partition.NONE),
        ("int i = threadIdx.x + 1; i < n; i += blockDim.x", None),
        ("int i = threadIdx.x; i < n; i += 2 * blockDim.x", None),
        ("int i = threadIdx.y; i < n; i += blockDim.y", None),
    ],
)
def test_loops_are_known_by_who_shares_them(header: str, expected: Partition | None) -> None:
    unit, kernel = kernel_with(f"for ({header}) {{ y[i] = x[i]; }}")
    assert partition(unit, kernel, loops(kernel)[0]) is expected


@pytest.mark.parametrize(
    "loop",
    [
        "for (int i = n; i > 0; --i) { y[i] = 0; }",
        "for (int i = 0; i <= n; ++i) { y[i] = 0; }",
        "for (int i = 0; i < n; ++i) { y[i] = 0; i += 1; }",
        "for (int i = 0; i < n; ++i) { y[i] = 0; n = n - 1; }",
        "for (float i = 0; i < n; ++i) { y[0] = i; }",
        "for (;;) { break; }",
        "int i; for (i = 0; i < n; ++i) { y[i] = 0; }",
    ],
)
def test_loops_that_do_not_simply_count_up_are_not_read_as_counted(loop: str) -> None:
    _, kernel = kernel_with(loop)
    assert loops(kernel) == []


def accesses_of(body: str, parameters: str = "const float* x, float* y, int n, int m") -> dict[str, Use] | None:
    unit, kernel = kernel_with(f"for (int i = threadIdx.x; i < n; i += blockDim.x) {{ {body} }}", parameters)
    loop = loops(kernel)[0]
    found = accesses(unit, kernel, loop.statements, loop.variable)
    return None if found is None else {access.base: access.use for access in found}


def test_an_access_with_unit_stride_has_a_base_address() -> None:
    assert accesses_of("y[i] = x[m * n + i];") == {"y": Use.WRITE, "&x[(m * n)]": Use.READ}


def test_an_index_is_followed_through_variables_of_the_loop() -> None:
    assert accesses_of("const int j = m + i; y[i] += x[j];") == {"y": Use.UPDATE, "&x[m]": Use.READ}


@pytest.mark.parametrize("index", ["2 * i", "i * n", "-i", "i % 2", "i + i", "m - i", "i + i * m", "m"])
def test_an_index_without_unit_stride_is_no_access(index: str) -> None:
    assert accesses_of(f"y[i] = x[{index}];") == {"y": Use.WRITE}


def test_a_stored_array_that_is_reached_in_another_way_stops_everything() -> None:
    assert accesses_of("y[i] = x[i] + y[i + 1];") is None
    assert accesses_of("y[i] = x[i]; y[0] = 1;") is None
    assert accesses_of("y[i] = x[i] + *(y + 1);") is None


@pytest.mark.parametrize(
    "body",
    [
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) { y[i] = x[i]; }",
        "const int i = threadIdx.x + blockDim.x * blockIdx.x; if (i >= n) return; y[i] = x[i];",
        "int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; if (i < n) y[i] = x[i];",
    ],
)
def test_one_element_per_thread_is_recognised(body: str) -> None:
    unit, kernel = kernel_with(body)
    found = guard(unit, kernel)
    assert found is not None
    assert (found.index, text(found.bound)) == ("i", "n")


@pytest.mark.parametrize(
    "body",
    [
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) { y[i] = 1; } else { y[0] = 2; }",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n) { y[i] = 1; } y[0] = 2;",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; if (i <= n) { y[i] = 1; }",
        "int i = blockIdx.x * blockDim.x + threadIdx.x; i += 1; if (i < n) { y[i] = 1; }",
        "int i = blockIdx.y * blockDim.y + threadIdx.y; if (i < n) { y[i] = 1; }",
    ],
)
def test_anything_else_at_the_top_of_a_kernel_is_no_guard(body: str) -> None:
    unit, kernel = kernel_with(body)
    assert guard(unit, kernel) is None


TREE = """
    __shared__ float s[128];
    const int tid = threadIdx.x;
    float v = x[tid];
    s[tid] = v;
    __syncthreads();
    for (int h = blockDim.x / 2; h > 0; h >>= 1) {
        if (tid < h) { s[tid] = COMBINE; }
        __syncthreads();
    }
    y[0] = s[0];
"""


@pytest.mark.parametrize(
    ("combine", "operation"),
    [
        ("s[tid] + s[tid + h]", "sum"),
        ("s[tid + h] + s[tid]", "sum"),
        ("fmaxf(s[tid], s[h + tid])", "max"),
        ("min(s[tid + h], s[tid])", "min"),
    ],
)
def test_a_tree_reduction_is_recognised_with_its_operation(combine: str, operation: str) -> None:
    unit, kernel = kernel_with(TREE.replace("COMBINE", combine))
    assert [r.operation for r in tree_reductions(unit, kernel)] == [operation]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("COMBINE", "s[tid] - s[tid + h]"),
        ("COMBINE", "s[tid] + s[tid + h + 1]"),
        ("COMBINE", "s[tid] + s[h]"),
        ("h > 0", "h > 1"),
        ("h >>= 1", "h -= 1"),
        ("blockDim.x / 2", "blockDim.x / 4"),
        ("tid < h", "tid <= h"),
        ("        __syncthreads();\n    }", "    }"),
        ("= v;\n    __syncthreads();", "= v;"),
        ("const int tid = threadIdx.x", "const int tid = threadIdx.y"),
    ],
)
def test_a_reduction_that_is_not_that_tree_is_left_alone(old: str, new: str) -> None:
    source = TREE.replace(old, new).replace("COMBINE", "s[tid] + s[tid + h]")
    assert old in TREE
    unit, kernel = kernel_with(source)
    assert tree_reductions(unit, kernel) == []


def test_what_a_body_writes_includes_increments_and_addresses_taken() -> None:
    _, kernel = kernel_with("int a = 0, b = 0, c = 0; a += 1; ++b; f(&c); y[a] = x[b];")
    assert written(kernel.body) == {"a", "b", "c", "y"}


def test_edits_are_byte_ranges_even_after_letters_of_several_bytes() -> None:
    source = "// größer ≥ kleiner\nint a = 1;\n"
    literal = find(parse(source).root, "number_literal")[0]
    edited = apply_edits(source, [Edit(literal.start_byte, literal.end_byte, "2")])
    assert edited == "// größer ≥ kleiner\nint a = 2;\n"


def test_edits_that_overlap_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap"):
        apply_edits("abcdef", [Edit(0, 3, "x"), Edit(2, 4, "y")])


def test_a_fresh_name_is_not_in_the_file() -> None:
    unit = parse("int value; int value_2; struct s { int value_3; };")
    assert fresh(unit, "value") == "value_4"
    assert fresh(unit, "other") == "other"


def test_a_function_with_a_syntax_error_is_left_out_and_the_others_are_read() -> None:
    unit = parse("__global__ void good(int n) { n = 1; }\n__global__ void bad(int n) { n = = (; }\n")
    assert [k.name for k in unit.kernels] == ["good"]


def test_launches_know_their_kernel_configuration_and_host() -> None:
    unit = parse(
        "template <typename T> __global__ void k(T* x) { x[0] = 0; }\n"
        "void host(float* p) { k<float><<<1, 2, 3>>>(p); }\n"
    )
    (launch,) = unit.launches
    assert (launch.kernel, launch.host.name, [text(c) for c in launch.configuration]) == ("k", "host", ["1", "2", "3"])
    assert text(field(launch.node, "arguments")) == "(p)"
