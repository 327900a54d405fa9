"""The same jobs by the code of other projects and by ours, in turns, in one process.

    python tests/benchmarks/bench_peers.py --torchreid CHECKOUT --fastreid CHECKOUT
        [--jobs evaluate,rerank,embed,search] [--size market] [--images 5000] [--entries 100000] [--rounds 3]

CHECKOUT are clones of github.com/KaiyangZhou/deep-person-reid and github.com/JDAI-CV/fast-reid; nothing of them is
changed. Their ranking has a form in Cython, which is the one to compare with: `pip install cython`, then
`python setup.py build_ext --inplace` in the folder rank_cylib of each. Without it their form in Python is timed, and
the table says so.

- *evaluate*: mAP and CMC from embeddings of Market-1501's size (512 dimensions). Ours gives mINP, thresholds, FPIR and
  intervals beside them.
- *rerank*: k-reciprocal re-ranking from embeddings to final distances; theirs needs 10 GiB at Market-1501's size.
- *embed*: torchreid's FeatureExtractor over crops on the disk, OSNet x0.25 with random weights; ours with the very same
  weights, imported, by PyTorch and by its ONNX export.
- *search*: the ten best of 1,000 queries in a gallery of 512 dimensions: FAISS's flat index alone, and a gallery's
  search, which brings identities, cameras, times and paths of what it finds.

Results must agree (said beside each ratio) before anything is timed. Prints a Markdown table of the medians: wall
seconds, CPU seconds, and theirs divided by ours.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import platform
import subprocess
import sys
import tempfile
import time
import types
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
import torch
from bench_metrics import SIZES, Case, make_case
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from galleries import MODEL, make_gallery

import sil_cli
from sil_cli.runtime import cpu_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Row = tuple[str, str, list[tuple[float, float]], list[tuple[float, float]]]
"""What was done, how well both agree, and the wall and CPU seconds of theirs and ours."""

TOP = 10


def package(name: str, folder: Path) -> None:
    """Let a package's modules be imported without what its `__init__` would import beside them."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def in_turns(
    theirs: Callable[[], object], ours: Callable[[], object], rounds: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Wall and CPU seconds of both, each in its turn."""
    times: tuple[list[tuple[float, float]], list[tuple[float, float]]] = ([], [])
    for _ in range(rounds):
        for kept, work in zip(times, (theirs, ours), strict=True):
            wall, busy = time.perf_counter(), time.process_time()
            with redirect_stdout(io.StringIO()):
                work()
            kept.append((time.perf_counter() - wall, time.process_time() - busy))
    return times


def numbered(names: list[str]) -> NDArray[np.int64]:
    """`p12` as 12."""
    return np.array([int(name[1:]) for name in names])


def unit(side: sil_cli.EmbeddingSet) -> torch.Tensor:
    """A side's embeddings, of length 1."""
    return torch.nn.functional.normalize(torch.from_numpy(np.asarray(side.embeddings)))


def evaluating(options: argparse.Namespace, case: Case) -> Iterator[Row]:
    """mAP and CMC by their evaluators."""
    query, gallery = (
        torch.nn.functional.normalize(torch.from_numpy(side.embeddings)) for side in (case.query, case.gallery)
    )
    labels = [numbered(names) for side in (case.query, case.gallery) for names in (side.identities, side.cameras)]
    order = [labels[0], labels[2], labels[1], labels[3]]  # theirs: identities of both, cameras of both
    ours = sil_cli.score(case.query, case.gallery)
    for project, folder in (("torchreid", options.torchreid), ("fast-reid", options.fastreid)):
        if folder is None:
            continue
        if project == "torchreid":
            package("torchreid", folder / "torchreid")
            rank = importlib.import_module("torchreid.metrics.rank")
            distances = importlib.import_module("torchreid.metrics.distance").cosine_distance
        else:
            package("fastreid", folder / "fastreid")
            package("fastreid.evaluation", folder / "fastreid" / "evaluation")
            package("fastreid.utils", folder / "fastreid" / "utils")
            rank = importlib.import_module("fastreid.evaluation.rank")
            distances = importlib.import_module("fastreid.utils.compute_dist").compute_cosine_distance

        def theirs(rank: Any = rank, distances: Any = distances) -> tuple[float, float]:
            matrix = np.asarray(distances(query, gallery))
            found = rank.evaluate_rank(matrix, *order)
            return float(np.mean(found[1])), float(found[0][0])

        mean, first = theirs()
        agreement = f"mAP {abs(mean - ours.mAP):.0e}, Rank-1 {abs(first - ours.cmc[1]):.0e}"
        what = f"evaluate, {project}, {'Cython' if rank.IS_CYTHON_AVAI else 'Python'}"
        yield what, agreement, *in_turns(theirs, lambda: sil_cli.score(case.query, case.gallery), options.rounds)


def reranking(options: argparse.Namespace, case: Case) -> Iterator[Row]:
    """k-reciprocal re-ranking by torchreid's dense form."""
    if options.torchreid is None:
        return
    package("torchreid", options.torchreid / "torchreid")
    package("torchreid.utils", options.torchreid / "torchreid" / "utils")
    dense = importlib.import_module("torchreid.utils.rerank").re_ranking
    distances = importlib.import_module("torchreid.metrics.distance").euclidean_squared_distance
    query, gallery = (
        torch.nn.functional.normalize(torch.from_numpy(side.embeddings)) for side in (case.query, case.gallery)
    )

    def theirs() -> NDArray[np.float32]:
        pairs = ((query, gallery), (query, query), (gallery, gallery))
        found: NDArray[np.float32] = dense(*(distances(*pair).clamp(min=0).sqrt().numpy() for pair in pairs))
        return found

    def ours() -> NDArray[np.float32]:
        return sil_cli.rerank(case.query.embeddings, case.gallery.embeddings)

    expected, found = theirs(), ours()
    same = (expected.argmin(axis=1) == found.argmin(axis=1)).mean()
    yield "rerank, torchreid", f"the same first match {same:.2%}", *in_turns(theirs, ours, options.rounds)


def embedding(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """torchreid's FeatureExtractor."""
    if options.torchreid is None:
        return
    for name in ("torchreid", "torchreid.utils"):
        sys.modules.pop(name, None)
    package("torchreid", options.torchreid / "torchreid")
    package("torchreid.utils", options.torchreid / "torchreid" / "utils")
    sys.modules["torchreid.utils"].__dict__.update(
        check_isfile=os.path.isfile, load_pretrained_weights=None, compute_model_complexity=None
    )
    build = importlib.import_module("torchreid.models.osnet").osnet_x0_25
    package("torchreid.models", options.torchreid / "torchreid" / "models")
    sys.modules["torchreid.models"].__dict__.update(build_model=lambda *_, **__: build(1, pretrained=False))
    extractor = importlib.import_module("torchreid.utils.feature_extractor").FeatureExtractor(
        "osnet_x0_25", device="cpu", verbose=False
    )
    torch.save(extractor.model.state_dict(), folder / "osnet.pth")
    sil(folder, "import-model", "osnet.pth", "--backbone", "osnet_x0_25", "--out", "imported")
    sil(folder, "export", "--model", "imported")
    paths = crops(folder / "crops", options.images)

    def theirs() -> NDArray[np.float32]:
        parts = [extractor(paths[start : start + 64]) for start in range(0, len(paths), 64)]
        return np.concatenate([torch.nn.functional.normalize(part).numpy() for part in parts])

    for engine in ("torch", "onnxruntime"):
        model = sil_cli.load_model(folder / "imported", engine=engine)
        few = slice(0, 64)
        cosines = (torch.nn.functional.normalize(extractor(paths[few])).numpy() * model.embed(paths[few])).sum(axis=1)
        times = in_turns(theirs, lambda model=model: model.embed(paths), options.rounds)
        yield f"embed {len(paths):,} crops, torchreid; ours by {engine}", f"cosine {cosines.min():.6f}", *times


def crops(folder: Path, count: int) -> list[str]:
    """JPEG files of 128 × 64 pixels."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        small.resize((64, 128), Image.Resampling.BICUBIC).save(folder / f"{number:05}.jpg", quality=90)
    return sorted(str(path) for path in folder.iterdir())


def searching(options: argparse.Namespace, folder: Path) -> Iterator[Row]:
    """FAISS's flat index."""
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((options.entries, 512), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = np.ascontiguousarray(vectors[:: options.entries // 1000][:1000])
    make_gallery(folder / "gallery", options.entries, batch=10_000, rows=vectors, model={**MODEL, "dimension": 512})
    flat = faiss.IndexFlatIP(512)
    flat.add(vectors)
    with sil_cli.open_gallery(folder / "gallery") as gallery:
        expected = flat.search(queries, TOP)[1]
        found = [[match.path for match in matches] for matches in gallery.search(queries, k=TOP)]
        same = np.mean([[f"{one}.jpg" for one in row] == each for row, each in zip(expected, found, strict=True)])
        times = in_turns(lambda: flat.search(queries, TOP), lambda: gallery.search(queries, k=TOP), options.rounds)
        yield f"search 1,000 in {options.entries:,}, FAISS flat", f"the same ten {same:.2%}", *times


def sil(folder: Path, *arguments: str) -> None:
    """Run a command of ours in `folder`."""
    subprocess.run([sys.executable, "-m", "sil_cli", *arguments], cwd=folder, stdout=subprocess.DEVNULL, check=True)


def main() -> None:
    """Do each job that is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torchreid", type=Path)
    parser.add_argument("--fastreid", type=Path)
    parser.add_argument("--jobs", type=lambda text: text.split(","), default=["evaluate", "rerank", "embed", "search"])
    parser.add_argument("--size", choices=tuple(SIZES), default="market")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.machine()}, {cpu_count()} cores, torch {torch.__version__}, NumPy {np.__version__}\n")
    print("| job | agreement | theirs: wall, CPU | ours: wall, CPU | theirs ÷ ours: wall, CPU |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        jobs: dict[str, Callable[[], Iterator[Row]]] = {
            "evaluate": lambda: evaluating(options, make_case(options.size, "people", 512, 1.0)),
            "rerank": lambda: reranking(options, make_case(options.size, "people", 512, 1.0)),
            "embed": lambda: embedding(options, folder),
            "search": lambda: searching(options, folder),
        }
        for job in options.jobs:
            for what, agreement, theirs, ours in jobs[job]():
                seconds = [[median(column) for column in zip(*each, strict=True)] for each in (theirs, ours)]
                cells = [f"{wall:.3g} s, {busy:.3g} s" for wall, busy in seconds]
                ratios = ", ".join(f"{one / other:.1f}" for one, other in zip(*seconds, strict=True))
                print(f"| {what} | {agreement} | {' | '.join(cells)} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
