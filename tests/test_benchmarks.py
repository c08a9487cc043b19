"""Every program in benchmarks/ runs, on next to nothing, and prints its table.  What it measures is not looked at."""

import gzip
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from shutil import which

import numpy as np
import pytest
from peers import peer

import fastconv as fc
from benchmarks import (
    __main__,
    accuracy,
    bandwidth,
    busy,
    convolutions,
    figures,
    latency,
    libraries,
    machine,
    models,
    naive,
    nets,
    operations,
    origins,
    peak,
    processes,
    quiet,
    roofline,
    shapes,
    start,
    step,
    tiles,
    time_to_accuracy_run,
    turns,
)
from benchmarks.libraries import Library
from benchmarks.peers import fastconv_net
from fastconv.cli import _parse
from fastconv_kernels.runtime import INTERPRETED

TINY = {
    "time_to_accuracy": ["--seeds", "0", "--held-out", "0.05", "--goal", "0.1"],
    "busy": ["--batch", "16", "--rounds", "1", "--seconds", "0"],
    "denormals": ["--batch", "16", "--seconds", "0"],
    "doctor": ["--runs", "1", "--only", "lenet_seed"],
    "epoch": ["--images", "200", "--only", "lenet_seed", "lenet5"],
    "kernels": ["--batch", "2", "--seconds", "0"],
    "memory": ["--digits", "100", "--epochs", "1"],
    "roofline": ["--batch", "16", "--seconds", "0"],
    "scaling": ["--threads", "1", "--rounds", "1", "--batch", "1", "--size", "8", "--seconds", "0"],
    "start": ["--runs", "1", "--cold-runs", "0"],
    "tiles": ["--batch", "16", "--most", "1", "--seconds", "0"],
}
NETS = ["--rounds", "1", "--seconds", "0", "--images", "320", "--only", "LeNet-5", "--batch"]
CONVOLUTIONS = ["--rounds", "1", "--seconds", "0", "--only", "1 to 6,"]
# fastconv once more, under another name: who the others are matters to their own tests alone.
AGAIN = Library("fastconv_net", "PyTorch again")
EXPECTED = {
    "time_to_accuracy": ["| 0 ", "| mean ", "| worst ", "kernels from their cache"],
    "busy": ["| quiet ", "| one core busy elsewhere "],
    "denormals": ["| ordinary ", "| denormal ", "ratio (range)"],
    "doctor": ["| lenet_seed | 0 faults, ", "`fastconv doctor --model NETWORK`, from process start"],
    "epoch": [
        "| lenet_seed ",
        "|      5,120 |          0.485 |",
        "One epoch of 180 digits in batches of 64",
        "on\n20 others",
    ],
    "kernels": ["| convolution 2, to the filters ", "| packing and normalising uint8 ", "GFLOP/s at best"],
    "memory": ["| `fastconv train` on 100 random digits ", "kbytes"],
    "roofline": ["| all kernels ", "| Python, and between the kernels ", "MFLOP an image"],
    "scaling": ["| threads ", "| batch ", "| 8 x 8 "],
    "start": ["| `import fastconv` ", "| `fastconv --help` ", "| first training step, kernels cached "],
    "tiles": ["**Convolution 1, forward**", "**Convolution 2, to the input**", "measured, us"],
}


def program(name, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    done = subprocess.run(
        command, env=processes.environment(), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", TINY)
def test_a_program_prints_its_table(name):
    printed = program(name, *TINY[name])
    here = machine.describe().rsplit(", ", 1)[0]  # between it and the date may be other libraries' versions
    for text in [*EXPECTED[name], "-: |", here]:
        assert text in printed


# ------------------------------------------------------------------------------------------ networks, beside others


@pytest.fixture
def quick_peak(monkeypatch):
    """No kernels to compile for it: ``benchmarks.kernels``, which is run too, measures the real one."""
    monkeypatch.setattr(peak, "flops_per_second", lambda: 1e11)


def squeezed(table):
    return " ".join(table.split())


def missing(library):
    return [name for name in library.packages if not find_spec(name)] + [
        name for name in library.commands if not which(name)
    ]


@pytest.mark.torch
@pytest.mark.parametrize("library", turns.THEIRS, ids=lambda library: library.module)
def test_a_step_beside_another_library(library, monkeypatch, capsys, quick_peak):
    if missing(library):
        pytest.skip(f"no {' and no '.join(missing(library))}")
    monkeypatch.setattr(turns, "THEIRS", (library,))
    assert step.main([*NETS, "16"]) == 0
    printed = capsys.readouterr().out
    assert f" {library.name} |" in printed
    assert "The libraries agree" in printed
    assert f"threads: fastconv {fc.get_num_threads()}, {library.name} " in printed


def test_steps_of_all_networks_beside_fastconv_again(monkeypatch, capsys, quick_peak):
    monkeypatch.setattr(turns, "THEIRS", (AGAIN,))
    assert step.main([*NETS[:4], "--images", "32", "--batch", "16"]) == 0
    printed = capsys.readouterr().out
    for net in step.BATCHES:
        assert printed.count(f"| {net.name:10} |    16 | ") == 4
    for text in (
        "**Training, thousand images a second: median (range)**",
        "**Inference, fastconv's speed over theirs: median (range)**",
        "| % of the arithmetic limit |",
        "The limit: 2.264 MFLOP an image, at the ",
        machine.describe(f"fastconv {fc.__version__}"),
    ):
        assert text in printed


def test_latencies_beside_fastconv_again(monkeypatch, capsys):
    monkeypatch.setattr(turns, "THEIRS", (AGAIN,))
    assert latency.main([*NETS, "1", "3"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| LeNet-5 |     3 | ") == 2
    assert printed.count("  over PyTorch |") == printed.count("  over the best |") == 2


def test_a_library_that_is_missing_is_told_of(monkeypatch, capsys, quick_peak):
    absent = Library("none", "Nobody's", ("no_such_package", "nor_this"), ("no-such-command",))
    monkeypatch.setattr(turns, "THEIRS", (absent, AGAIN))
    found, sentences = libraries.present(turns.THEIRS, sys.executable)
    assert found == [AGAIN]
    assert sentences == ("Nobody's is left out: no no_such_package and no nor_this and no no-such-command was found.\n")
    assert capsys.readouterr().err == (
        f"Nobody's is left out: no no_such_package and no nor_this and no no-such-command in {sys.executable}\n"
    )
    monkeypatch.setattr(turns, "THEIRS", (absent,))
    for program in (step, latency):
        assert program.main([*NETS, "1"]) == 0
        printed = capsys.readouterr().out
        assert sentences in printed
        assert "the best" not in printed
        assert "| network | batch | fastconv |" in squeezed(printed)


def answer(**results):
    return {"results": {"logits": [[1.0, -3.0]], **results}}


@pytest.mark.parametrize("program", [step, latency])
def test_libraries_that_disagree_are_not_timed(program, monkeypatch, capsys, quick_peak):
    answers = iter([answer(losses=[2.5, 2.0 + 1e-3]), answer(losses=[2.5, 2.0])])
    monkeypatch.setattr(libraries, "present", lambda *_: ([AGAIN], ""))
    monkeypatch.setattr(processes, "run", lambda *_: json.dumps(next(answers)))
    assert program.main([*NETS, "16"]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert (
        "fastconv and PyTorch again: losses differ by 0.0005 of their size, tolerance 0.0001; no times are given"
    ) in printed.err


def test_everything_that_two_libraries_computed_is_compared():
    ours = answer(losses=[2.5], **{"logits after training": [[1.0, -2.0]]})
    turns.check(ours, ours, "one and two")
    turns.check(ours, answer(), "one and two that cannot train")
    turns.check(ours, answer(logits=[[1.0 + 1e-5, -3.0]]), "one and two")
    for wrong, message in (
        ({"logits": [[1.001, -3.0]]}, r"one and two: logits differ by 0\.000333 of their size, tolerance 1e-05"),
        ({"logits after training": [[1.0, -2.1]]}, r"logits after training differ by 0\.0476"),
        ({"losses": [float("nan")]}, r"losses differ by nan"),
    ):
        with pytest.raises(libraries.Disagreement, match=message):
            turns.check(ours, answer(**wrong), "one and two")


def times(**rounds):
    """Return LeNet-5's times at batch 64: of each library (training, inference) seconds a round, None for never."""
    answers = {}
    for name, some in rounds.items():
        works = [{"training": training, "inference": inference} for training, inference in some]
        answers[name] = [
            {
                "version": f"{name} 1.0",
                "threads": 2,
                "times": {
                    work: {"64": {"mean": seconds, "median": seconds / 2}} for work, seconds in each.items() if seconds
                },
            }
            for each in works
        ]
    return turns.Times({nets.LENET5: [64]}, {nets.LENET5: answers}, "mean", "")


def test_ratios_are_taken_within_a_round():
    found = times(
        fastconv=[(1.0, 1.0), (2.0, 1.0), (4.0, 1.0)],
        one=[(2.0, 3.0), (6.0, 3.0), (4.0, 3.0)],
        two=[(3.0, 2.0), (3.0, 2.0), (40.0, 2.0)],
    )
    assert found.ratios(nets.LENET5, ["one"], "training", 64) == [2, 3, 1]
    assert found.ratios(nets.LENET5, ["one", "two"], "training", 64) == [2, 1.5, 1]
    row = "| LeNet-5 | 64 | 2.00 (1.00 to 3.00) | 3.00 (1.50 to 10.0) | 1.50 (1.00 to 2.00) |"
    assert row in squeezed(step.ratios(found, "training"))
    assert replace(found, kind="median").of(nets.LENET5, "one", "training", 64) == [1, 3, 2]


def test_a_library_without_training_is_left_out_of_its_tables():
    found = times(fastconv=[(0.001, 0.002)], onnx=[(None, 0.001)], torch=[(0.002, 0.004)])
    assert found.names("training") == ["fastconv", "torch"]
    assert "onnx" not in step.speeds(found, "training")
    short = step.short(found)
    assert (
        "| LeNet-5 | training  |    64 |              64.0 |         - |       2.00 |    2.00 (2.00 to 2.00) |" in short
    )
    assert (
        "| LeNet-5 | inference |    64 |              32.0 |     0.500 |       2.00 | 0.500 (0.500 to 0.500) |" in short
    )
    assert "onnx 1.0, torch 1.0, " in short


def test_the_arithmetic_limit():
    found = times(fastconv=[(64 * 2.26392e-6, 1.0), (128 * 2.26392e-6, 1.0)])
    assert "| 64 | 75.0 (50.0 to 100) |" in squeezed(step.limit(found, 1e12))
    assert "2.264 MFLOP an image, at the 1,000 GFLOP/s" in step.limit(found, 1e12)


def test_rounds_that_differ_are_told_of():
    assert not times(one=[(1.00, 1.0), (1.10, 1.0), (1.20, 1.0)]).unsteady()
    assert times(one=[(1.00, 1.0), (1.10, 1.0), (1.30, 1.0)], two=[(1.0, 1.0)] * 3).unsteady() == ["one"]


def test_a_busy_machine_is_told_of(monkeypatch):
    ticks = iter([[10, 0, 5, 100, 1, 0, 0, 0], [60, 0, 5, 140, 11, 0, 0, 0]])
    monkeypatch.setattr(quiet, "_ticks", lambda: next(ticks))
    monkeypatch.setattr(quiet.os, "cpu_count", lambda: 2)
    busy = quiet.busy_cores(seconds=0)
    assert busy == 1.0
    assert "up to 1.0 cores busy between the rounds" in replace(times(fastconv=[(1.0, 1.0)]), busy=busy).notes()
    assert "busy" not in replace(times(fastconv=[(1.0, 1.0)]), busy=0.05).notes()


def test_lenet5_as_data_is_the_model():
    ours, data = fc.models.lenet5(seed=3), fastconv_net.build(nets.LENET5, seed=3)
    assert repr(data) == repr(ours)
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(data.state_dict()[name], value)
    convolutions_, linear = (6 * 28**2 * 25, 16 * 10**2 * 6 * 25), 400 * 120 + 120 * 84 + 84 * 10
    assert nets.training_flops(nets.LENET5) == 2 * (2 * convolutions_[0] + 3 * convolutions_[1] + 3 * linear)


@pytest.mark.parametrize("net", models.BATCHES, ids=lambda net: net.name)
def test_the_models_as_data_are_the_models(net):
    ours, data = fc.models.create_for(net.name, net.image, 10, seed=3), fastconv_net.build(net, seed=3)
    assert repr(data) == repr(ours)
    theirs = data.state_dict()
    for name, value in ours.state_dict().items():
        np.testing.assert_array_equal(theirs[name], value)
    total = ours.summary(net.image).splitlines()[-2].split()[-1]
    forward, *_ = nets.forward_flops(net.layers, *net.image[1:])
    assert f"{forward / 1e6:.3f}" == total


def small_net(monkeypatch, library):
    """Run ``benchmarks.models`` on a few small images instead, beside one library."""
    monkeypatch.setattr(turns, "THEIRS", (library,))
    monkeypatch.setattr(models, "BATCHES", {nets.SMALL: (16,)})
    return models.main(["--rounds", "1", "--seconds", "0", "--images", "80"])


def test_every_kind_of_layer_beside_fastconv_again(monkeypatch, capsys):
    assert small_net(monkeypatch, AGAIN) == 0
    printed = capsys.readouterr().out
    assert printed.count("| small   |    16 | ") == 4
    assert "The libraries agree" in printed


@pytest.mark.torch
@pytest.mark.parametrize("library", turns.THEIRS, ids=lambda library: library.module)
def test_every_kind_of_layer_beside_another_library(library, monkeypatch, capsys):
    if missing(library):
        pytest.skip(f"no {' and no '.join(missing(library))}")
    assert small_net(monkeypatch, library) == 0
    printed = capsys.readouterr().out
    assert f" {library.name} |" in printed
    assert "The libraries agree" in printed


def test_models_that_disagree_are_not_timed(monkeypatch, capsys):
    monkeypatch.setattr(turns, "TOLERANCES", {"logits": -1.0})
    assert small_net(monkeypatch, AGAIN) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert "benchmarks.models: fastconv and fastconv: logits differ by 0 of their size, tolerance -1" in printed.err


def test_the_work_is_the_same_each_time(tmp_path):
    def written(name, net, seed):
        turns.write_work(tmp_path / name, net, 40, seed)
        with np.load(tmp_path / name) as file:
            return {key: file[key] for key in file.files}

    first, again, other = (written(f"{n}.npz", nets.COLOUR, seed) for n, seed in enumerate((0, 0, 1)))
    assert first["images"].shape == (40, 3, 32, 32)
    assert first["images"].dtype == np.uint8
    assert sorted(first["order"]) == list(range(40))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["images"], other["images"])
    assert not np.array_equal(first["model.0.weight"], other["model.0.weight"])
    assert written("digits.npz", nets.DIGITS, 0)["images"].shape == (40, 1, 28, 28)


# --------------------------------------------------------------------------------------- convolutions, beside others


@pytest.mark.torch
def test_convolutions_beside_pytorch():
    peer("torch")
    printed = program("convolutions", *CONVOLUTIONS)
    assert printed.count("| 1 to 6, 5x5, at 28 ") == 9  # three tables, and the smallest ratios to PyTorch and tuned
    assert "| PyTorch, GFLOP/s | " in printed
    assert "Results agree to 0.0001 of the largest." in printed


def test_convolutions_beside_fastconv_again(monkeypatch, capsys, quick_peak):
    monkeypatch.setattr(convolutions, "THEIRS", (Library("fastconv_convolution", "itself"),))
    assert convolutions.main(CONVOLUTIONS) == 0
    printed = capsys.readouterr().out
    for text in (
        "**Gradient to the filters**",
        "| itself, GFLOP/s | ",
        "**fastconv over itself, all shapes**",
        "| geometric mean |",
        "GFLOP/s.\n" + machine.describe(f"fastconv {fc.__version__}"),
    ):
        assert text in printed


def test_convolutions_that_disagree_are_not_timed(monkeypatch, capsys, quick_peak):
    monkeypatch.setattr(convolutions, "THEIRS", (Library("fastconv_convolution", "itself"),))
    monkeypatch.setattr(convolutions, "TOLERANCE", -1.0)
    assert convolutions.main(CONVOLUTIONS) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert "1 to 6, 5x5, at 28, forward: results differ by 0 of the largest, tolerance -1; no times" in printed.err


def test_every_direction_of_a_convolution_is_compared(rng):
    ours = {direction: rng.standard_normal((3, 4)) for direction in shapes.DIRECTIONS}
    for direction in shapes.DIRECTIONS:
        convolutions.check(shapes.ALL[0], ours, ours)
        wrong = ours | {direction: ours[direction] * 1.001}
        with pytest.raises(libraries.Disagreement, match=f"at 28, {direction}: results differ by 0.000999 of"):
            convolutions.check(shapes.ALL[0], ours, wrong)


def test_shapes_have_names_of_their_own_and_the_sizes_of_convolutions():
    assert len(set(map(str, shapes.ALL))) == len(shapes.ALL)
    for shape in shapes.ALL:
        layer = fc.Conv2d(
            shape.channels, shape.filters, shape.taps, shape.stride, shape.padding, groups=shape.groups, bias=False
        )
        work = fc.Workspace(np.dtype(np.float32))
        assert layer.weight.shape == shape.weight
        assert layer.plan((1, shape.channels, shape.size, shape.size), work)[2:] == (shape.out, shape.out)
    assert shapes.ALL[0].flops == 2 * 128 * 28 * 28 * 6 * 25


def test_a_conversation():
    with processes.Conversation(["-c", "print('hello', flush=True); print(input()[::-1])"]) as other:
        assert other.hear() == "hello\n"
        assert other.ask("abc") == "cba\n"


def test_a_conversation_whose_other_side_dies_says_so():
    with processes.Conversation(["-c", "raise SystemExit(3)"]) as other:
        with pytest.raises(SystemExit, match="exit code 3 instead of an answer"):
            other.hear()


# --------------------------------------------------------------------------------------------------- and the others


def test_all_programs_run_one_after_the_other(monkeypatch, capfd):
    called = []

    def run(command, **_):
        called.append(command[2:])
        return subprocess.CompletedProcess(command, command[2] == "benchmarks.start")

    monkeypatch.setattr(subprocess, "run", run)
    assert __main__.main(["--write", "--peers-python", "python"]) == 1
    assert called[0] == ["benchmarks.step", "--write", "--peers-python", "python"]
    assert called[-1] == ["benchmarks.tiles", "--write"]
    assert {name.removeprefix("benchmarks.") for name, *_ in called} == {
        "step",
        "models",
        "latency",
        "convolutions",
        *TINY,
    }
    assert capfd.readouterr().err.endswith("benchmarks: failed: start\n")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (1, "1.00"),
        (12.345, "12.3"),
        (123.4, "123"),
        (12345, "12,345"),
        (999.6, "1,000"),
    ],
)
def test_figures_have_three_digits(value, text):
    assert figures.digits(value) == text


def test_a_spread_is_a_median_and_a_range():
    assert figures.spread([3, 1, 10]) == "3.00 (1.00 to 10.0)"
    assert figures.median([3, 1, 10]) == "3.00"


def test_loops_that_disagree_with_the_kernel_are_not_timed():
    operation = next(each for each in operations.ALL if each.name == "ReLU, forward")
    case = operation.prepare(np.random.default_rng(0), 2)
    operations.check(case, "njit", operation.name)
    wrong = replace(case, expected=lambda: [case.expected()[0] + np.float32(1e-3)])
    with pytest.raises(operations.Disagreement, match=r"ReLU, forward, njit: loops and kernel differ by 0\.001"):
        operations.check(wrong, "njit", operation.name)


def test_the_rungs_do_not_get_each_others_code():
    """Numba's cache tells functions apart by file, line and this name, and not by what they are compiled with."""
    names = {naive.rung(naive.relu_forward, name).__qualname__ for name in naive.RUNGS}
    assert names == {"relu_forward", "relu_forward_njit", "relu_forward_njit_parallel"}


def test_the_first_of_the_tiles_is_the_one_that_is_chosen():
    for kernel in tiles._kernels():
        (first,) = tiles.tiles(kernel, 1)
        assert first == tiles.tilesize.choose(kernel.rows, kernel.columns, kernel.row_load)


def test_the_logs_of_the_post_are_repeated_and_written(monkeypatch, tmp_path, capsys):
    page = tmp_path / "origins.md"
    begin, end = machine.markers("origins")
    page.write_text(f"before\n{begin}old\n{end}\nafter\n")
    small = replace(origins.BUILT_IN[0], title="tiny", train=40, validation=20)
    monkeypatch.setattr(origins, "BUILT_IN", (small,))
    monkeypatch.setattr(origins, "PAGE", page)
    assert origins.main(["--write"]) == 0
    written = page.read_text()
    assert written.startswith(f"before\n{begin}\n| epoch ")
    assert written.endswith(f"\n\n{end}\nafter\n")
    assert "old" not in written
    assert "| tiny: the post |" in written
    assert "needs Kaggle's training file" in written
    assert "| 10 " in capsys.readouterr().out


def test_peers_that_are_not_there_are_left_out(monkeypatch, capsys):
    monkeypatch.setattr(start, "PEERS", ("numpy", "no-such-package"))
    assert list(start.versions(sys.executable)) == ["numpy"]
    assert "no no-such-package, left out; name one with --peers-python" in capsys.readouterr().err


def test_a_goal_that_is_not_reached_leaves_no_figure(monkeypatch, capsys):
    monkeypatch.setattr(time_to_accuracy_run, "EPOCHS", 1)
    assert time_to_accuracy_run.main(["0", "--goal", "1.1"]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert re.search(r"seed 0: 0\.\d{4} right after 1 epochs, goal 1\.1", printed.err)


def test_the_busy_process_ends():
    with busy.busy_core() as child:
        assert child.poll() is None
    assert child.poll() is not None
    with pytest.raises(KeyboardInterrupt), busy.busy_core() as child:
        raise KeyboardInterrupt
    assert child.poll() is not None


def test_a_step_of_lenet_is_2264_thousand_operations_an_image():
    assert roofline.training_flops(fc.models.lenet5(), (128, 1, 28, 28)) == 128 * 2_263_920


@pytest.mark.skipif(INTERPRETED, reason="the interpreter launches nothing")
def test_a_step_that_is_watched_shows_its_kernels():
    found = roofline.measure(batch=16, seconds=0)
    assert len(found.launches) > 5
    assert all(len(launch.times) == len(found.launches[0].times) for launch in found.launches)
    work = sum(launch.cost.flops for launch in found.launches if launch.cost)
    assert found.flops <= work <= 1.02 * found.flops


def test_a_kernel_of_unknown_cost_is_listed_with_its_time():
    seen = roofline.Seen("a_new_kernel", (np.zeros((2, 3)), 1), 1.0)
    launch = roofline._launch(seen, 1.0, {1: 1.0})
    launch.times.append(2e-6)
    assert roofline._row(launch) == ["a_new_kernel", "2 x 3", "-", "2.0", "-", "-", "-", "-"]


def test_a_kernel_may_hope_for_the_best_speed_of_as_many_bytes():
    speeds = {10: 3.0, 100: 1.0, 1000: 2.0}
    assert [bandwidth.fastest(speeds, size) for size in (0, 10, 11, 1000, 5000)] == [3, 3, 2, 2, 2]


def test_a_table_is_aligned():
    assert machine.table(["what", "s"], [["a", "1.25"], ["longer", "3"]]) == (
        "| what   |    s |\n| ------ | ---: |\n| a      | 1.25 |\n| longer |    3 |\n"
    )


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match=r"'<!-- generated: python -m benchmarks\.step -->' and '<!-- end -->'"):
        machine.replace_block("nothing", "step", "a table")


@pytest.mark.parametrize("name", ["step", "models", "latency", "convolutions", *TINY])
def test_the_page_has_a_place_for_every_table(name):
    page = machine.PAGE.read_text(encoding="utf-8")
    assert machine.replace_block(page, name, "a table").count("a table") == page.count("a table") + 1


# ------------------------------------------------------------------------------------------------- the accuracy ladder


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """Quick rows, a hundred digits as CSV in a folder of data, and a page to write to."""
    recipes = {
        "quick": accuracy.Recipe(0.5, "--model lenet_seed --epochs 20 --batch-size 16"),
        "together": accuracy.Recipe(0.6, "--model lenet_seed --epochs 1 --augment --ensemble 2 --tta 2"),
        "alone": accuracy.Recipe(0.6, "--model lenet_seed --epochs 1 --augment"),
        "clothes": accuracy.Recipe(0.9, "--epochs 1", "fashion"),
    }
    monkeypatch.setattr(accuracy, "RECIPES", recipes)
    monkeypatch.setattr(accuracy, "THREADS", 1)
    monkeypatch.setattr(accuracy, "PAGE", tmp_path / "docs" / "accuracy.md")
    monkeypatch.setattr(accuracy, "RESULTS", tmp_path / "docs" / "accuracy")
    begin, end = machine.markers("accuracy")
    (tmp_path / "docs").mkdir()
    accuracy.PAGE.write_text(f"before\n{begin}old\n{end}\nafter\n")
    digits = fc.data.digits10k()
    pixels = [f"pixel{n}" for n in range(784)]
    (tmp_path / "digits").mkdir()
    order = fc.data.permutation(len(digits), 0, 0)  # they are sorted by label
    for name, part, labels in (("train", order[:100], ["label"]), ("test", order[100:110], [])):
        images = digits.images[part].reshape(-1, 784)
        rows = np.column_stack([digits.labels[part], images]) if labels else images
        header = ",".join([*labels, *pixels])
        np.savetxt(tmp_path / "digits" / f"{name}.csv.gz", rows, "%d", ",", header=header, comments="")
    return tmp_path


def test_a_row_of_the_ladder_is_measured_and_written(ladder, capsys):
    out = ladder / "out"
    assert accuracy.main(["quick", "--seeds", "1", "--data-dir", str(ladder), "--out", str(out), "--write"]) == 0
    capsys.readouterr()
    run, found = out / "quick" / "seed-0", json.loads((out / "quick.json").read_text())
    config, digits = json.loads((run / "config.json").read_text()), fc.data.load(ladder / "digits/train.csv.gz")
    assert (config["data"]["train"], config["data"]["validation"], config["options"]["threads"]) == (90, 0, 1)
    model = fc.load(run / "model.safetensors")
    assert 0 < found["right"][0] == (model.predict(digits.images[90:]) == digits.labels[90:]).sum()
    assert (found["images"], found["seeds"], found["parameters"]) == (10, [0], 5120)
    submission = np.loadtxt(out / "quick.csv", np.int64, delimiter=",", skiprows=1)[:, 1]
    np.testing.assert_array_equal(submission, model.predict(fc.data.load(ladder / "digits/test.csv.gz").images))
    assert gzip.decompress((accuracy.RESULTS / "quick.csv.gz").read_bytes()) == (out / "quick.csv").read_bytes()

    assert accuracy.main(["together", "--seeds", "1", "--data-dir", str(ladder), "--write"]) == 0
    written, printed = accuracy.PAGE.read_text(), capsys.readouterr().out
    assert written.startswith("before\n")
    assert "old" not in written
    assert "| `fastconv train train.csv.gz --model lenet_seed --epochs 20 --batch-size 16` |" in squeezed(written)
    for line in written.splitlines():
        assert not line or line in printed or line in ("before", "after") or line.startswith("<!--")
    rows = [squeezed(line) for line in written.splitlines() if line.startswith(("| quick ", "| together "))]
    assert [row.split(" | ")[0] for row in rows] == ["| quick", "| together"]
    assert "| 10,240 | 0.6000 | 0." in rows[1]
    assert f"- quick, together: {machine.describe()}." in written


def test_members_of_an_ensemble_are_what_their_seeds_make_alone(ladder):
    out, rows = ladder / "out", ["--data-dir", str(ladder)]
    assert accuracy.main(["together", "--seeds", "1", *rows, "--out", str(out)]) == 0
    assert accuracy.main(["alone", *rows, "--out", str(out)]) == 0
    assert sorted(path.name for path in (out / "alone").glob("seed-?")) == ["seed-2"]  # 0 and 1 were there
    assert accuracy.main(["alone", "--seeds", "2", *rows, "--out", str(ladder / "other")]) == 0
    for seed in (0, 1):
        model = (ladder / "other" / "alone" / f"seed-{seed}" / "model.safetensors").read_bytes()
        assert model == (out / "together" / "seed-0" / f"member-{seed + 1}" / "model.safetensors").read_bytes()
        answers = out / "alone" / f"seed-{seed}-final.csv"
        assert answers.read_bytes() == (ladder / "other" / "alone" / answers.name).read_bytes()


def test_intervals_are_of_all_seeds_together():
    figures = {
        "row": "a", "data": "digits/train.csv.gz", "options": "", "target": 0.99, "parameters": 61706, "seeds": [0, 1],
        "images": 1000, "right": [980, 990], "train_seconds": [10, 12], "machine": "here",
    }  # fmt: skip
    low, high = accuracy.wilson_interval(1970, 2000)
    row = (
        f"| a | `fastconv train train.csv.gz` | 61,706 | 0.9900 | 0.9850 | 0.0071 | {low:.4f} to {high:.4f} | 2 | 11 |"
    )
    assert row in squeezed(accuracy.table([figures]))
    assert "| - |" in squeezed(accuracy.table([figures | {"right": [980]}]))
    assert accuracy.table([]) == "No row has been measured yet.\n"


def test_no_two_ensembles_share_a_model():
    assert accuracy.seeds_of(accuracy.Recipe(0.5, "--ensemble 4 --tta 8"), 3) == [0, 4, 8]
    assert accuracy.seeds_of(accuracy.Recipe(0.5, "--epochs 3"), 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clothes"], "fashion/train.npz: there is no such file; name the folder that holds fashion/train.npz with"),
        (["slow"], "expected rows of quick, together, alone, clothes, got 'slow'"),
        (["quick", "--seeds", "0"], "expected at least one seed, got 0"),
        (["quick", "--out", "OUT"], "quick is there already; remove it, or name another folder with --out"),
    ],
)
def test_what_cannot_be_measured_is_said_at_once(ladder, capsys, words, message):
    (ladder / "out" / "quick").mkdir(parents=True)
    words = [str(ladder / "out") if word == "OUT" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        accuracy.main([*words, "--data-dir", str(ladder)])
    assert message in str(ended.value) + capsys.readouterr().err


def test_recipes_are_options_that_train_knows():
    for recipe in accuracy.RECIPES.values():
        _parse(["train", "data", *recipe.options.split(), "--val", "0"])
    page = (machine.ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    assert machine.replace_block(page, "accuracy", "a table").count("a table") == page.count("a table") + 1
