"""The fork server: one warm process that has never seen a candidate, and forks a confined worker for each session.

    parent --control socket--> fork server --fork--> keeper --fork--> worker (the only one that loads a candidate)

Takes Start and End messages on the control socket, gives one Ready message. A keeper watches one worker: when the
worker ends, stops itself or exceeds a limit, or when the parent closes the lifeline (or dies), the keeper kills
everything that the worker started, says on the status pipe how it ended, and removes the scratch folder. So the
parent needs no process ids, and the end of the status pipe means that nothing is left. A byte on the lifeline asks the
keeper what runs now besides the worker; it answers on the status pipe, and the worker has no hand in it.

What the worker does is the `work` that `serve` is given; this module knows neither torch nor any device.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kernelevo.devices import confinement, isolation
from kernelevo.devices.confinement import Means, Needs, Room
from kernelevo.devices.isolation import Protection
from kernelevo.devices.wire import UNANSWERED, End, Ending, FrameError, Load, Ready, Running, Start, parse

MAX_TASKS = 64 + 4 * (os.cpu_count() or 1)  # processes and threads of one worker, all together
MAX_MESSAGE_BYTES = 1 << 16
_LOOK_SECONDS = 0.02  # between looks at whether the worker stopped itself
_COUNT_EVERY = 10  # looks between counts of memory and processes
_GONE_SECONDS = 5.0  # for killed processes to disappear

Work = Callable[[socket.socket, Load], None]


@dataclass(slots=True)
class _Server:
    control: socket.socket
    work: Work
    needs: Needs
    means: Means
    keepers: dict[int, Start] = field(default_factory=dict)  # process id -> what it was started for


def serve(control: socket.socket, *, warm: Callable[[], None], work: Work, needs: Needs) -> None:
    """Serves until the control socket closes, then ends every worker and returns.

    warm: loads what all workers need; may raise, and must leave no thread behind.
    work: what a worker does with its channel and what it is to load; the process exits when it returns.
    needs: what confinement has to leave to workers of this kind.
    """
    confinement.adopt_orphans()
    protections: tuple[Protection, ...] = ()
    error = _try(warm) or _threads_left()
    if error is None:
        try:
            means, protections = isolation.find(needs)
        except Exception as problem:
            error = _in_words(problem)
    with contextlib.suppress(OSError):
        control.send(Ready(isolation=protections, error=error).model_dump_json().encode())
    if error is not None:
        return
    server = _Server(control=control, work=work, needs=needs, means=means)
    sys.dont_write_bytecode = True  # from here on, only candidates would
    gc.freeze()  # the collector would otherwise touch, and so copy, every inherited page
    gc.enable()
    while _serve_one(server):
        _reap(server)
    _end_all(server)


def _serve_one(server: _Server) -> bool:
    """Waits a moment for a message and does what it asks; False when the parent has gone."""
    poll = select.poll()
    poll.register(server.control, select.POLLIN)
    if not poll.poll(200):
        return True
    data, descriptors, _, _ = socket.recv_fds(server.control, MAX_MESSAGE_BYTES, 4)
    if not data:
        return False
    try:
        if len(descriptors) == 4:
            _start(server, parse(Start, data), *descriptors)
        else:
            _kill(server, parse(End, data).end)
    except FrameError as error:
        sys.stderr.write(f"fork server: {error}\n")
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


def _start(server: _Server, start: Start, channel: int, output: int, status: int, lifeline: int) -> None:
    """Forks a keeper, which forks the worker."""
    namespaces = server.means.namespaces
    keeper = confinement.fork_into(namespaces) if namespaces else os.fork()
    if keeper == 0:
        try:
            confinement.keep_only(channel, output, status, lifeline)
            _keep(server, start, channel, output, status, lifeline)
        finally:
            os._exit(0)
    server.keepers[keeper] = start


def _keep(server: _Server, start: Start, channel: int, output: int, status: int, lifeline: int) -> None:
    """The keeper's life. Never returns to the server's code: its caller exits."""
    os.setsid()  # no signal meant for the parent's terminal or group arrives here
    confinement.adopt_orphans()
    worker = os.fork()
    if worker == 0:
        try:
            for descriptor in (status, lifeline):
                os.close(descriptor)
            _become_worker(server, start, output)
            server.work(socket.socket(fileno=channel), start.load)
        except BaseException as error:
            with contextlib.suppress(BaseException):
                sys.stderr.write(f"{type(error).__name__}: {error}\n")
                sys.stderr.flush()
        finally:
            os._exit(UNANSWERED)  # after an answer nobody asks for the status
    os.close(channel)
    os.close(output)
    with contextlib.suppress(OSError):
        os.nice(-10)  # where we may: a fork bomb leaves little time to count it
    ending = _watch(worker, (lifeline, status), start.load.memory_bytes, server.needs.threads)
    _end_descendants(in_namespace=bool(server.means.namespaces))
    with contextlib.suppress(OSError):
        os.write(status, ending.model_dump_json().encode())
    os.close(status)
    remove(start.scratch)


def remove(folder: str) -> None:
    """Removes a folder that a candidate may have filled, however deep: no path is longer than one name.

    What cannot be removed stays.
    """
    way: list[tuple[str, list[str]]] = []  # folders entered, with those beside them that come next
    with contextlib.suppress(OSError):
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        below = _empty(here)
        while below or way:
            if below:
                name = below.pop()
                with contextlib.suppress(OSError):
                    os.chmod(name, 0o700, dir_fd=here)
                    inside = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                    os.close(here)
                    here = inside
                    way.append((name, below))
                    below = _empty(here)
            else:
                name, below = way.pop()
                above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = above
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=here)
        os.close(here)
        os.rmdir(folder)


def _empty(folder: int) -> list[str]:
    """Removes what is no folder from an open folder, and gives the names of those that are."""
    below = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.name)
            else:
                with contextlib.suppress(OSError):
                    os.unlink(entry.name, dir_fd=folder)
    return below


def _become_worker(server: _Server, start: Start, output: int) -> None:
    os.setsid()
    os.chdir(start.scratch)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nowhere)
    os.close(output)
    os.environ.update(HOME=start.scratch, TMPDIR=start.scratch)
    tempfile.tempdir = None  # what it found in the server is not ours
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    load = start.load
    room = Room(
        scratch=start.scratch,
        object_cache=load.object_cache,
        read=tuple(path for path in (load.artifact, load.ptx, load.cubin) if path is not None),
        address_space_bytes=load.address_space_bytes or load.memory_bytes,
    )
    confinement.confine(server.means, server.needs, room)


def _watch(worker: int, pipes: tuple[int, int], memory_bytes: int, own_threads: tuple[str, ...]) -> Ending:
    """Waits until the worker ends, stops, exceeds a limit, or is no longer wanted; answers questions meanwhile."""
    lifeline, status = pipes
    descriptor = os.pidfd_open(worker)
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(lifeline, select.POLLIN | select.POLLHUP)
    me = int(os.readlink("/proc/self"))
    baseline, _ = confinement.usage(me)
    worker_in_proc = next(iter(confinement.descendants(me)), worker)  # /proc may number it otherwise than we do
    looks = 0
    while True:
        asked = any(ready == lifeline for ready, _ in poll.poll(_LOOK_SECONDS * 1000))
        if asked and not os.read(lifeline, 64):
            return Ending(kind="asked", value=0)
        while True:
            ended, how = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
            if ended == 0:
                break
            if ended == worker:
                return _ending(how)
        if asked:
            os.write(status, _running(me, worker_in_proc, own_threads).model_dump_json().encode() + b"\n")
        looks += 1
        # A worker that forks is watched closely: in the time between two counts a fork bomb makes thousands.
        if looks % _COUNT_EVERY == 0 or confinement.children(worker_in_proc):
            used = [confinement.usage(pid) for pid in confinement.below(me, enough=MAX_TASKS)]
            if (tasks := sum(threads for _, threads in used)) > MAX_TASKS:
                return Ending(kind="processes", value=tasks)
            # What a child shares with us was allocated before any candidate came.
            if (memory := sum(max(0, private - baseline) for private, _ in used)) > memory_bytes:
                return Ending(kind="memory", value=memory)


def _running(me: int, worker: int, own_threads: tuple[str, ...]) -> Running:
    """What runs below this process. A daemon's parent has ended, so it is a child of ours, the subreaper's."""
    own, workers = confinement.running_children(me), confinement.running_children(worker)
    below = confinement.descendants(me) if own is None or workers is None else [*own, *workers]
    names = confinement.thread_names(worker)
    return Running(
        processes=len([pid for pid in below if pid != worker]),
        threads=len([name for name in names if not name.startswith(own_threads)]),
        waited_seconds=confinement.waited_seconds(worker),
    )


def _ending(status: int) -> Ending:
    if os.WIFSTOPPED(status):
        return Ending(kind="stopped", value=os.WSTOPSIG(status))
    if os.WIFSIGNALED(status):
        return Ending(kind="signalled", value=os.WTERMSIG(status))
    return Ending(kind="exited", value=os.WEXITSTATUS(status))


def _end_descendants(*, in_namespace: bool) -> None:
    """Kills whatever is below this process until nothing is left."""
    deadline = time.monotonic() + _GONE_SECONDS
    while time.monotonic() < deadline:
        if in_namespace:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)  # everything in the namespace but its process 1, which we are
        else:
            for pid in confinement.descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.001)


def _kill(server: _Server, worker: int) -> None:
    for keeper, start in server.keepers.items():
        if start.worker == worker:
            os.kill(keeper, signal.SIGKILL)  # ours and not yet reaped, so the number is still its own


def _reap(server: _Server) -> None:
    """Forgets keepers that ended; kills orphans of a keeper that was itself killed."""
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0] != 0:
            start = server.keepers.pop(ended[0], None)
            if start is not None and os.WIFSIGNALED(ended[1]):
                remove(start.scratch)  # it could not
    except ChildProcessError:
        return
    if not server.means.namespaces:
        me = os.getpid()
        with contextlib.suppress(OSError):
            with open(f"/proc/self/task/{me}/children") as file:
                children = [int(pid) for pid in file.read().split()]
            for pid in children:
                if pid not in server.keepers:
                    os.kill(pid, signal.SIGKILL)


def _end_all(server: _Server) -> None:
    """Every lifeline closed with the parent; waits for the keepers, then kills what is left."""
    deadline = time.monotonic() + _GONE_SECONDS
    while server.keepers and time.monotonic() < deadline:
        _reap(server)
        time.sleep(0.005)
    for keeper in server.keepers:
        os.kill(keeper, signal.SIGKILL)
    _end_descendants(in_namespace=False)
    for start in server.keepers.values():
        remove(start.scratch)


def _try(warm: Callable[[], None]) -> str | None:
    try:
        warm()
    except Exception as error:
        return _in_words(error)
    return None


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]


def _threads_left() -> str | None:
    count = len(os.listdir("/proc/self/task"))
    return None if count == 1 else f"warming up left {count - 1} threads, and a fork would lose them"
