"""Static evidence about a candidate: what its source and its artifact show without running anything.

    forbidden(source)   -> errors: what no candidate may ask of the compiler
    source_key(source)  -> equal for sources that differ in comments and spaces only
    evidence(build)     -> what the artifact can reach, in words; told, and judged elsewhere

Text is weak evidence: names can be pasted together by macros. So `evidence` reads the symbols that the linked artifact
imports, whatever the source looks like; what is looked up by a string at run time shows as "dynamic loading".
"""

from __future__ import annotations

import re

from kernelevo.build.canonical import code_tokens
from kernelevo.build.python import is_python
from kernelevo.build.split import code_text
from kernelevo.build.symbols import imported_symbols
from kernelevo.records import Build, Diagnostic, digest

# What an artifact imports, and what that lets it do. Fragments of mangled names, as they are in the symbol table.
REACHES = {
    "side streams": r"cudaStreamCreate|getStreamFromPool",
    "CUDA graphs": r"cudaStreamBeginCapture|cudaGraphInstantiate|CUDAGraph",
    "host threads": r"^pthread_create$|^thrd_create$|_ZNSt6thread|GOMP_parallel|__kmpc_fork_call",
    "processes": r"^(v?fork|clone3?|exec[lv]p?e?|system|popen|posix_spawnp?)$",
    "network": r"^(socket|connect|bind|getaddrinfo)$",
    "files": r"^(f?open(64)?|openat(64)?|creat(64)?|memfd_create)$|_ZNSt1[34]basic_[io]?f",
    "dynamic loading": r"^(dl(m?open|v?sym)|dl_iterate_phdr|__libc_dlopen_mode)$",
    "memory protection": r"^(mprotect|pkey_mprotect|ptrace|process_vm_(readv|writev))$",
    "libraries of CUDA": r"^(cublas|cudnn|cusparse|cusolver|cufft|curand)",
    "the environment": r"^(secure_)?getenv$|^(un)?setenv$|^putenv$",
}
_DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(include|include_next|import|embed)\b[ \t]*(.*)$", re.MULTILINE)


def forbidden(source: str) -> tuple[Diagnostic, ...]:
    """Errors for what would read the machine's own files into the build; empty for every honest candidate.

    Headers are named relative to the include paths of the toolchain; a header named by a macro could be any file.
    """
    if is_python(source):
        return ()  # the CUDA source that is made of it is judged instead
    text = code_text(source)
    found = []
    for match in _DIRECTIVE.finditer(text):
        name = match[2].strip()
        if match[1] == "embed":
            why = "#embed reads a file into the kernel"
        elif not name.startswith(("<", '"')):
            why = f"#{match[1]} {name}: the header is named by a macro; name it plainly"
        elif name[1:].startswith(("/", "~")) or ".." in re.split(r"[/\\]", name[1:-1]):
            why = f"#{match[1]} {name}: a header outside the include paths; name a header of CUDA, PyTorch or C++"
        else:
            continue
        found.append(_error(text, match.start(), why))
    for match in re.finditer(r'"[^"\n]*(\.inc(?:bin|lude))\b', text):
        found.append(_error(text, match.start(), f"{match[1]} in assembly reads a file into the kernel"))
    return tuple(found)


def source_key(source: str) -> str:
    """A hash of the source without comments and without the spaces between its tokens."""
    text = source if "__LINE__" in source or is_python(source) else "\n".join(code_tokens(source))
    return digest(text, tag="s")


def evidence(build: Build) -> tuple[str, ...]:
    """What the artifact can reach beyond its own kernels, for example "side streams (cudaStreamCreate)"."""
    if build.artifact is None:
        return ()
    names = sorted(imported_symbols(build.artifact))
    reached = []
    for what, pattern in REACHES.items():
        seen = [name for name in names if re.search(pattern, name)]
        if seen:
            reached.append(f"{what} ({', '.join(seen[:3])})")
    return tuple(reached)


def _error(text: str, offset: int, why: str) -> Diagnostic:
    return Diagnostic(severity="error", line=text.count("\n", 0, offset) + 1, column=None, text=why, stage="static")
