"""Training gives the same bits with any number of threads, any thread layer, and code for any processor."""

import hashlib
import json
import platform
import re
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import llvmlite.binding as llvm

from benchmarks import processes
from benchmarks.reliability.promise import Outcome, Promise

# Numbers of choices that have no common divisor, so that the n-th of each, for all n, are all combinations, and those
# that follow one another differ in everything.
_PROCESSORS = ("native", "haswell", "skylake-avx512", "generic")
_LAYERS = ("tbb", "workqueue", "omp")
_THREADS = (1, 3, 2, 8, 4)
_ALL = len(_PROCESSORS) * len(_LAYERS) * len(_THREADS)
# But the first three, which the tests try, are of all thread layers and two processors: to compile is what takes time.
_ORDER = list(range(_ALL))
_ORDER[2], _ORDER[32] = 32, 2
_SECONDS = 1800
_NEEDS = {"haswell": ("avx2", "fma"), "skylake-avx512": ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")}
# What the code of a convolution must be full of.
_INSTRUCTIONS = {"avx512": "fused on zmm", "avx2": "fused on ymm", "generic": "none fused"}


class _Run(NamedTuple):
    """How a network is trained."""

    images: int
    batch_size: int
    epochs: int
    optimizer: str
    augment: str
    channels: int = 1


_NETS = {
    "lenet5": _Run(200, 33, 2, "adamw", "digits"),
    "digitnet": _Run(120, 49, 1, "adam", "digits"),
    "resnet20": _Run(120, 49, 1, "sgd", "cifar", 3),
}


def measure(seed: int, cases: int) -> Outcome:
    """Train LeNet-5 in so many configurations, then digitnet, then ResNet-20; nothing is left to the seed."""
    hashes: dict[str, dict[str, list[str]]] = {}
    failures: list[str] = []
    notes: set[str] = set()
    asked: list[str] = []
    looked = {"native"}  # which may have been compiled before
    trained = 0
    with tempfile.TemporaryDirectory() as caches:
        for case in range(cases):
            net, number = list(_NETS)[case // _ALL], _ORDER[case % _ALL]
            processor, layer, threads = (kinds[number % len(kinds)] for kinds in (_PROCESSORS, _LAYERS, _THREADS))
            asked.append(processor)
            if reason := _why_not(processor):
                notes.add(f"code for {processor}: {reason}")
                looked.add(processor)
                continue
            changes = {"NUMBA_THREADING_LAYER": layer}
            if processor != "native":
                # An empty list of features means those of the named processor, rather than of this one.
                changes |= {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": ""}
            if processor != "native" or cases >= _ALL:  # else what is compiled already will do
                changes["FASTCONV_CACHE_DIR"] = f"{caches}/{processor}"
            where = f"case {case}, {net}, {threads} threads of {layer}, code for {processor}"
            try:
                found = _train(net, threads, changes)
            except RuntimeError as error:
                failures.append(f"{where}: {error}")
                continue
            if found["layer"] is None:
                notes.add(f"thread layer {layer}: it cannot be loaded here")
                continue
            failures += [f"{where}: {wrong}" for wrong in _not_as_asked(found, processor, layer, threads)]
            looked |= {processor} if found["codes"] else set()
            trained += 1
            hashes.setdefault(net, {}).setdefault(found["sha256"], []).append(where)
    for net, found in hashes.items():
        if len(found) > 1:
            kinds = [f"{sha256[:12]}: {wheres[0]} and {len(wheres) - 1} more" for sha256, wheres in found.items()]
            failures.append(f"{net}: {len(found)} hashes: {'; '.join(kinds)}")
    failures += [
        f"nothing was compiled for {processor}" for processor in dict.fromkeys(asked) if processor not in looked
    ]
    each = [f"{len(found)} of {net} ({' '.join(sha256[:8] for sha256 in found)})" for net, found in hashes.items()]
    return Outcome(f"{trained} trainings, hashes: {', '.join(each)}", failures, sorted(notes))


def _why_not(processor: str) -> str | None:
    """Return why this machine cannot run the code for a processor, or None."""
    if processor == "native":
        return None
    if platform.machine() not in ("x86_64", "AMD64"):
        return f"this is {platform.machine()}"
    present = llvm.get_host_cpu_features()
    lacking = [feature for feature in _NEEDS.get(processor, ()) if not present.get(feature)]
    return f"this machine has no {' '.join(lacking)}" if lacking else None


def _not_as_asked(found: dict[str, Any], processor: str, layer: str, threads: int) -> list[str]:
    wrong = []
    if (found["layer"], found["threads"]) != (layer, threads):
        wrong.append(f"ran on {found['threads']} threads of {found['layer']}")
    target = llvm.get_host_cpu_name() if processor == "native" else processor
    if found["target"] != target:
        wrong.append(f"code is for {found['target']}, not {target}")
    for code in found["codes"]:
        if code != _INSTRUCTIONS.get(found["instructions"], code):
            wrong.append(f"{found['instructions']}, and in a convolution's code: {code}")
    return wrong


def _train(net: str, threads: int, changes: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", __name__, net, str(threads)]
    environment = processes.environment(changes)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {_SECONDS} s") from None
    if done.returncode or done.stderr:
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr[-500:]}")
    return json.loads(done.stdout)


# ------------------------------------------------------------------------------------------------------ in the process


def _main(net: str, threads: str) -> None:
    import numpy as np
    from numba.core.registry import cpu_target

    import fastconv as fc
    from fastconv.data import digits10k
    from fastconv_kernels.tilesize import instruction_set

    fc.set_num_threads(int(threads))
    try:
        layer = fc.thread_layer()
    except ValueError:
        layer = None
    found: dict[str, Any] = {"layer": layer, "threads": fc.get_num_threads(), "codes": _looked_at()}
    if layer is not None:
        how = _NETS[net]
        digits = digits10k()
        x = np.repeat(digits.images[: how.images], how.channels, axis=1)
        *layers, last = fc.models.create(net, in_channels=how.channels, seed=1).layers
        model = fc.Sequential(*layers, fc.Dropout(0.3), last, seed=1)
        history = model.fit(
            x,
            digits.labels[: how.images],
            epochs=how.epochs,
            batch_size=how.batch_size,
            optimizer=how.optimizer,
            augment=how.augment,
            seed=1,
            verbose=False,
        )
        digest = hashlib.sha256(np.array([record["train_loss"] for record in history]).tobytes())
        for name, array in model.state_dict().items():
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        digest.update(model.predict_proba(x[:33]).tobytes())
        found |= {
            "sha256": digest.hexdigest(),
            "instructions": instruction_set(),
            "target": cpu_target.target_context.codegen().magic_tuple()[1],
        }
    print(json.dumps(found))


def _looked_at() -> list[str]:
    """Return a list that will say, of each convolution that is compiled, what its multiply-adds are."""
    from fastconv_kernels.cache import KernelCache

    found: list[str] = []
    save = KernelCache.save_overload

    def looked(self: KernelCache, sig: Any, data: Any) -> None:
        if self._function.__name__ == "conv2d_forward":
            fused = re.findall(r"\bvf[n]?m(?:add|sub)\w*p[sd]\s.*%([xyz]mm)", data.library.get_asm_str())
            found.append(f"fused on {max(fused)}" if fused else "none fused")
        save(self, sig, data)

    KernelCache.save_overload = looked
    return found


PROMISE = Promise(
    "Training gives the same bits on every machine",
    "SHA-256 of weights, running statistics, losses and predictions after training on real digits with augmentation "
    "and dropout: LeNet-5 by AdamW, digitnet by Adam, ResNet-20 by SGD, each in a process of its own on 1, 2, 3, 4 and "
    "8 threads of tbb, omp and workqueue, with machine code generated, and looked at, for this processor, haswell, "
    "skylake-avx512 and generic x86-64, which has no fused multiply-add",
    measure,
    short=3,
    long=_ALL * len(_NETS),
)

if __name__ == "__main__":
    _main(*sys.argv[1:])
