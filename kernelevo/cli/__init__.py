"""The command line. The only place that prints or exits; one file per command group.

Exit codes: 0 done (for `evaluate`: passed), 1 judged and not passed, 2 could not do it, 130 interrupted.
"""

from __future__ import annotations

import sys
import traceback

import typer

from kernelevo.errors import KernelevoError

app = typer.Typer(
    name="kernelevo",
    help="Evolves CUDA kernels for PyTorch operations: proposed, built, proven, timed and archived.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)


def complete() -> typer.Typer:
    """The app with all its commands."""
    from kernelevo.cli import (
        agents,
        archive,
        bench,
        browse,
        care,
        compare,
        doctor,
        emulator,
        evaluate,
        evolve,
        export,
        metrics,
        prompt,
        report,
        runs,
        tasks,
        verify,
    )

    groups = (
        evolve,
        runs,
        agents,
        compare,
        prompt,
        evaluate,
        verify,
        tasks,
        archive,
        care,
        browse,
        report,
        export,
        metrics,
        doctor,
        bench,
        emulator,
    )
    for group in groups:
        group.register(app)
    return app


def main() -> None:
    """Entry point of the console script: user errors end with their next step, never with a traceback."""
    try:
        complete()()
    except KernelevoError as error:
        print(f"kernelevo: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("kernelevo: interrupted; what was recorded is kept", file=sys.stderr)
        sys.exit(130)
    except OSError as error:  # a full disk, a folder that cannot be written: the machine's state, in its own words
        print(
            f"kernelevo: {error}\n  next: free the space or the right that is missing; nothing recorded is lost",
            file=sys.stderr,
        )
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        print("kernelevo: this is a defect of kernelevo, not of yours: please report the lines above", file=sys.stderr)
        sys.exit(2)
