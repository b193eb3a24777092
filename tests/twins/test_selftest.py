"""The verifier notices mistakes: mutants of a seed are caught, the seed itself never is. Real builds, real emulator."""

import pytest

from kernelevo.config import read_settings
from kernelevo.selftest import self_test
from kernelevo.tasks import load_task

pytestmark = [pytest.mark.nvcc, pytest.mark.slow]


@pytest.mark.parametrize("name", ["gelu", "rmsnorm"])
def test_every_mutant_of_a_seed_is_caught_and_the_seed_never(name, emulator):
    result = self_test(load_task(name), emulator, read_settings())
    assert result.false_alarms == ()
    assert len(result.judged) == len(result.mutants) >= 13
    assert [str(trial.mutant) for trial in result.survivors] == []
    assert result.kill_rate == 1.0
