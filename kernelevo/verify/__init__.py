"""Verification: does a build compute its task? Takes a build, a device and cases; gives a Verdict, with reasons.

    smoke(task, build, device, ...)                       # the smallest cases, with every checker on (smoke.py)
    verify(task, build, device, cases=..., entropy=...)   # the verdict: integrity, shapes, values    (verdict.py)
    oracle_of(task)                                       # expected outputs, kept between candidates (oracle.py)
    toothless(task, cases)                                # what wrong kernels return and pass with   (teeth.py)

The rule for values, with its reasons, is in rule.py. Times are for measure/; nothing here loads candidate code.
"""

from kernelevo.verify.oracle import Oracle, oracle_of
from kernelevo.verify.smoke import smallest, smoke
from kernelevo.verify.teeth import toothless
from kernelevo.verify.verdict import verify

__all__ = ["Oracle", "oracle_of", "smallest", "smoke", "toothless", "verify"]
