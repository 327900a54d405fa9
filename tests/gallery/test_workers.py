"""Any number of processes embeds each image once, with the result of one process."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from thread_group import in_threads

from sil_cli.data.images import MAX_PIXELS
from sil_cli.errors import UsageError
from sil_cli.gallery import workers
from sil_cli.gallery.workers import Workers, run_worker
from sil_cli.models.embed import embed_batches
from sil_cli.runtime import SilentReporter

BATCH = 2


class Engine:
    """Embeds by the mean colour, and by the mean of the whole batch, so that a batch cut elsewhere would show."""

    max_pixels = MAX_PIXELS
    name, fingerprint, dimension, height, width = "played float32", "f" * 64, 6, 8, 4
    interpolation = "bilinear"

    def __init__(self, fingerprint: str = "f" * 64) -> None:
        self.fingerprint = fingerprint
        self.seen = 0

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        self.seen += len(pixels)
        own = pixels.mean(axis=(1, 2))
        rows = np.concatenate([own, np.broadcast_to(own.mean(axis=0), own.shape)], axis=1)
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crops")
    rng = np.random.default_rng(1)
    for number in range(37):
        Image.fromarray(rng.integers(0, 256, (40, 20, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    (folder / "05.png").write_bytes(b"no picture")
    (folder / "36.png").unlink()
    return [(folder / f"{number:02d}.png", (0, 0, 16, 32) if number % 5 == 0 else None) for number in range(37)]


def plain(parts):
    return [
        (part.positions, part.embeddings.tolist(), [(str(path), why) for path, why in part.failed]) for part in parts
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("taken", [1, 37])
def test_shared_out_equals_alone(files, monkeypatch, count, taken) -> None:
    monkeypatch.setattr(workers, "BATCHES_EACH", 3)  # several rounds
    wanted = files[:taken]
    engines = [Engine() for _ in range(count)]
    expected = plain(embed_batches(Engine(), wanted, batch=BATCH))

    def work(group):
        engine = engines[group.rank]
        if not group.is_first:
            return run_worker(None, group, SilentReporter())
        first = Workers(group, timeout=60)
        first.begin("a model", len(wanted), engine)
        found = plain(first.embed(engine, wanted, batch=BATCH))
        first.end()
        return found

    numbers = iter(range(1, count))
    monkeypatch.setattr(workers, "load", lambda *_, **__: SimpleNamespace(engine=engines[next(numbers)]), raising=True)
    assert in_threads(count, work)[0] == expected
    readable = sum(len(positions) for positions, _, _ in expected)
    assert sum(engine.seen for engine in engines) == readable
    if taken > 30 and count > 1:
        assert all(engine.seen for engine in engines)  # nobody idles


def test_another_model_in_one_process_is_refused(files, monkeypatch) -> None:
    monkeypatch.setattr(workers, "load", lambda *_, **__: SimpleNamespace(engine=Engine("e" * 64)))

    def meet(group) -> None:
        if group.is_first:
            Workers(group, timeout=60).begin("a model", 1, Engine())
        else:
            run_worker(None, group, SilentReporter())

    def work(group) -> str:
        with pytest.raises(UsageError) as caught:
            meet(group)
        return caught.value.what

    for told in in_threads(2, work):
        assert told.startswith("Process 1 does not agree with process 0: the model = eee")


def test_long_work_of_the_first_is_heard_of(monkeypatch) -> None:
    heard = []

    def work(group):
        if not group.is_first:
            return run_worker(None, group, SilentReporter())
        first = Workers(group, timeout=0.0)  # word at every step
        monkeypatch.setattr(first, "_send", lambda job, say=first._send: (heard.append(job), say(job)))
        reporter = first.reporter(SilentReporter())
        reporter.note("as ever")
        with reporter.task("Looking for what is new", 3) as task:
            for _ in range(3):
                task.advance()
        return first.end()

    in_threads(2, work)
    assert heard == [{}, {}, {}, {"end": True}]
