"""What each rewrite makes of a source (golden files), and where it must not be offered."""

from __future__ import annotations

import difflib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rewriting import ALL_RULES, SAMPLES, SEEDS, SOURCES, quiet_ranges, rewritten, sites

from kernelevo.models.rewrites.syntax import apply_edits, has_errors, parse
from kernelevo.toolchain import find_toolchain

# (name of the golden file, source, steps, of which the file shows the last)
GOLDEN = [
    ("fast_math.diff", "softmax", ["fast_math(softmax_kernel expf)"]),
    ("fast_math_rsqrtf.diff", "layernorm", ["fast_math(layernorm_kernel rsqrtf)"]),
    ("fuse_loops.diff", "moments", ["fuse_loops(moments_kernel i<cols)"]),
    ("grid_stride.diff", "gelu", ["grid_stride(gelu_kernel blocks=1056)"]),
    ("keep_row.diff", "layernorm", ["keep_row(layernorm_kernel row registers=8)"]),
    (
        "keep_row_of_vectors.diff",
        "rmsnorm",
        ["vectorize(rmsnorm_kernel i<cols width=4)", "keep_row(rmsnorm_kernel row_vectors registers=4)"],
    ),
    (
        "keep_row_of_several_arrays.diff",
        "rmsnorm_backward",
        ["keep_row(grad_x_kernel row+grad_row+weight registers=4)"],
    ),
    ("launch_bounds.diff", "rmsnorm", ["launch_bounds(rmsnorm_kernel 256)"]),
    ("online_softmax.diff", "softmax", ["online_softmax(softmax_kernel largest)"]),
    ("range_check.diff", "depthwise_conv2d", ["range_check(depthwise_conv2d_kernel)"]),
    ("read_only.diff", "depthwise_conv2d", ["read_only(depthwise_conv2d_kernel)"]),
    ("reciprocal.diff", "softmax", ["reciprocal(softmax_kernel sum)"]),
    ("restrict.diff", "one_thread_per_row", ["restrict(squares_kernel)"]),
    ("specialize.diff", "depthwise_conv2d", ["specialize(depthwise_conv2d_kernel kernel_size=3,5,7)"]),
    ("split_rows.diff", "rmsnorm_backward", ["split_rows(grad_weight_kernel threads=16)"]),
    ("stage_row.diff", "softmax", ["stage_row(softmax_kernel row shared=4096)"]),
    ("threads.diff", "one_thread_per_row", ["threads(squares_kernel threads=256)"]),
    ("threads_of_two_kernels.diff", "cross_entropy", ["threads(forward threads=128)"]),
    ("threads_in_two_dimensions.diff", "linear_relu", ["threads(linear_relu_kernel threads=32x8)"]),
    ("tile.diff", "linear_relu", ["tile(linear_relu_kernel each=4 depth=16)"]),
    ("tile_across_the_product.diff", "matmul", ["tile(matmul each=1 depth=32)"]),
    ("tunable.diff", "scale_in_place", ["tunable(kBlock=512)"]),
    ("unroll.diff", "linear_relu", ["unroll(linear_relu_kernel k<in_features 4)"]),
    ("vectorize.diff", "layernorm", ["vectorize(layernorm_kernel i<cols width=4)"]),
    ("vectorize_element.diff", "gelu", ["vectorize(gelu_kernel element width=4)"]),
    ("vectorize_in_place.diff", "scale_in_place", ["vectorize(axpy_kernel i<n width=2)"]),
    ("vectorize_template.diff", "templated_softmax", ["vectorize(softmax_kernel i<cols width=4)"]),
    ("warp_per_row.diff", "softmax", ["warp_per_row(softmax_kernel rows=8)"]),
    (
        "warp_per_row_after_shuffles.diff",
        "cross_entropy",
        ["warp_shuffle(row_loss_kernel)", "warp_per_row(row_loss_kernel rows=4)"],
    ),
    ("warp_shuffle.diff", "softmax", ["warp_shuffle(softmax_kernel)"]),
    ("warp_shuffle_in_a_device_function.diff", "templated_softmax", ["warp_shuffle(reduce_sum)"]),
]


@pytest.mark.parametrize(("name", "source", "steps"), GOLDEN, ids=[name for name, _, _ in GOLDEN])
def test_a_rewrite_makes_what_its_golden_file_shows(
    name: str, source: str, steps: list[str], golden: Callable[[str, str], None]
) -> None:
    before = rewritten(SOURCES[source], *steps[:-1])
    after = rewritten(before, steps[-1])
    lines = list(difflib.unified_diff(before.splitlines(True), after.splitlines(True), n=2))
    golden(name, f"{source}: {', '.join(steps)}\n" + "".join(lines[2:]))


def test_every_rule_that_improves_has_a_golden_file() -> None:
    shown = {steps[-1].partition("(")[0] for _, _, steps in GOLDEN}
    assert {rule.name for rule in ALL_RULES if not rule.name.startswith("drop_")} == shown


EVERY_SITE = [
    (source, rule.name)
    for source in SOURCES
    for rule in ALL_RULES
    if next(iter(rule.sites(parse(SOURCES[source]))), None)
]


@pytest.mark.parametrize(("source", "name"), EVERY_SITE)
def test_edits_leave_comments_and_strings_whole_and_the_source_readable(source: str, name: str) -> None:
    code = SOURCES[source]
    quiet = quiet_ranges(parse(code))
    for argument, site in sites(name, code).items():
        for edit in site.edits:
            cut = [(s, e) for s, e in quiet if s < edit.start < e or s < edit.end < e]
            assert not cut, f"{argument}: an edit begins or ends inside a comment or string"
        assert not has_errors(apply_edits(code, site.edits)), argument


@pytest.mark.parametrize(("source", "name"), EVERY_SITE)
def test_a_rewrite_is_not_offered_again_where_it_was_done(source: str, name: str) -> None:
    for argument in sites(name, SOURCES[source]):
        after = rewritten(SOURCES[source], f"{name}({argument})")
        assert argument not in sites(name, after)


def test_code_in_comments_and_strings_is_never_rewritten() -> None:
    source = SAMPLES["templated_softmax"]
    after = rewritten(source, "fast_math(softmax_kernel expf)", "threads(softmax_kernel threads=512)")
    assert '"x[i] = expf(x[i]) / sum needs a CUDA tensor"' in after
    assert "// for (int i = tid; i < cols; i += stride) is the loop of every pass" in after


ROW_LOOP = """
__global__ void k(const float* x, float* y, int n) {
    const float* row = x + blockIdx.x * n;
    float* out = y + blockIdx.x * n;
    BODY
}
torch::Tensor forward(torch::Tensor x) {
    auto y = torch::empty_like(x);
    k<<<x.size(0), 256>>>(x.data_ptr<float>(), y.data_ptr<float>(), x.size(1));
    return y;
}
"""
LOOP = "for (int i = threadIdx.x; i < n; i += blockDim.x)"


@pytest.mark.parametrize(
    "body",
    [
        f"{LOOP} {{ out[i] = row[2 * i]; out[i + 1] = 0; }}",
        f"{LOOP} {{ if (row[i] < 0) break; out[i] = row[i]; }}",
        f"{LOOP} {{ out[i] = row[i]; __syncthreads(); }}",
        f"{LOOP} {{ atomicAdd(&out[0], row[i]); out[i] = row[i]; }}",
        f"{LOOP} {{ out[i] = row[i] + out[i - 1]; }}",
        f"{LOOP} {{ out[i] = row[i]; }} {LOOP} {{ out[i] += out[n - 1 - i]; }}",
        f"{LOOP} {{ out[i] = row[i]; row += 1; }}",
        f"{LOOP} {{ if (i < n - 4) out[i] = row[i + 4]; }}",
        f"float s = 0; {LOOP} {{ s += i < n - 4 ? row[i + 4] : 0; }}",
        f"float s = 0; {LOOP} {{ s += i < n - 4 && row[i + 4] > 0; }}",
        f"{LOOP} {{ const float* other = row + i; out[i] = other[i]; other = row; }} row = x; out = y;",
    ],
)
def test_vectorize_is_not_offered_where_elements_cannot_be_moved_together(body: str) -> None:
    assert sites("vectorize", ROW_LOOP.replace("BODY", body)) == {}


@pytest.mark.parametrize(
    "body",
    [
        f"float s = 0; {LOOP} {{ s += row[i]; }}",  # read once
        f"float s = 0; {LOOP} {{ s += row[i]; }} {LOOP.replace('i < n', 'i < n - 1')} {{ s += row[i]; }}",
        f"float s = 0; {LOOP} {{ s += out[i]; }} {LOOP} {{ out[i] = s * out[i]; }}",  # written meanwhile
    ],
)
def test_a_row_is_kept_only_when_it_is_read_again_unchanged(body: str) -> None:
    source = ROW_LOOP.replace("BODY", body)
    assert sites("keep_row", source) == {}
    assert sites("stage_row", source) == {}


def test_a_row_that_the_kernel_overwrites_through_another_pointer_is_not_kept() -> None:
    in_place = ROW_LOOP.replace("float* out = y + blockIdx.x * n;", "float* out = x + blockIdx.x * n;")
    body = f"float s = 0; {LOOP} {{ s += row[i]; }} {LOOP} {{ out[i] = s * row[i]; }}"
    assert sites("keep_row", ROW_LOOP.replace("BODY", body)) != {}
    assert sites("keep_row", in_place.replace("BODY", body)) == {}
    assert sites("read_only", in_place.replace("BODY", body)) == {}


def test_restrict_is_not_offered_where_the_output_may_be_the_input() -> None:
    in_place = SAMPLES["scale_in_place"]
    assert sites("restrict", in_place) == {}
    aliased = SEEDS["gelu"].replace("auto y = torch::empty_like(x);", "auto y = x.view(-1);")
    assert sites("restrict", aliased) == {}


def test_threads_are_left_alone_where_the_kernel_means_something_else_by_that_number() -> None:
    source = SEEDS["rmsnorm"].replace("partial[0] / cols", "partial[0] / 256")
    assert sites("threads", source) == {}


def test_the_tree_stays_for_blocks_that_are_not_known_to_be_whole_warps() -> None:
    source = SEEDS["rmsnorm"].replace("const int threads = 256;", "const int threads = pick(cols);")
    after = rewritten(source, "warp_shuffle(rmsnorm_kernel)")
    assert "if (blockDim.x % 32 == 0)" in after
    assert "partial[threadIdx.x] += partial[threadIdx.x + stride];" in after
    assert "float partial[256]" in after


def test_shuffles_meet_again_before_the_array_is_reused_where_the_tree_did_not_need_to() -> None:
    """In the tree only thread 0 overwrites what others may still read; with shuffles every warp does."""
    source = SEEDS["softmax"].replace("largest = partial[0];\n    __syncthreads();", "largest = partial[0];")
    after = rewritten(source, "warp_shuffle(softmax_kernel)")
    assert "block_max<float>(largest, partial);\n    __syncthreads();" in after


def test_a_row_per_warp_is_not_offered_to_kernels_that_share_more_than_reductions() -> None:
    staged = rewritten(SEEDS["softmax"], "stage_row(softmax_kernel row shared=2048)")
    assert sites("warp_per_row", staged) == {}


def test_a_tile_is_not_offered_where_one_operand_depends_on_both_indices() -> None:
    assert sites("tile", SAMPLES["matmul"].replace("b[k * N + col]", "b[k * N + col + row]")) == {}


def test_a_sum_is_not_split_where_the_loop_does_more_than_add() -> None:
    product = SEEDS["rmsnorm_backward"].replace("sum += grad_y[i]", "sum *= grad_y[i]")
    assert sites("split_rows", product) == {}


def test_integer_division_stays_integer_division() -> None:
    assert "fast_math" not in {
        rule.name
        for rule in ALL_RULES
        if rule.name == "fast_math" and list(rule.sites(parse(SEEDS["depthwise_conv2d"])))
    }


@pytest.mark.parametrize(
    "body",
    [
        f"float s = 0; {LOOP} {{ s += row[i]; }} {LOOP} {{ out[i] = s; }}",
        f"{LOOP} {{ out[i] = row[i]; }} float s = 0; {LOOP} {{ s += out[n - i]; }}",
        f"{LOOP} {{ out[i] = row[i]; }} float s = 0; {LOOP} {{ s += y[i]; }}",
        f"float s = 0; {LOOP} {{ s += row[i]; }} float t = s; {LOOP} {{ t += row[i]; }}",
        f"float s = 0; {LOOP} {{ s += row[i]; }} __syncthreads(); float t = 0; {LOOP} {{ t += row[i]; }}",
        f"float s = 0, t = 0; {LOOP} {{ s += row[i]; }} for (int i = 0; i < n; ++i) {{ t += row[i]; }}",
    ],
)
def test_loops_that_depend_on_each_other_are_not_fused(body: str) -> None:
    assert sites("fuse_loops", ROW_LOOP.replace("BODY", body)) == {}


BATCH = SAMPLES["matmul"].replace("c[row * N + col] = acc;", "c[(blockIdx.z * M + row) * N + col] = acc;")


def test_a_tile_is_not_offered_where_the_grid_has_a_third_dimension() -> None:
    assert sites("tile", BATCH) == {}


STUBS = Path(__file__).parent / "stubs"


@pytest.mark.nvcc
@pytest.mark.slow
@pytest.mark.parametrize("source", SAMPLES)
def test_what_a_rewrite_makes_of_other_peoples_code_compiles(source: str, tmp_path: Path) -> None:
    """One place of each rule and sample, by nvcc against declarations of torch. (Seed kernels: test_on_emulator.)"""
    nvcc = find_toolchain().nvcc
    assert nvcc is not None
    for rule in ALL_RULES:
        for argument in list(sites(rule.name, SAMPLES[source]))[:1]:
            path = tmp_path / "candidate.cu"
            path.write_text(rewritten(SAMPLES[source], f"{rule.name}({argument})"))
            command = [
                str(nvcc.path),
                "-arch=sm_90",
                f"-I{STUBS}",
                "-ptx",
                str(path),
                "-o",
                str(tmp_path / "candidate.ptx"),
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{rule.name}({argument})\n{done.stderr}"
