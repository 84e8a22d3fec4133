"""The map: laid out by a process of its own, cached, repeatable."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ltg_core.embedding import MapSettings, UmapWorker, compute_map, place
from ltg_core.errors import Cancelled, InputError, LtgError, MissingExtra, ParamError, WorkspaceError
from ltg_core.jobs import CancelToken, Progress


def blobs(count: int = 201, dims: int = 64) -> np.ndarray:
    """Three groups far apart, in turns."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, dims)) * 6
    return (centres[np.arange(count) % 3] + rng.normal(size=(count, dims))).astype(np.float32)


@pytest.fixture(scope="module")
def worker() -> Iterator[UmapWorker]:
    made = UmapWorker()
    yield made
    made.close()


@pytest.fixture(scope="module")
def made(worker: UmapWorker, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """One finished map and the folder that caches it."""
    folder = tmp_path_factory.mktemp("maps")
    seen: list[Progress] = []
    result = compute_map(blobs(), cache_dir=folder, worker=worker, on_progress=seen.append)
    assert not result.cached and result.notes == ()
    assert [p.done for p in seen] == [0, 1, 2, 4]
    return folder, result.coords


def test_groups_stay_apart(made: tuple[Path, np.ndarray]) -> None:
    coords = made[1]
    assert coords.shape == (201, 2) and coords.dtype == np.float32
    group = np.arange(201) % 3
    centres = np.stack([coords[group == g].mean(axis=0) for g in range(3)])
    nearest = np.linalg.norm(coords[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == group).all()


def test_a_cached_map_is_immediate_and_identical(made: tuple[Path, np.ndarray]) -> None:
    idle = UmapWorker()
    again = compute_map(blobs(), cache_dir=made[0], worker=idle)
    assert again.cached and idle.pid is None
    assert np.array_equal(again.coords, made[1])


def test_the_same_seed_gives_the_same_map_from_the_same_living_process(
    made: tuple[Path, np.ndarray], worker: UmapWorker, tmp_path: Path
) -> None:
    pid = worker.pid
    assert pid is not None
    again = compute_map(blobs(), cache_dir=tmp_path, worker=worker)
    assert not again.cached
    assert np.array_equal(again.coords, made[1])
    assert worker.pid == pid


def test_another_seed_or_other_features_are_another_map(
    made: tuple[Path, np.ndarray], worker: UmapWorker
) -> None:
    other = compute_map(blobs(), MapSettings(seed=1), cache_dir=made[0], worker=worker)
    assert not other.cached and not np.array_equal(other.coords, made[1])
    fewer = compute_map(blobs()[:60], MapSettings(metric="cosine"), cache_dir=made[0], worker=worker)
    assert not fewer.cached


def test_a_damaged_cache_file_is_made_anew(worker: UmapWorker, tmp_path: Path) -> None:
    first = compute_map(blobs(30), cache_dir=tmp_path, worker=worker)
    (file,) = tmp_path.glob("map-*.npy")
    file.write_bytes(file.read_bytes()[:40])
    again = compute_map(blobs(30), cache_dir=tmp_path, worker=worker)
    assert not again.cached
    assert np.array_equal(again.coords, first.coords)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [file.name]


def test_few_samples_get_fewer_neighbours_and_a_note(worker: UmapWorker, tmp_path: Path) -> None:
    for count in (5, 11, 12):
        result = compute_map(blobs(count), cache_dir=tmp_path, worker=worker)
        assert result.coords.shape == (count, 2) and np.isfinite(result.coords).all()
        assert result.notes == (f"15 neighbours were asked for; {count} samples have {count - 1} at most",)


def test_identical_samples_make_a_finite_map(worker: UmapWorker, tmp_path: Path) -> None:
    result = compute_map(np.ones((20, 4)), cache_dir=tmp_path, worker=worker)
    assert np.isfinite(result.coords).all()


def test_above_the_limit_the_rest_is_placed_among_its_neighbours(worker: UmapWorker, tmp_path: Path) -> None:
    settings = MapSettings(max_points=60)
    result = compute_map(blobs(), settings, cache_dir=tmp_path, worker=worker)
    assert "60 of 201 samples" in result.notes[0]
    group = np.arange(201) % 3
    centres = np.stack([result.coords[group == g].mean(axis=0) for g in range(3)])
    assert (np.linalg.norm(result.coords[:, None] - centres, axis=2).argmin(axis=1) == group).all()
    again = compute_map(blobs(), settings, cache_dir=tmp_path, worker=worker)
    assert again.cached and again.notes == result.notes


def test_cancel_ends_the_process_and_the_next_map_starts_another(tmp_path: Path) -> None:
    worker, token = UmapWorker(), CancelToken()
    pids: list[int] = []

    def stop(progress: Progress) -> None:
        assert worker.pid is not None
        pids.append(worker.pid)
        token.cancel()

    try:
        with pytest.raises(Cancelled):
            compute_map(blobs(), cache_dir=tmp_path, worker=worker, on_progress=stop, cancel=token)
        assert worker.pid is None
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        assert not list(tmp_path.glob("map-*"))
        compute_map(blobs(12), cache_dir=tmp_path, worker=worker)
        assert worker.pid not in (None, pids[0])
    finally:
        worker.close()


def test_a_process_that_died_is_reported_and_replaced(tmp_path: Path) -> None:
    worker = UmapWorker()

    def kill(progress: Progress) -> None:
        if progress.done == 0:
            assert worker.pid is not None
            os.kill(worker.pid, 9)

    try:
        with pytest.raises(LtgError, match="ended with code -9"):
            compute_map(blobs(), cache_dir=tmp_path, worker=worker, on_progress=kill)
        assert worker.pid is None
    finally:
        worker.close()


def test_a_waiting_map_can_be_cancelled_too(worker: UmapWorker, tmp_path: Path) -> None:
    token = CancelToken()
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            worker.run(blobs(12), MapSettings(), cancel=token)
        except Cancelled as error:
            outcome.append(error)

    with worker._turn:
        thread = threading.Thread(target=wait)
        thread.start()
        token.cancel()
        thread.join(timeout=10)
    assert len(outcome) == 1


def test_the_process_ends_with_its_parent() -> None:
    script = (
        "import os, numpy as np\n"
        "from ltg_core.embedding import UmapWorker, MapSettings\n"
        "worker = UmapWorker()\n"
        "def note(p):\n"
        "    print(worker.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "features = np.random.default_rng(0).normal(size=(9, 3)).astype('float32')\n"
        "worker.run(features, MapSettings(), on_progress=note)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    pid = int(done.stdout)
    for _ in range(300):
        try:
            os.kill(pid, 0)
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return  # ended; only its new parent has not asked for the result
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_without_umap_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match="pip install umap-learn"):
        compute_map(blobs(12), cache_dir=tmp_path, worker=UmapWorker())


def test_unusable_features_are_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 5 samples and 4 were given"):
        compute_map(blobs(4), cache_dir=tmp_path)
    with pytest.raises(InputError, match="expected"):
        compute_map(np.zeros(12), cache_dir=tmp_path)
    broken = blobs(12)
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 12 samples"):
        compute_map(broken, cache_dir=tmp_path)
    with pytest.raises(ParamError, match="neighbours"):
        MapSettings(neighbours=1)


def test_a_folder_that_cannot_be_made_is_reported_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkspaceError, match="cannot be made"):
        compute_map(blobs(12), cache_dir=tmp_path / "file" / "maps")


def test_the_embedding_package_imports_neither_torch_nor_umap() -> None:
    script = "import sys, ltg_core.embedding; print(sorted({'torch', 'umap', 'sklearn'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_new_sample_stands_at_the_weighted_mean_of_its_neighbours() -> None:
    fit = np.array([[0.0, 0.0], [1.0, 0.0], [50.0, 50.0]])
    coords = np.array([[0.0, 0.0], [4.0, 8.0], [100.0, 100.0]])
    assert np.allclose(place(np.array([[0.25, 0.0]]), fit, coords, k=2), [[1.0, 2.0]])


def test_a_sample_equal_to_a_fitted_one_takes_its_place() -> None:
    features, rng = blobs(30), np.random.default_rng(1)
    coords = rng.normal(size=(30, 2)).astype(np.float32)
    for metric, scale in (("euclidean", 1.0), ("cosine", 3.0)):
        assert np.allclose(place(features * scale, features, coords, metric=metric), coords, atol=1e-4)


def test_placing_needs_matching_shapes() -> None:
    features, coords = blobs(30), np.zeros((30, 2))
    assert place(features[:0], features, coords).shape == (0, 2)
    with pytest.raises(InputError, match="same number of columns"):
        place(features[:, :3], features, coords)
    with pytest.raises(InputError, match="expected one pair"):
        place(features, features, coords[:4])
