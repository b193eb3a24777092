"""Declarations of torch for the device pass, taken from the installed torch's own headers.

Takes a candidate's source, gives three small files for include/device/kernelevo/tensor.h: the methods of Tensor, the
functions of namespace `at` and the standard headers that the source names. Parsing all of torch takes nvcc half a
minute; parsing the dozen declarations that a candidate uses takes nothing.

A word of the source is taken to be an operator wherever it stands: too many declarations do no harm. Operators outside
`at` (torch::nn, torch::linalg, ...) are not covered; the standard build is.
"""

from __future__ import annotations

import functools
import re
from collections import defaultdict
from pathlib import Path

METHODS_FILE = "kernelevo_tensor_methods.inc"
FUNCTIONS_FILE = "kernelevo_functions.inc"
STANDARD_HEADERS_FILE = "kernelevo_standard_headers.inc"

# Declared by hand in tensor.h, or of no use on the device.
_BY_HAND = """
    data data_ptr item contiguous cpu cuda index index_put_ size sizes stride strides backward grad requires_grad
    requires_grad_ from_blob tensor dim numel layout device dtype options is_leaf storage_offset is_complex
    is_floating_point is_signed is_meta nbytes itemsize
"""
# What torch/extension.h brings along and sources therefore use without including it.
_STANDARD_HEADERS = {
    "algorithm": "max min sort fill copy clamp max_element min_element swap reverse transform all_of any_of find",
    "array": "array",
    "atomic": "atomic",
    "chrono": "chrono",
    "cstdio": "printf fprintf snprintf puts FILE stderr",
    "cstdlib": "getenv exit abort malloc free abs",
    "cstring": "memcpy memset strcmp strlen",
    "functional": "function hash plus multiplies bind",
    "iostream": "cout cerr endl",
    "iomanip": "setprecision setw",
    "map": "map multimap",
    "memory": "unique_ptr shared_ptr make_unique make_shared",
    "mutex": "mutex lock_guard unique_lock once_flag call_once",
    "numeric": "accumulate iota partial_sum",
    "random": "mt19937 uniform_int_distribution normal_distribution random_device",
    "set": "set",
    "sstream": "stringstream ostringstream istringstream",
    "stdexcept": "runtime_error invalid_argument out_of_range logic_error",
    "thread": "thread",
    "unordered_map": "unordered_map",
    "unordered_set": "unordered_set",
    "variant": "variant",
}
_TYPE = r"(?:::std::tuple<[^>;(]*>|::std::vector<at::Tensor>|const at::Tensor &|[\w:]+(?: &)?)"
_METHOD = re.compile(rf"^  ({_TYPE} (\w+)\(.*\) const);", re.MULTILINE)
_FUNCTION = re.compile(rf"^inline ({_TYPE} (\w+)\(.*\)) \{{", re.MULTILINE)
_UNKNOWN_TYPES = re.compile(r"\b(Dimname|Storage|Stream|QuantizerPtr|intrusive_ptr|OptionalTensorRef)")


def declarations(source: str, torch_include: Path) -> dict[str, str]:
    """File name -> text, for the words of `source`."""
    words = frozenset(re.findall(r"\b[A-Za-z_]\w{0,99}\b", source))  # a longer one names no file
    methods = _methods(torch_include / "ATen" / "core" / "TensorBody.h")
    operators = sorted(words.difference(_BY_HAND.split()))
    member_lines = [line for word in operators for line in methods.get(word, ())]
    function_lines = [line for word in operators for line in _functions(torch_include / "ATen" / "ops", word)]
    headers = [name for name, uses in _STANDARD_HEADERS.items() if words.intersection(uses.split())]
    return {
        METHODS_FILE: "".join(f"{line};\n" for line in member_lines),
        FUNCTIONS_FILE: "".join(f"{line};\n" for line in function_lines),
        STANDARD_HEADERS_FILE: "".join(f"#include <{name}>\n" for name in headers),
    }


@functools.cache
def _methods(header: Path) -> dict[str, tuple[str, ...]]:
    """Method name -> declarations."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for declaration, name in _METHOD.findall(header.read_text()):
        if not _UNKNOWN_TYPES.search(declaration):
            found[name].append(declaration)
    return {name: tuple(dict.fromkeys(lines)) for name, lines in found.items()}


def _functions(folder: Path, word: str) -> list[str]:
    """Declarations of the functions named `word`."""
    base = re.sub(r"_(out|outf|symint)$", "", word)
    for name in dict.fromkeys((word, base)):
        header = folder / f"{name}.h"
        if header.is_file():
            found = [line for line, function in _FUNCTION.findall(header.read_text()) if function == word]
            return [line for line in dict.fromkeys(found) if not _UNKNOWN_TYPES.search(line)]
    return []
