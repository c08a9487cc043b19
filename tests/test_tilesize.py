"""The choice of a tile: always one that fits, whatever processor and shape."""

import pytest

from fastconv_kernels import tilesize
from fastconv_kernels.tile import LANES

# Vector registers and their width in float32 values, from the processors' manuals.
INSTRUCTION_SETS = {"avx512": (32, 16), "avx2": (16, 8), "neon": (32, 4), "generic": (16, 4)}
each_set = pytest.mark.parametrize("name", INSTRUCTION_SETS)


@pytest.fixture
def processor(monkeypatch):
    """Pretend that kernels are compiled for another instruction set."""

    def pretend(name):
        monkeypatch.setattr(tilesize, "instruction_set", lambda: name)

    tilesize.choose.cache_clear()
    yield pretend
    tilesize.choose.cache_clear()


@each_set
@pytest.mark.parametrize("row_load", [tilesize.SCALAR, tilesize.VECTOR])
def test_every_choice_fits(name, row_load, processor):
    processor(name)
    registers, width = INSTRUCTION_SETS[name]
    for rows in [*range(1, 41), 64, 84, 120, 512]:
        for columns in [*range(1, 41), 112, 224]:
            m, p = tilesize.choose(rows, columns, row_load)
            assert 1 <= m <= rows
            assert 1 <= p <= columns
            assert tilesize.fits(m, p)
            # Accumulators, one row of pixels, and a weight.
            assert (m * p + p) * (LANES // width) + 1 <= registers


@each_set
def test_large_shapes_use_their_registers(name, processor):
    processor(name)
    m, p = tilesize.choose(64, 56)
    assert m * p * (LANES // INSTRUCTION_SETS[name][1]) >= 8, "fewer accumulators than hide a multiply-add's latency"


@each_set
def test_a_tile_larger_than_the_register_file_does_not_fit(name, processor):
    processor(name)
    assert tilesize.fits(1, 1)
    assert not tilesize.fits(8, 8)
    assert not tilesize.fits(1, 6)


@pytest.mark.parametrize(
    ("cpu", "features", "host", "name"),
    [
        (None, None, {"avx2": True, "avx512f": True, "neon": False}, "avx512"),
        (None, None, {"avx2": True, "avx512f": False}, "avx2"),
        (None, None, {"neon": True}, "neon"),
        (None, None, {"sse2": True}, "generic"),
        (None, None, {}, "generic"),
        ("generic", "", {"avx512f": True}, "generic"),
        ("haswell", None, {"avx512f": True}, "avx2"),
        ("skylake-avx512", None, {}, "avx512"),
        ("znver4", "", {}, "avx512"),
        ("x86-64-v3", "+avx2,+fma", {}, "avx2"),
        ("x86-64-v4", "+avx2,+avx512f", {}, "avx512"),
        ("cortex-a72", "+neon", {}, "neon"),
        ("a processor from the future", None, {}, "generic"),
    ],
)
def test_instruction_set(cpu, features, host, name, monkeypatch):
    monkeypatch.setattr(tilesize.config, "CPU_NAME", cpu)
    monkeypatch.setattr(tilesize.config, "CPU_FEATURES", features)
    monkeypatch.setattr(tilesize.llvm, "get_host_cpu_features", lambda: host)
    assert tilesize.instruction_set.__wrapped__() == name


def test_this_processor_has_a_choice():
    assert tilesize.instruction_set() in INSTRUCTION_SETS
    assert tilesize.choose(6, 28) == tilesize.choose(6, 28)
