"""Device functions and types that rewrites put into a source, once each, before its first function."""

from __future__ import annotations

from dataclasses import dataclass

from kernelevo.models.rewrites.syntax import Edit, Unit, find, indented, names_of, text


@dataclass(frozen=True, slots=True)
class Added:
    """A definition that a rewrite needs: its name in this source, and the edits that add it (none when it is there)."""

    name: str
    edits: tuple[Edit, ...]


VECTOR = """\
// Neighbouring elements that one instruction moves. Their address must be a multiple of their size.
template <typename T, int width>
struct alignas(sizeof(T) * width) NAME {
    T lane[width];
};"""

WARP_REDUCE = """\
// The OPERATION of a value over the 32 threads of a warp, in each of them.
template <typename T>
__device__ T NAME(T value) {
    for (int offset = 16; offset > 0; offset /= 2) {
        const T other = __shfl_xor_sync(0xffffffffu, value, offset);
        COMBINE;
    }
    return value;
}"""

BLOCK_REDUCE = """\
// The OPERATION of a value over a block, in each of its threads, of which there are a multiple of 32. `partial` holds
// one value per warp.
template <typename T>
__device__ T NAME(T value, T* partial) {
    value = WARP(value);
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = value;
    }
    __syncthreads();
    return WARP(partial[threadIdx.x % 32 < blockDim.x / 32 ? threadIdx.x % 32 : 0]);
}"""

COMBINE = {
    "sum": "value += other",
    "max": "value = max(value, other)",
    "min": "value = min(value, other)",
}


def vector_type(unit: Unit) -> Added:
    """template <typename T, int width> struct Vector."""
    return _add(unit, "Vector", VECTOR)


def warp_reduce(unit: Unit, operation: str) -> Added:
    """T warp_sum(T value), warp_max, warp_min."""
    code = WARP_REDUCE.replace("OPERATION", operation).replace("COMBINE", COMBINE[operation])
    return _add(unit, f"warp_{operation}", code)


def block_reduce(unit: Unit, operation: str) -> Added:
    """T block_sum(T value, T* partial), block_max, block_min."""
    warp = warp_reduce(unit, operation)
    code = BLOCK_REDUCE.replace("OPERATION", operation).replace("WARP", warp.name)
    if operation == "sum":  # a partial sum must not be counted twice
        code = code.replace(
            f"{warp.name}(partial[threadIdx.x % 32 < blockDim.x / 32 ? threadIdx.x % 32 : 0])",
            f"{warp.name}(threadIdx.x % 32 < blockDim.x / 32 ? partial[threadIdx.x % 32] : T(0))",
        )
    block = _add(unit, f"block_{operation}", code, after=warp.name)
    return Added(block.name, warp.edits + block.edits)


def _add(unit: Unit, name: str, code: str, *, after: str = "") -> Added:
    """The code under that name, before the first function, or after the definition of another name.

    Where something else has the name already, the name gets a number.
    """
    number = 1
    chosen = name
    definitions = find(unit.root, "function_definition", "struct_specifier", "class_specifier")
    while chosen in names_of(unit.root):
        wanted = _compact(code.replace("NAME", chosen).partition("template <typename T")[2])
        if any(_defines(text(d), wanted) for d in definitions):
            return Added(chosen, ())
        number += 1
        chosen = f"{name}_{number}"
    before = next((f for f in unit.functions if f.name == after), None)
    place = before.outer if before is not None else unit.functions[0].first
    column = " " * place.start_point.column
    block = indented(code.replace("NAME", chosen), column)
    if before is not None:
        return Added(chosen, (Edit(place.end_byte, place.end_byte, f"\n\n{block}"),))
    return Added(chosen, (Edit(place.start_byte, place.start_byte, f"{block.lstrip()}\n\n{column}"),))


def _compact(code: str) -> str:
    return "".join(code.split())


def _defines(definition: str, wanted: str) -> bool:
    """Whether a definition, without its template header and comments, is the wanted code."""
    return wanted.rstrip(";").endswith(_compact(definition).rstrip(";")) and len(definition) > 40
