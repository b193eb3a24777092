"""What the splitting makes of a source."""

from __future__ import annotations

import re

import pytest

from kernelevo.build.split import SplitError, split, tokens


def host(source: str) -> str:
    return split(source).host.data.decode()


def device(source: str) -> str:
    return split(source).device.data.decode()


def squeezed(text: str) -> str:
    """One space for many, and no attribute that exports a kernel."""
    text = text.replace('__attribute__((noinline, used, visibility("default")))', "EXPORTED")
    return re.sub(r"\s+", " ", text).strip()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param(
            "void f() { k<<<g, b>>>(x, 1); }",
            "void f() { (::kernelevo::configure(g, b), k (x, 1)); }",
            id="plain",
        ),
        pytest.param(
            "void f() { ns::k<T, (N > 4)><<<n >> 2, b, s, stream>>>(x); }",
            "void f() { (::kernelevo::configure(n >> 2, b, s, stream), ns::k<T, (N > 4)> (x)); }",
            id="template",
        ),
        pytest.param(
            "void f() { if (a) k<<<1, b /* , c */>>>(x); else p<<<2,\n b // >>>\n>>>(x); }",
            "void f() { if (a) (::kernelevo::configure(1, b ), k (x)); else (::kernelevo::configure(2, b ), p (x)); }",
            id="comments in the configuration",
        ),
        pytest.param(
            "void f() { k<<<1, 2>>>(g(h<<<3, 4>>>(y))); }",
            "void f() { (::kernelevo::configure(1, 2), k (g((::kernelevo::configure(3, 4), h (y))))); }",
            id="nested",
        ),
        pytest.param(
            "void f() { DISPATCH(x.type(), [&] { k<scalar_t><<<1, 2>>>(x); }); }",
            "void f() { DISPATCH(x.type(), [&] { (::kernelevo::configure(1, 2), k<scalar_t> (x)); }); }",
            id="lambda in a macro's argument",
        ),
        pytest.param(
            "#define RUN(T) k<T><<<1, 2>>>( /* x */ \\\n x)\nvoid f() { RUN(int); }",
            "#define RUN(T) (::kernelevo::configure(1, 2), k<T> ( /* x */ \\ x)) void f() { RUN(int); }",
            id="macro",
        ),
        pytest.param(
            "__global__ void k(const float* __restrict__ x, int n) { x[threadIdx.x]; }",
            "EXPORTED __global__ void k(const float* __restrict__ x, int n) { ::kernelevo::enqueue(x, n); }",
            id="kernel",
        ),
        pytest.param(
            "template <class... T>\nstatic __global__ void __launch_bounds__(64) "
            "k(T... xs, float (*f)(int), A<2, 3> a) {}",
            "template <class... T> EXPORTED __global__ void __launch_bounds__(64) "
            "k(T... xs, float (*f)(int), A<2, 3> a) { ::kernelevo::enqueue(xs..., f, a); }",
            id="template kernel",
        ),
        pytest.param(
            "__global__ void k(void) { g(); }",
            "EXPORTED __global__ void k(void) { ::kernelevo::enqueue(); }",
            id="no parameters",
        ),
        pytest.param(
            "#define DEV __device__ inline\nDEV float g(float x) { return __expf(x); }\nint f();",
            "#define DEV __device__ inline int f();",
            id="device function behind a macro",
        ),
        pytest.param(
            "struct S { __device__ S() {} __host__ __device__ int g() { return 1; } int x; }; "
            "int f(S s) { return s.g(); }",
            "struct S { __host__ __device__ int g() { return 1; } int x; }; int f(S s) { return s.g(); }",
            id="member functions",
        ),
        pytest.param(
            "__host__ __device__ float g(float x) { return __expf(x); }\n__global__ void k() { g(1.f); }",
            "EXPORTED __global__ void k() { ::kernelevo::enqueue(); }",
            id="function for both sides that only the device calls",
        ),
        pytest.param(
            "constexpr __device__ int g() { return 8; }\nint x[g()];",
            "constexpr __device__ int g() { return 8; } int x[g()];",
            id="device constant that the host uses",
        ),
        pytest.param(
            "namespace { __global__ void k() {} } namespace a { namespace { int x; } }",
            "inline namespace _GLOBAL__N_1 { EXPORTED __global__ void k() { ::kernelevo::enqueue(); } } "
            "namespace a { inline namespace _GLOBAL__N_1 { int x; } }",
            id="unnamed namespaces",
        ),
        pytest.param(
            "static __constant__ float c[4]; static int d;",
            "__constant__ float c[4]; static int d;",
            id="device variables",
        ),
        pytest.param(
            'auto s = "k<<<1, 2>>>(x) __global__"; // k<<<1, 2>>>(x) __global__\nauto r = R"(<<<)"; int n = 1\'000;',
            'auto s = "k<<<1, 2>>>(x) __global__"; // k<<<1, 2>>>(x) __global__ auto r = R"(<<<)"; int n = 1\'000;',
            id="strings and comments",
        ),
        pytest.param(
            "__global__ void k(float*, int);\n__device__ float g(cg::tile<32> t);\n"
            "template __global__ void p<int>(int*);",
            "__global__ void k(float*, int); template __global__ void p<int>(int*);",
            id="declarations",
        ),
    ],
)
def test_the_host_text_is_what_a_host_compiler_can_take(source: str, expected: str) -> None:
    assert squeezed(host(source)) == squeezed(expected)


def test_an_unnamed_parameter_gets_a_name() -> None:
    text = squeezed(host("__global__ void k(int4, float* x, short = 7) {}"))
    names = re.findall(r"kernelevo_unnamed_\d+", text)
    assert len(names) == 4 and len(set(names)) == 2
    assert re.search(r"int4 (\w+), float\* x, short (\w+)= 7\) \{ ::kernelevo::enqueue\(\1, x, \2\)", text)


def test_the_device_text_changes_only_linkage() -> None:
    source = "namespace {\nstatic __global__ void k() {}\n}\nstatic int f() { k<<<1, 2>>>(); return 0; }\n"
    expected = source.replace("namespace", "inline namespace _GLOBAL__N_1 ").replace("static __g", "       __g")
    assert device(source) == expected


SAMPLE = """\
#define HD __host__ __device__
namespace {
HD int both(int x) {
  return x;
}
__device__ float only(float x) {
  return x;
}
__global__ void kernel(float* x) {
  x[0] = only(x[1]);
}  // kernel
}
int f(float* x) {
  kernel<<<
      both(1),
      2>>>(x); return marker;
}
"""


def test_every_line_stays_where_it_was() -> None:
    for text in (host(SAMPLE), device(SAMPLE)):
        assert text.count("\n") == SAMPLE.count("\n")
        assert text.splitlines()[-2].rstrip().endswith("return marker;")


def test_positions_in_the_texts_lead_back_to_the_source() -> None:
    parts = split(SAMPLE)
    lines = SAMPLE.splitlines()
    for text in (parts.host, parts.device):
        for number, line in enumerate(text.data.decode().splitlines(), 1):
            for word in ("marker", "both", "kernel<<<", "// kernel", "return x"):
                if word not in line:
                    continue
                row, column = text.place(number, line.index(word) + 1)
                assert column is not None
                assert lines[row - 1][column - 1 :].startswith(word), (word, number)


def test_lines_of_the_device_alone_are_known() -> None:
    assert split(SAMPLE).device_lines() == set(range(6, 12))


def test_the_kernels_are_named() -> None:
    source = "__global__ void a() {} namespace n { template <int N> __global__ void b() {} } __device__ void c() {}"
    assert split(source).kernels == {"a", "b"}


@pytest.mark.parametrize(
    ("source", "line", "reason"),
    [
        ("#define K(n) \\\n __global__ void n() {}\nK(k)", 2, "a kernel is defined by a macro"),
        ("int a;\n__managed__ float x;", 2, "__managed__"),
        ("void f() {\n auto g = [=] __device__ (int x) { return x; };\n}", 2, "extended lambda"),
        ("__global__ void k() {\n k<<<1, 1>>>();\n}", 2, "a launch from device code"),
        ("void f() {\n k<<<1, >>>(;\n}", 2, "launch"),
        ("int x;\n__global__\n", 2, "a kernel that the syntax tree does not hold"),
    ],
)
def test_what_cannot_be_split_with_certainty_is_refused_with_its_line(source: str, line: int, reason: str) -> None:
    with pytest.raises(SplitError, match=reason) as caught:
        split(source)
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('a "b" c', ["a", "c"]),
        ("'\"' a // b\n/* c */ d", ["a", "d"]),
        ('R"x( a )" )x" b', ["b"]),
        ("1e5f x 0x1F'00 y a<<<b", ["x", "y", "a", "<<<", "b"]),
        ("// a \\\n b\nc", ["c"]),
        ("/* never closed", []),
    ],
)
def test_tokens_are_found_outside_comments_strings_and_numbers(source: str, words: list[str]) -> None:
    assert [token.text.decode() for token in tokens(source.encode())] == words


def test_a_large_source_is_split_whole() -> None:
    kernel = "__global__ void k%d(float* x) { x[threadIdx.x] += 1.0f; }\nvoid f%d(float* x) { k%d<<<1, 2>>>(x); }\n"
    source = "".join(kernel % (i, i, i) for i in range(500))
    assert split(source).kernels == {f"k{i}" for i in range(500)}
