"""The proposer: same prompt, same reply; parents' rewrites are replayed; nothing is claimed that was not done."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from rewriting import SAMPLES, SEEDS, SOURCES, random_rewrites, rewritten

from kernelevo.errors import ModelError
from kernelevo.models.mutate import RULE_OF, Mutate, apply_rewrite
from kernelevo.models.rewrites import RULES, SIMPLIFICATIONS
from kernelevo.models.rewrites.rule import STRUCTURE
from kernelevo.records import Candidate, Operator, Prompt, Reply, Rewrite


def prompt(*parents: Candidate, operator: Operator = Operator.OPTIMIZE, seed: int = 0) -> Prompt:
    return Prompt(operator=operator, messages=(), parents=parents, template="", seed=seed)


def candidate(source: str, *rewrites: Rewrite) -> Candidate:
    return Candidate(source=source, entry="forward", rewrites=rewrites)


def child(parent: Candidate, reply: Reply) -> Candidate:
    return candidate(reply.text, *parent.rewrites, *reply.rewrites)


def steps(*named: tuple[str, str]) -> tuple[Rewrite, ...]:
    return tuple(Rewrite(name=name, argument=argument) for name, argument in named)


@pytest.mark.parametrize("operator", [o for o in Operator if o is not Operator.CROSSOVER])
@pytest.mark.parametrize("source", SOURCES)
def test_the_reply_is_the_parent_with_the_named_rewrites_applied(source: str, operator: Operator) -> None:
    for seed in range(3):
        reply = Mutate().propose(prompt(candidate(SOURCES[source]), operator=operator, seed=seed))
        replayed = SOURCES[source]
        for rewrite in reply.rewrites:
            result = apply_rewrite(replayed, rewrite)
            assert result is not None, rewrite
            replayed = result
        assert reply.text == replayed
        assert reply.rewrites


def test_the_same_prompt_gives_the_same_reply_and_another_seed_another() -> None:
    parent = candidate(SEEDS["softmax"])
    replies = [Mutate(clock=lambda: 0.0).propose(prompt(parent, seed=seed)) for seed in (7, 7, 8)]
    assert replies[0] == replies[1]
    assert replies[0].text != replies[2].text


def test_threads_may_propose_at_once() -> None:
    model = Mutate(clock=lambda: 0.0)
    prompts = [prompt(candidate(SEEDS[name]), seed=seed) for name in ("softmax", "rmsnorm") for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model.propose, prompts)) == [model.propose(p) for p in prompts]


def test_without_a_parent_it_says_what_is_needed() -> None:
    with pytest.raises(ModelError, match=r"cannot write the first one\n  next: give the task a seed.cu"):
        Mutate().propose(prompt(operator=Operator.TRANSLATE))


def test_what_costs_nothing_is_left_unknown_or_free_and_the_model_is_named() -> None:
    reply = Mutate(name="mutate").propose(prompt(candidate(SEEDS["gelu"])))
    assert (reply.model, reply.input_tokens, reply.output_tokens, reply.finish_reason) == ("mutate", None, None, "stop")


def test_crossover_gives_the_first_parent_what_only_the_second_has() -> None:
    shuffles = steps(("warp_shuffle", "softmax_kernel"), ("restrict", "softmax_kernel"))
    faster = steps(("restrict", "softmax_kernel"), ("fast_math", "softmax_kernel expf"))
    first = candidate(rewritten(SEEDS["softmax"], *map(str, shuffles)), *shuffles)
    second = candidate(rewritten(SEEDS["softmax"], *map(str, faster)), *faster)
    reply = Mutate().propose(prompt(first, second, operator=Operator.CROSSOVER))
    assert reply.rewrites == faster[1:]
    assert reply.text == rewritten(first.source, "fast_math(softmax_kernel expf)")


def test_crossover_skips_rewrites_that_have_no_place_in_the_first_parent() -> None:
    """keep_row splits the loops, so that vectors no longer fit; the shuffles still do."""
    kept = steps(("keep_row", "rmsnorm_kernel row registers=8"))
    wide = steps(("vectorize", "rmsnorm_kernel i<cols width=4"), ("warp_shuffle", "rmsnorm_kernel"))
    first = candidate(rewritten(SEEDS["rmsnorm"], *map(str, kept)), *kept)
    second = candidate(rewritten(SEEDS["rmsnorm"], *map(str, wide)), *wide)
    reply = Mutate().propose(prompt(first, second, operator=Operator.CROSSOVER))
    assert reply.rewrites == wide[1:]


def test_crossover_of_equal_parents_still_makes_something_new() -> None:
    parent = candidate(SEEDS["gelu"])
    reply = Mutate().propose(prompt(parent, parent, operator=Operator.CROSSOVER))
    assert reply.rewrites
    assert reply.text != parent.source


@pytest.mark.parametrize("operator", [Operator.SIMPLIFY, Operator.REPAIR])
def test_simplify_and_repair_take_something_away_while_there_is_something(operator: Operator) -> None:
    source = rewritten(SEEDS["softmax"], "fast_math(softmax_kernel expf)")
    reply = Mutate().propose(prompt(candidate(source), operator=operator))
    assert reply.rewrites == steps(("drop_fast_math", "softmax_kernel __expf"))
    assert reply.text == SEEDS["softmax"]


def test_where_nothing_is_left_to_rewrite_the_reply_says_so_and_claims_nothing() -> None:
    source = "PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {}\n"
    reply = Mutate().propose(prompt(candidate(source)))
    assert (reply.text, reply.rewrites, reply.finish_reason) == (source, (), "nothing left to rewrite")


def test_a_rewrite_of_the_history_is_not_repeated() -> None:
    history = steps(*(("threads", f"gelu_kernel threads={n}") for n in (64, 128, 512, 1024)))
    for seed in range(20):
        reply = Mutate().propose(prompt(candidate(SEEDS["gelu"], *history), seed=seed))
        assert not set(reply.rewrites) & set(history)


def test_a_source_that_does_not_parse_is_rewritten_only_where_it_does() -> None:
    source = SEEDS["gelu"] + "\n__global__ void broken(int n) { n = = ; }\n"
    reply = Mutate().propose(prompt(candidate(source)))
    assert "n = = ;" in reply.text


def test_rules_are_named_once_and_wait_only_for_rules_that_exist() -> None:
    rules = (*RULES, *SIMPLIFICATIONS)
    assert [name for name, count in Counter(rule.name for rule in rules).items() if count > 1] == []
    assert {name for rule in rules for name in rule.after} | set(STRUCTURE) <= set(RULE_OF)


@pytest.mark.parametrize(
    ("task", "wanted"),
    [
        ("linear_relu", {"tile"}),
        ("rmsnorm", {"vectorize", "warp_shuffle", "warp_per_row"}),
        ("softmax", {"vectorize", "online_softmax", "warp_shuffle", "warp_per_row"}),
        ("rmsnorm_backward", {"split_rows"}),
    ],
)
def test_four_proposals_find_a_rewrite_that_pays_in_eleven_runs_of_twelve(task: str, wanted: set[str]) -> None:
    """What the first generation of a run of population four gets from the seed kernel."""
    parent = candidate(SEEDS[task])
    runs = 12
    found = 0
    for run in range(runs):
        replies = [Mutate().propose(prompt(parent, seed=run * 4 + i)) for i in range(4)]
        found += bool(wanted & {rewrite.name for reply in replies for rewrite in reply.rewrites})
    assert found >= 11


def test_random_walks_over_language_model_style_code_never_fail() -> None:
    for name, source in SAMPLES.items():
        for seed in range(3):
            walk = random_rewrites(source, seed, 8)
            assert walk, name
