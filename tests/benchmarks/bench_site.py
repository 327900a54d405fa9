"""Does a model get better at a site by what people say of pairs of its gallery?

    sil prepare-data && sil train --run base
    python tests/benchmarks/bench_site.py FOLDER --base base [--networks 21 22 23] [--verdicts 100] [--pairs ask]

For each network of its own seed, which the base model never saw: the crops of its training split, without labels, are
indexed by the base model and grouped into people; as many pairs as --verdicts says are chosen, and labels answer for
whoever would be asked; the people who are then confirmed become a data set, on which the base model is adapted; the
gallery is rebuilt by the adapted model and grouped again. Scores: mAP and Rank-1 on the network's test split, whose
people are others than those in the gallery; BCubed F of the groups in the gallery; mAP within it, across cameras.

--pairs `nearest`: entries drawn at random, each with the most similar one of another camera. `ask`: what
`sil calibrate --ask` draws. --pictures DIR: draw what
becomes of some people of the first network.

FOLDER keeps all that was made; what stands there is not made again. About 6 minutes a network on 2 cores. Prints a
Markdown table.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sil_cli.data.manifest import is_dataset, load_dataset
from sil_cli.evaluation.pairs import EmbeddingSet
from sil_cli.evaluation.score import score
from sil_cli.gallery.people import Verdict, open_people
from sil_cli.gallery.stores import open_gallery
from sil_cli.report.image_rows import image_rows

STATIONS = ("as it came", "after verdicts", "adapted and rebuilt")
SHOWN, MOST_IMAGES = 2, 16


def sil(folder: Path, *arguments: object) -> dict:
    """Run a command in `folder` and return its JSON document."""
    words = [sys.executable, "-m", "sil_cli", *map(str, arguments), "--json"]
    done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def drawn(folder: Path) -> Path:
    """The one network that lies there."""
    return next(each for each in (folder / "data").iterdir() if is_dataset(each))


def make_site(folder: Path, network: int) -> dict[str, str]:
    """Draw a network, and copy its training crops to `crops/` under names that say nothing; returns who each shows."""
    seeded = ("--set", "data.synthetic.domains=1", "--set", f"data.synthetic.seed={network}")
    sil(folder, "prepare-data", *seeded)
    dataset = load_dataset(drawn(folder))
    records = [record for record in dataset.records if record.split == "train"]
    order = np.random.default_rng(network).permutation(len(records))
    people: dict[str, str] = {}
    (folder / "crops").mkdir(exist_ok=True)
    with (folder / "crops.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "camera", "time"))
        for number, position in enumerate(order.tolist()):
            record = records[position]
            path = f"crops/{number:04d}.jpg"
            shutil.copyfile(dataset.image_path(record), folder / path)
            table.writerow((path, record.camera, record.time.isoformat() if record.time else ""))
            people[path] = record.identity
    (folder / "people.json").write_text(json.dumps(people))
    return people


def choose_pairs(folder: Path, count: int, how: str) -> list[tuple]:
    """The keys of so many pairs."""
    if how == "ask":
        asked = sil(folder, "calibrate", "--gallery", "gallery", "--ask", count)["questions"]
        with open_gallery(folder / "gallery") as gallery:
            entries = gallery.entries([one for each in asked for one in each["ids"]])
        return [tuple(entries[one].key for one in each["ids"]) for each in asked]
    with open_gallery(folder / "gallery") as gallery:
        ids = gallery.ids().tolist()
        entries, vectors = gallery.entries(ids), gallery.vectors(ids)
    cameras = np.array([entries[one].camera for one in ids])
    scores = vectors @ vectors.T
    scores[cameras[:, None] == cameras[None]] = -2.0
    pairs: dict[frozenset[int], tuple] = {}
    for first in np.random.default_rng(0).permutation(len(ids)).tolist():
        second = int(scores[first].argmax())
        pairs.setdefault(frozenset((first, second)), (entries[ids[first]].key, entries[ids[second]].key))
        if len(pairs) == count:
            break
    return list(pairs.values())


def give_verdicts(folder: Path, people: dict[str, str], count: int, how: str) -> int:
    """Have labels answer; returns how many pairs are the same person."""
    pairs = choose_pairs(folder, count, how)
    now = datetime.now(UTC)
    answers = ["same" if people[a[1]] == people[b[1]] else "different" for a, b in pairs]
    with open_people(folder / "gallery", write=True) as kept:
        kept.add_verdicts([Verdict(*pair, answer, "labels", now) for pair, answer in zip(pairs, answers, strict=True)])
    return answers.count("same")


def grouping_of(folder: Path, people: dict[str, str]) -> float:
    """BCubed F of the gallery's people as they are found now."""
    from sil_cli.people.metrics import score_grouping
    from sil_cli.people.register import read_register

    sil(folder, "people", "find", "--again")
    with open_gallery(folder / "gallery") as gallery:
        paths = [entry.path for entry in gallery.entries(gallery.ids().tolist()).values()]
    with open_people(folder / "gallery") as kept:
        found = {key[1]: number for key, number in read_register(kept).person_of().items()}
    groups = [found.get(path, path) for path in paths]
    return score_grouping(groups, [people[path] for path in paths]).bcubed_f


def draw_groups(folder: Path, people: dict[str, str], out: Path) -> None:
    """The groups in which the images of the first people are, framed in red where they show somebody else."""
    from sil_cli.people.register import read_register

    with open_people(folder / "gallery") as kept:
        register = read_register(kept)
    rows = []
    for identity in sorted(set(people.values()))[:SHOWN]:
        groups = [[key[1] for key in members] for members in register.members.values()]
        theirs = [group for group in groups if any(people[path] == identity for path in group)]
        theirs.sort(key=lambda group: -sum(people[path] == identity for path in group))
        for number, group in enumerate(theirs, 1):
            group.sort(key=lambda path: people[path] != identity)
            images = [framed(folder / path, wrong=people[path] != identity) for path in group[:MOST_IMAGES]]
            rows.append((f"{identity}, group {number} of {len(theirs)}", images))
    image_rows(rows, tile=(40, 80)).save(out, quality=88)


def framed(path: Path, *, wrong: bool) -> Image.Image:
    """An image, framed in red where it shows somebody else."""
    with Image.open(path) as image:
        return ImageOps.expand(image.convert("RGB"), 6, "#d03030" if wrong else "#d8d8d8")


def within_gallery(folder: Path, people: dict[str, str]) -> float:
    """mAP of every entry against those of other cameras."""
    with open_gallery(folder / "gallery") as gallery:
        ids = gallery.ids().tolist()
        entries, vectors = list(gallery.entries(ids).values()), gallery.vectors(ids)
    side = EmbeddingSet(vectors, [people[one.path] for one in entries], [one.camera for one in entries])
    return score(side, side).mAP


def measured(folder: Path, model: Path, people: dict[str, str]) -> dict[str, float]:
    """mAP and Rank-1 on the network's test split, and mAP within the gallery."""
    found = sil(folder, "evaluate", "--model", model.resolve(), "--target", drawn(folder).resolve())
    return {"mAP": found["mAP"], "Rank-1": found["cmc"]["1"], "within": within_gallery(folder, people)}


def measure(folder: Path, base: Path, options: argparse.Namespace, network: int) -> list[dict[str, float]]:
    """Go the whole round on one network; returns what was measured at each of STATIONS."""
    folder.mkdir(parents=True, exist_ok=True)
    people = make_site(folder, network)
    sil(folder, "index-gallery", "crops.csv", "--model", base.resolve())
    rows: list[dict[str, float]] = []

    def note(scores: dict[str, float]) -> None:
        rows.append(scores | {"F": grouping_of(folder, people)})
        draw_groups(folder, people, folder / f"groups-{len(rows)}.jpg")

    before = measured(folder, base, people)
    note(before)
    note(before | {"same": give_verdicts(folder, people, options.verdicts, options.pairs)})
    exported = sil(folder, "gallery", "export", "--dataset", "site", *options.export)
    more = [f"--set={each}" for each in options.settings]
    sil(folder, "train", "--source", "site", "--weights", base.resolve(), "--run", "adapted", *more)
    sil(folder, "gallery", "rebuild", "--model", "adapted")
    after = measured(folder, folder / "adapted", people)
    note(after | {"people": exported["people"], "images": exported["images"]})
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--networks", type=int, nargs="+", default=[21, 22, 23])
    parser.add_argument("--verdicts", type=int, default=100)
    parser.add_argument("--pairs", choices=("nearest", "ask"), default="nearest")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--export", action="append", default=[])
    parser.add_argument("--set", action="append", default=[], dest="settings")
    options = parser.parse_args()
    print("| network | station | mAP | Rank-1 | mAP within the gallery | BCubed F | |")
    print("|---|---|---|---|---|---|---|")
    for network in options.networks:
        kept = options.folder / f"{network}.json"
        if not kept.exists():
            for begun in (options.folder / str(network)).glob("[!d]*"):  # all but the data
                shutil.rmtree(begun) if begun.is_dir() else begun.unlink()
            kept.write_text(json.dumps(measure(options.folder / str(network), options.base, options, network)))
        if options.pictures is not None and network == options.networks[0]:
            options.pictures.mkdir(parents=True, exist_ok=True)
            for number in range(1, len(STATIONS) + 1):
                name = f"groups-{number}.jpg"
                shutil.copyfile(options.folder / str(network) / name, options.pictures / name)
        for station, row in zip(STATIONS, json.loads(kept.read_text()), strict=True):
            shown = " | ".join(f"{100 * row[name]:.1f}" for name in ("mAP", "Rank-1", "within", "F"))
            more = ", ".join(f"{row[name]:.0f} {name}" for name in ("same", "people", "images") if name in row)
            print(f"| {network} | {station} | {shown} | {more} |", flush=True)


if __name__ == "__main__":
    main()
