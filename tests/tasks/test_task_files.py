"""Task folders: what loads, and what is refused with file, key, value and what was expected."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kernelevo.errors import TaskError, UsageError
from kernelevo.records import Purpose
from kernelevo.tasks import list_tasks, load_task, new_task, tasks_root

SHIPPED = [
    "cross_entropy",
    "depthwise_conv2d",
    "gelu",
    "layernorm",
    "linear_relu",
    "rmsnorm",
    "rmsnorm_backward",
    "silu_mul",
    "softmax",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A task that loads, to be broken."""
    return new_task("sample_task", tmp_path)


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(folder: Path) -> str:
    with pytest.raises(TaskError) as error:
        load_task(folder)
    return str(error.value)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_task_of_the_repository_loads_with_a_seed_and_unique_case_names(name):
    task = load_task(name)
    assert task.name == name
    assert task.seed_source is not None
    assert "PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)" in task.seed_source
    assert f'm.def("{task.entry}"' in task.seed_source
    names = [case.name for case in task.cases]
    assert len(set(names)) == len(names)
    assert {case.purpose for case in task.cases} == {Purpose.TEST, Purpose.BENCH}


def test_listing_names_the_shipped_tasks_without_importing_torch():
    code = "import sys, kernelevo.tasks as t; print([s.name for s in t.list_tasks()], 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == f"{SHIPPED} False"


def test_a_listing_shows_a_broken_task_with_its_problem(folder):
    replace(folder / "task.toml", 'entry = "forward"', 'entry = "sideways"')
    (summary,) = list_tasks(folder.parent)
    assert summary.name == "sample_task"
    assert "task.toml: entry = 'sideways': expected 'forward' or 'backward'" in summary.problem


def test_a_task_loads_by_name_and_by_path_alike():
    assert load_task("gelu").digest == load_task(tasks_root() / "gelu").digest


def test_an_unknown_task_is_a_usage_error_with_the_nearest_name():
    with pytest.raises(UsageError, match=r"no task 'rms_norm'.*\n.*did you mean 'rmsnorm'"):
        load_task("rms_norm")


def test_a_folder_without_task_toml_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match=r"holds no task\.toml"):
        load_task(tmp_path)


# task.toml


@pytest.mark.parametrize(
    "old, new, complaint",
    [
        ('entry = "forward"', 'entry = "sideways"', "task.toml: entry = 'sideways': expected 'forward' or 'backward'"),
        ('dtypes = ["float32"]', 'dtypes = ["float8"]', "dtypes.1 = 'float8': expected 'float32', 'float16' or 'bfl"),
        (
            "reduction = []",
            'reduction = ["colls"]',
            "reduction = ['colls']: expected size names of [hidden] (cols, rows)",
        ),
        ("reduction = []", "tolerance_factor = -1.0", "tolerance_factor = -1.0: expected greater than 0"),
        ("reduction = []", 'tolerance_factor = "4"', "tolerance_factor = '4': expected a valid number"),
        ("reduction = []", "tolerance = 4.0", "unknown key tolerance: did you mean tolerance_factor?"),
        ("reduction = []", 'library_calls = "maybe"', "library_calls = 'maybe': expected 'allow', 'label' or 'forbid'"),
        (
            "reduction = []",
            'distributions = ["normal", "odd", "tiny"]',
            "distributions: 'odd' is unknown: expected names",
        ),
        (
            "reduction = []",
            'distributions = ["normal"]',
            "distributions: ['normal']: expected at least 3 names",
        ),
        (
            '["normal", "ones"]',
            '["normal", "xavier"]',
            "initialisations: 'xavier' is unknown: expected names from none,",
        ),
        ("rows = [1, 200]", "rows = [200, 1]", "hidden: rows = [200, 1]: expected [smallest, largest]"),
        (
            "rows = 64\ncols = 129",
            "rows = 64",
            "[[test]] number 3 has the sizes rows: expected those of [hidden], cols",
        ),
        ("rows = 64\ncols = 129", "rows = 7\ncols = 127", "[[test]] declares the same sizes twice"),
        ("rows = 64", "rows = -64", "test.3.rows = -64: expected greater than or equal to 0"),
        ("rows = 64", "rows = 64.5", "test.3.rows = 64.5: expected a valid integer"),
        ('signature = "forward(', 'signature = "run(', "expected it to begin with 'forward('"),
        ('title = "Swish', 'headline = "Swish', "task.toml: title is missing"),
        ("rows = 64", "rows = = 64", "task.toml: not valid TOML: Invalid value (at line "),
    ],
)
def test_a_wrong_task_file_is_refused_with_key_value_and_what_was_expected(folder, old, new, complaint):
    replace(folder / "task.toml", old, new)
    text = refusal(folder)
    assert str(folder / "task.toml") in text
    assert complaint in text


def test_every_mistake_of_a_file_is_listed_at_once(folder):
    replace(folder / "task.toml", 'entry = "forward"', 'entry = "sideways"')
    replace(folder / "task.toml", "reduction = []", "speed = 11")
    text = refusal(folder)
    assert "entry = 'sideways'" in text
    assert "unknown key speed" in text


# reference.py


def test_a_missing_reference_is_refused(folder):
    (folder / "reference.py").unlink()
    assert f"{folder / 'reference.py'} is missing" in refusal(folder)


@pytest.mark.parametrize("function", ["reference", "inputs"])
def test_a_reference_file_without_its_functions_is_refused(folder, function):
    replace(folder / "reference.py", f"def {function}(", f"def other_{function}(")
    assert f"reference.py: has no function {function}" in refusal(folder)


def test_a_syntax_error_is_refused_with_its_line(folder):
    (folder / "reference.py").write_text("import torch\n\ndef reference(x:\n")
    assert "reference.py:3: " in refusal(folder)


def test_an_import_that_fails_is_refused_with_its_line(folder):
    replace(folder / "reference.py", "import torch", "import torch\nimport no_such_module")
    assert "reference.py:4: importing it raised ModuleNotFoundError: No module named 'no_such_module'" in refusal(
        folder
    )


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "reference.py").read_text().splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line)


def test_a_reference_that_raises_is_refused_with_the_line_and_the_case(folder):
    replace(folder / "reference.py", "return x * torch.sigmoid(x) * weight", "return x @ weight @ weight @ x")
    text = refusal(folder)
    assert f"reference.py:{line_of(folder, 'return x @ weight')}: reference raised RuntimeError on the case" in text
    assert "rows=1 cols=1 float32 normal" in text


@pytest.mark.parametrize("value, kind", [("None", "None"), ("float(x[0, 0])", "a value of type float")])
def test_a_reference_that_returns_no_tensor_is_refused_with_its_line(folder, value, kind):
    replace(folder / "reference.py", "return x * torch.sigmoid(x) * weight", f"return {value}")
    line = line_of(folder, "def reference(")
    assert f"reference.py:{line}: reference returned {kind}: expected tensor or tuple of tensors" in refusal(folder)


def test_inputs_that_are_no_tuple_are_refused_with_their_line(folder):
    replace(folder / "reference.py", "return x, weight", "return [x, weight]")
    line = line_of(folder, "def inputs(")
    assert f"reference.py:{line}: inputs returned a value of type list: expected a tuple" in refusal(folder)


def test_an_input_of_an_unsupported_kind_is_refused(folder):
    replace(folder / "reference.py", "return x, weight", 'return x, "weight"')
    assert "input 1 is a value of type str: expected a tensor or a number" in refusal(folder)


def test_loading_changes_neither_the_search_path_nor_the_folder(folder):
    before = (list(sys.path), set(sys.modules), sorted(folder.rglob("*")))
    load_task(folder)
    assert (list(sys.path), set(sys.modules), sorted(folder.rglob("*"))) == before


def test_two_tasks_do_not_share_their_reference_modules(tmp_path):
    one, two = new_task("one", tmp_path), new_task("two", tmp_path)
    replace(two / "reference.py", "return x * torch.sigmoid(x) * weight", "return x * weight")
    assert load_task(one).reference is not load_task(two).reference


# digest


def test_the_digest_changes_with_every_file_and_with_nothing_else(folder, tmp_path):
    digest = load_task(folder).digest
    moved = tmp_path / "elsewhere" / "sample_task"
    shutil.copytree(folder, moved)
    (moved / "__pycache__").mkdir()
    (moved / "__pycache__" / "reference.pyc").write_bytes(b"bytecode")
    assert load_task(moved).digest == digest
    for file in ("task.toml", "reference.py", "seed.cu"):
        text = (moved / file).read_text()
        (moved / file).write_text(text + "\n")
        assert load_task(moved).digest != digest
        (moved / file).write_text(text)


# new


@pytest.mark.parametrize("name", ["task.toml", "reference.py", "seed.cu"])
def test_a_file_that_is_not_utf_8_is_named_with_the_place(folder, name):
    text = (folder / name).read_bytes()
    (folder / name).write_bytes(text + b"\xff")
    assert refusal(folder).startswith(f"{folder / name}: byte {len(text)} is not UTF-8")


@pytest.mark.parametrize("name", ["reference.py", "seed.cu"])
def test_a_file_that_cannot_be_read_is_named(folder, name):
    (folder / name).unlink()
    (folder / name).mkdir()
    assert refusal(folder).startswith(f"{folder / name}: cannot be read: Is a directory")


@pytest.mark.parametrize(
    "reference",
    [
        "reference = torch.mul",
        "import functools\nreference = functools.partial(torch.add, alpha=2)",
        "reference = torch.nn.CosineSimilarity()",
    ],
)
def test_a_reference_need_not_be_a_python_function_and_prompts_carry_its_file(folder, reference):
    from kernelevo.prompt import write_prompt
    from kernelevo.records import Job, Operator

    with (folder / "reference.py").open("a") as file:
        file.write(f"\n{reference}\n")
    task = load_task(folder)
    assert task.reference_source == (folder / "reference.py").read_text()
    job = Job(
        run="r", iteration=0, generation=0, operator=Operator.TRANSLATE, parents=(), model="m", island=None, seed=0
    )
    prompt = write_prompt(task, job, (), target="H100 SXM")
    assert f"{reference}\n```\n" in prompt.messages[0].text


def test_a_new_task_never_overwrites(folder):
    with pytest.raises(TaskError, match="already exists"):
        new_task(folder.name, folder.parent)


@pytest.mark.parametrize("name", ["", "Two Words", "../up", "9lives", "päth"])
def test_a_task_name_that_cannot_be_a_folder_or_a_word_is_refused(name, tmp_path):
    with pytest.raises(TaskError, match="expected lower-case letters"):
        new_task(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_format_reference_documents_every_key_distribution_and_initialisation():
    from kernelevo.tasks import DISTRIBUTIONS, INITIALISATIONS
    from kernelevo.tasks.load import TaskFile

    text = (tasks_root() / "README.md").read_text()
    for key in TaskFile.model_fields:
        assert f"`{key}`" in text or f"`[{key}]`" in text or f"`[[{key}]]`" in text, key
    for name in (*DISTRIBUTIONS, *INITIALISATIONS):
        assert f"`{name}`" in text, name
    for name in SHIPPED:
        assert f"| `{name}` |" in text, name
