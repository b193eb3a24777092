"""What is read out of the compilers' reports, from recorded words."""

from __future__ import annotations

from kernelevo.build.diagnostics import LIMIT, TEXT_LIMIT, read_host, read_linker, read_nvcc, read_ptxas, trim
from kernelevo.build.resources import read_resources
from kernelevo.build.split import split, unchanged
from kernelevo.build.symbols import entries, own_name
from kernelevo.records import Diagnostic

SOURCE = "int a;\n\tfloat y = yy;\nvoid f() { k<<<1, 2>>>(g(zz)); }\n"


def places(diagnostics: list[Diagnostic]) -> list[tuple[str, int | None, int | None, str]]:
    return [(d.severity, d.line, d.column, d.text) for d in diagnostics]


def test_nvcc_messages_have_line_and_column() -> None:
    output = (
        '/candidate.cu(2): error: identifier "yy" is undefined\n'
        "   float y = yy;\n"
        "             ^\n\n"
        '/candidate.cu(1): warning #177-D: variable "a" was declared but never referenced\n'
        "  int a;\n"
        "      ^\n\n"
        'Remark: The warnings can be suppressed with "-diag-suppress <warning-number>"\n\n'
        '1 error detected in the compilation of "candidate.cu".\n'
    )
    assert places(read_nvcc(output, unchanged(SOURCE), "device")) == [
        ("error", 2, 12, 'identifier "yy" is undefined'),
        ("warning", 1, 5, 'variable "a" was declared but never referenced'),
    ]


def test_an_error_in_a_header_is_placed_where_the_candidate_led_there() -> None:
    output = (
        "/usr/include/thing.h(12): error: no operator matches\n"
        "    return a + b;\n"
        "             ^\n"
        "          detected during:\n"
        '            instantiation of "T add(T) [with T=X]" at line 44\n'
        '            instantiation of "void f<T>()" at line 3 of /candidate.cu\n'
    )
    (diagnostic,) = read_nvcc(output, unchanged(SOURCE), "device")
    assert (diagnostic.line, diagnostic.text) == (3, "thing.h: no operator matches")


def test_messages_of_the_preprocessor_and_of_nvcc_itself_are_read() -> None:
    output = "/candidate.cu:1:10: fatal error: mine.h: No such file or directory\ncompilation terminated.\n"
    assert places(read_nvcc(output, None, "device")) == [("error", 1, 10, "mine.h: No such file or directory")]
    output = "nvcc fatal   : Unsupported gpu architecture 'compute_91'\n"
    assert places(read_nvcc(output, None, "device")) == [
        ("error", None, None, "Unsupported gpu architecture 'compute_91'")
    ]


def test_host_columns_lead_through_the_rewriting_to_the_source() -> None:
    text = split(SOURCE).host
    rewritten = text.data.decode().splitlines()[2]
    column = rewritten.index("zz") + 1
    output = f"candidate.cu:3:{column}: error: use of undeclared identifier 'zz'\n"
    expected = SOURCE.splitlines()[2].index("zz") + 1
    assert column != expected
    assert places(read_host(output, text)) == [("error", 3, expected, "use of undeclared identifier 'zz'")]


def test_template_errors_of_both_host_compilers_are_placed() -> None:
    clang = (
        "/torch/include/x.h:7:3: error: no matching function\n"
        "/torch/include/y.h:9:3: note: in instantiation of member function requested here\n"
        "candidate.cu:2:4: note: in instantiation of function template specialization requested here\n"
    )
    gcc = "candidate.cu:2:4:   required from here\n/torch/include/x.h:7:3: error: no matching function\n"
    for output in (clang, gcc):
        assert places(read_host(output, unchanged(SOURCE))) == [("error", 2, 4, "x.h: no matching function")]


def test_ptxas_and_linker_messages_are_read() -> None:
    output = (
        "ptxas error   : Entry function '_Z1kPf' uses too much shared data (0x61a80 bytes, 0xc000 max)\n"
        "ptxas fatal   : Ptx assembly aborted due to errors\nptxas info    : 0 bytes gmem\n"
    )
    (diagnostic,) = read_ptxas(output)
    assert diagnostic.stage == "ptxas" and diagnostic.text.startswith("Entry function '_Z1kPf' uses too much")
    (diagnostic,) = read_linker("ld.lld: error: duplicate symbol: forward\n>>> defined in host.o\n")
    assert diagnostic.stage == "link" and diagnostic.text == "duplicate symbol: forward"


def test_long_messages_and_long_lists_are_cut_errors_first() -> None:
    output = f"candidate.cu:1:1: error: {'x' * 5000}\n"
    (diagnostic,) = read_host(output, None)
    assert len(diagnostic.text) <= TEXT_LIMIT + 4
    many = [
        Diagnostic(severity="warning" if i % 2 else "error", line=i, column=None, text="t", stage="host")
        for i in range(100)
    ]
    kept = trim([*many, *many])
    assert len(kept) == LIMIT and all(d.severity == "error" for d in kept)


REPORT = """\
ptxas info    : 0 bytes gmem, 16 bytes cmem[3]
ptxas info    : Compiling entry function '_Z1aPf' for 'sm_90'
ptxas info    : Function properties for _Z1aPf
    48 bytes stack frame, 12 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 48 bytes cumulative stack size, 1024 bytes smem, 368 bytes cmem[0]
ptxas info    : Compile time = 2.088 ms
ptxas info    : Compiling entry function 'plain' for 'sm_90'
ptxas info    : Function properties for plain
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 8 registers, used 0 barriers
"""


def test_resources_are_read_per_kernel() -> None:
    first, second = read_resources(REPORT)
    assert first.kernel == "_Z1aPf" and second.kernel == "plain"
    assert (first.registers, first.shared_bytes, first.local_bytes) == (255, 1024, 48)
    assert (first.spill_store_bytes, first.spill_load_bytes, first.constant_bytes) == (12, 20, 368)
    assert (second.registers, second.shared_bytes, second.local_bytes, second.constant_bytes) == (8, 0, 0, 0)
    assert read_resources("ptxas info    : 0 bytes gmem\n") == ()


def test_entries_are_found_with_every_linkage() -> None:
    ptx = ".visible .entry _Z1aPf(\n.weak .entry _Z1bIfEvPf(\n.entry hidden()\n// .entry in words\n.func (.reg) g(\n"
    assert entries(ptx) == {"_Z1aPf", "_Z1bIfEvPf", "hidden"}


def test_the_own_name_of_a_kernel_is_read_from_its_mangling() -> None:
    assert own_name("plain_name") == "plain_name"
    assert own_name("_Z5scalePf") == "scale"
    assert own_name("_Z5scaleIN3c104HalfEEvPT_") == "scale"
    assert own_name("_ZN2ns12_GLOBAL__N_15innerILi3EEEvPi") == "inner"
    assert own_name("_ZNK3c104cuda10CUDAStream6streamEv") == ""
