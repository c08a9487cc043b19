"""Every program in benchmarks/ runs, on next to nothing, and prints its table.  What it measures is not looked at."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastconv as fc
from benchmarks import (
    accuracy_run,
    bandwidth,
    busy,
    machine,
    naive,
    operations,
    origins,
    processes,
    roofline,
    start,
    step,
    tiles,
)
from fastconv_kernels.runtime import INTERPRETED

TINY = {
    "accuracy": ["--seeds", "0", "--held-out", "0.05", "--goal", "0.1"],
    "busy": ["--batch", "16", "--rounds", "1", "--seconds", "0"],
    "denormals": ["--batch", "16", "--seconds", "0"],
    "kernels": ["--batch", "2", "--seconds", "0"],
    "memory": ["--digits", "100", "--epochs", "1"],
    "roofline": ["--batch", "16", "--seconds", "0"],
    "scaling": ["--threads", "1", "--rounds", "1", "--batch", "1", "--size", "8", "--seconds", "0"],
    "start": ["--runs", "1", "--cold-runs", "0"],
    "tiles": ["--batch", "16", "--most", "1", "--seconds", "0"],
}
STEP = ["--rounds", "1", "--seconds", "0", "--batch", "16", "--images", "320"]
EXPECTED = {
    "accuracy": ["| 0 ", "| mean ", "| worst ", "kernels from their cache"],
    "busy": ["| quiet ", "| one core busy elsewhere "],
    "denormals": ["| ordinary ", "| denormal ", "ratio (range)"],
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
    for text in [*EXPECTED[name], "-: |", machine.describe()]:
        assert text in printed


@pytest.mark.torch
def test_a_step_beside_pytorch():
    pytest.importorskip("torch")
    printed = program("step", *STEP, "--torch-python", sys.executable)
    assert "| training " in printed
    assert "| inference " in printed
    assert re.search(r"\| +ratio \|", printed)
    assert "agree to 0.0001" in printed


def test_a_step_without_pytorch(monkeypatch, capsys):
    monkeypatch.setattr(step, "find_spec", lambda name: None)
    assert step.main(STEP) == 0
    printed = capsys.readouterr().out
    assert "| training " in printed
    assert "ratio" not in printed
    assert 'pip install "fastconv[bench]"' in printed


def test_peers_that_disagree_are_not_timed(monkeypatch, capsys):
    answers = iter(
        [
            {"library": "one", "losses": [2.5, 2.0], "logits": [[1.0, -3.0]]},
            {"library": "two", "losses": [2.5, 2.0 + 1e-3], "logits": [[1.0, -3.0]]},
        ]
    )
    monkeypatch.setattr(step.processes, "run", lambda *_: step.json.dumps(next(answers)))
    assert step.main([*STEP, "--torch-python", "python"]) == 1
    printed = capsys.readouterr()
    assert not printed.out
    assert "one and two: losses of step 2 are 2 and 2.001, tolerance 0.0001; no times are given" in printed.err


def test_logits_are_compared_too():
    ours = {"library": "one", "losses": [2.5], "logits": [[1.0, -3.0]]}
    step.check(ours, ours | {"logits": [[1.0 + 1e-5, -3.0]]})
    with pytest.raises(step.Disagreement, match=r"logits differ by 0\.001, tolerance 0\.0001 of 3"):
        step.check(ours, ours | {"logits": [[1.001, -3.0]]})
    with pytest.raises(step.Disagreement, match=r"losses of step 1 are 2\.5 and nan"):
        step.check(ours, ours | {"losses": [float("nan")]})


def test_rounds_that_differ_are_told_of():
    def rounds(*speeds):
        return {"one": [{"speeds": {"training": {"64": speed}}} for speed in speeds]}

    assert not step.unsteady(rounds(100.0, 110.0, 120.0))
    assert step.unsteady(rounds(100.0, 110.0, 130.0))


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
    monkeypatch.setattr(accuracy_run, "EPOCHS", 1)
    assert accuracy_run.main(["0", "--goal", "1.1"]) == 1
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


@pytest.mark.parametrize("name", ["step", *TINY])
def test_the_page_has_a_place_for_every_table(name):
    page = machine.PAGE.read_text(encoding="utf-8")
    assert machine.replace_block(page, name, "a table").count("a table") == page.count("a table") + 1
