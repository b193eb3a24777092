"""Which protections hold is found out by trying, said one by one, and may be required."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from sites import Site, start_site
from test_bad_candidates import number

from kernelevo.cli.doctor import sandbox_lines
from kernelevo.devices.isolation import Protection
from kernelevo.errors import UsageError
from kernelevo.records import Outcome

NAMES = ["processes", "files", "network", "system calls", "privileges", "limits", "environment"]


def test_every_protection_is_named_with_its_means_or_with_what_to_do(site: Site) -> None:
    protections = site.server.wait().isolation
    assert [protection.name for protection in protections] == NAMES
    for protection in protections:
        assert protection.how
        assert (protection.why_not is None) == protection.holds


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("site without namespaces", {"processes"}),
        ("unlandlocked_site", set()),
        ("site without either", {"processes", "files"}),
        ("unfiltered_site", {"network", "system calls"}),
        ("bare_site", {"processes", "files", "network", "system calls"}),
    ],
)
def test_what_the_kernel_refuses_to_give_does_not_hold(
    request: pytest.FixtureRequest, site: Site, name: str, missing: set[str]
) -> None:
    if site.missing():
        pytest.skip("this machine does not give everything to begin with; `kernelevo doctor` says what")
    own = {"site without namespaces": ["namespaces"], "site without either": ["namespaces", "landlock"]}.get(name)
    lesser: Site = start_site(without=own) if own else request.getfixturevalue(name)
    found = {protection.name: protection for protection in lesser.server.wait().isolation}
    if own:
        lesser.server.close()
    assert {name for name, protection in found.items() if not protection.holds} == missing
    for protection in missing:
        assert "; " in str(found[protection].why_not), "a reason and what to do"
    if name == "unlandlocked_site":
        assert "by a mount namespace" in found["files"].how


def test_a_required_sandbox_runs_nothing_where_something_is_missing(extension: Callable[[str], Path]) -> None:
    site = start_site(sandbox="required", without=["seccomp", "namespaces"])
    try:
        with pytest.raises(UsageError) as raised:
            site.session(extension("behaviours"))
    finally:
        site.server.close()
    said = str(raised.value)
    assert "processes: this machine gives no PID namespace" in said
    assert "system calls: this kernel takes no filters" in said
    assert "next: `kernelevo doctor`" in said


def test_a_required_sandbox_runs_where_everything_holds(extension: Callable[[str], Path], site: Site) -> None:
    if site.missing():
        pytest.skip(f"this machine does not give: {', '.join(site.missing())}")
    strict = start_site(sandbox="required")
    try:
        with strict.session(extension("behaviours")) as session:
            assert session.call([torch.ones(2), number("double")]).outcome is Outcome.PASSED
    finally:
        strict.server.close()


# Forks, so it runs in a process with one thread, as the fork server is: numpy's OpenBLAS would start others.
TRIALS = """
import json
from dataclasses import replace
from kernelevo.devices import confinement, isolation
needs = confinement.Needs()
means, _ = isolation.find(needs)
nothing = replace(means, namespaces=(), landlock=0, mounts=False, filter=None)
trusted = isolation.find(confinement.Needs(trusted=True))[1]
found = {"trusted": [protection.name for protection in isolation.missing(trusted)]}
for name, tried in {
    "nothing": nothing,
    "landlock": replace(nothing, landlock=means.landlock),
    "seccomp": replace(nothing, filter=means.filter),
}.items():
    escaped = isolation._try_to_escape(tried, needs)
    found[name] = [escaped.problem, escaped.files, escaped.network, escaped.calls]
print(json.dumps([means.landlock, means.filter is not None, found]))
"""


def test_the_trial_finds_a_protection_that_was_set_up_and_does_nothing() -> None:
    """Confined by nothing, the child gets everywhere, and says so."""
    finished = subprocess.run(
        [sys.executable, "-c", TRIALS],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    landlock, filters, found = json.loads(finished.stdout)
    assert found["nothing"] == [None, True, True, True]
    assert found["trusted"] == [], "where no candidate ever comes, limits are all that is promised"
    if landlock:
        assert found["landlock"][:2] == [None, False]
    if filters:
        assert found["seccomp"] == [None, True, False, False]


def test_doctor_says_line_by_line_what_holds() -> None:
    holds = Protection(name="files", holds=True, how="by Landlock version 7")
    lacks = Protection(name="network", holds=False, how="it reaches the network", why_not="no filters; get a kernel")
    lines = sandbox_lines((holds, lacks), required=False)
    assert lines[0] == (True, "sandbox: files", "by Landlock version 7")
    assert lines[1][:2] == (None, "sandbox: network")
    assert "no filters; get a kernel" in lines[1][2]
    assert sandbox_lines((lacks,), required=True)[0][0] is False
