"""Small trees with the true names and file formats of every data set; the images are noise."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
from PIL import Image
from scipy.io import savemat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

PER_PAIR = (6, 5, 1, 1, 1)
"""CUHK03 here: people per pair of cameras."""


def pixels_of(name: str, width: int = 12, height: int = 24) -> np.ndarray:
    random = np.random.default_rng(list(name.encode()))
    return random.integers(0, 256, (height, width, 3), dtype=np.uint8)


def put_images(root: Path, names: Iterable[str], **size: int) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels_of(name, **size)).save(path)


def put_thumbs(*folders: Path) -> None:
    for folder in folders:
        (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def market1501(root: Path) -> None:
    put_images(root, [f"bounding_box_train/{p:04d}_c{c}s1_00{c}451_0{c}.jpg" for p in (2, 7, 10) for c in (1, 2, 5)])
    put_images(root, [f"query/{p:04d}_c{c}s1_001051_00.jpg" for p in (1, 3) for c in (1, 2)])
    put_images(root, [f"bounding_box_test/{p:04d}_c{c}s3_011741_02.jpg" for p in (0, 1, 3) for c in (1, 2, 6)])
    put_images(root, [f"bounding_box_test/-1_c{c}s1_000401_03.jpg" for c in (1, 2, 3)])
    put_images(root, ["gt_bbox/0001_c1s1_001051_00.jpg"])
    put_thumbs(root / "bounding_box_train", root / "bounding_box_test")
    (root / "readme.txt").write_text("Market-1501")


def dukemtmc(root: Path) -> None:
    put_images(root, [f"bounding_box_train/{p:04d}_c{c}_f004698{c}.jpg" for p in (1, 5) for c in (2, 5)])
    put_images(root, [f"query/{p:04d}_c{c}_f0046182.jpg" for p in (6, 9) for c in (1, 2)])
    put_images(root, [f"bounding_box_test/{p:04d}_c{c}_f0046302.jpg" for p in (6, 9) for c in (1, 2)])
    put_images(root, ["bounding_box_test/7139_c8_f0217234.jpg"])  # in the gallery alone
    (root / "LICENSE_DukeMTMC.txt").write_text("")


def msmt17(root: Path, train: str = "train", test: str = "test") -> None:
    def names(people: Iterable[int], numbers: Iterable[int]) -> list[str]:
        return [f"{p:04d}/{p:04d}_{n:03d}_{n + 1:02d}_0303morning_0015_{n}.jpg" for p in people for n in numbers]

    lists = {
        "list_train.txt": (train, [*names((0, 1, 2), (0, 1)), "0002/0002_007_05_0302noon_0095_0_ex.jpg"]),
        "list_val.txt": (train, names((0, 2), (9,))),
        "list_query.txt": (test, names((0, 1), (0,))),
        "list_gallery.txt": (test, names((0, 1), (1, 14))),
    }
    for file, (folder, listed) in lists.items():
        put_images(root / folder, listed)
        (root / file).write_text("".join(f"{name} {int(name[:4])}\n" for name in listed))
    put_thumbs(root / test)


def msmt17_v2(root: Path) -> None:
    msmt17(root, "mask_train_v2", "mask_test_v2")


def cuhk02(root: Path, base: str = "Dataset/") -> None:
    for pair, people in zip(("P1", "P2", "P3", "P4", "P5"), (3, 2, 1, 1, 2), strict=True):
        for view, first in (("cam1", 1), ("cam2", 3)):
            numbers = [(p, n) for p in range(1, people + 1) for n in (first, first + 1)]
            put_images(root, [f"{base}{pair}/{view}/{p:03d}_{n}.png" for p, n in numbers])
    put_thumbs(root / f"{base}P1/cam1")


def cuhk03_crops(kind: str) -> list[str]:
    """File names as in circulation: ten images a person, the last one of a pair missing; labelled lacks one more."""
    names = [
        f"{pair}_{person:03d}_{1 if n <= 5 else 2}_{n:02d}.png"
        for pair, people in enumerate(PER_PAIR, start=1)
        for person in range(1, people + 1)
        for n in range(1, 11)
        if not (person == people and n in {5, 10})
    ]
    return names if kind == "detected" else [name for name in names if name != "1_001_1_04.png"]


def put_cuhk03_mat(path: Path) -> None:
    """A MATLAB v7.3 file: cell arrays are datasets of object references, and all axes are reversed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        cells = file.create_group("#refs#")

        def refer(array: np.ndarray, kind: str, *, empty: bool = False) -> h5py.Reference:
            made = cells.create_dataset(f"c{len(cells)}", data=array)
            made.attrs["MATLAB_class"] = np.bytes_(kind)
            if empty:
                made.attrs["MATLAB_empty"] = np.int32(1)
            return made.ref

        def variable(name: str, references: list[h5py.Reference]) -> None:
            array = np.array([references], dtype=h5py.ref_dtype)
            file.create_dataset(name, data=array).attrs["MATLAB_class"] = np.bytes_("cell")

        for kind in ("detected", "labeled"):
            there = set(cuhk03_crops(kind))
            pairs = []
            for pair, people in enumerate(PER_PAIR, start=1):
                references = np.empty((10, people), dtype=h5py.ref_dtype)
                for person in range(1, people + 1):
                    for n in range(1, 11):
                        name = f"{pair}_{person:03d}_{1 if n <= 5 else 2}_{n:02d}.png"
                        nothing = name not in there
                        data = np.zeros(2, np.uint64) if nothing else pixels_of(kind + name).T
                        references[n - 1, person - 1] = refer(data, "double" if nothing else "uint8", empty=nothing)
                pairs.append(refer(references, "cell"))
            variable(kind, pairs)
        tests = [refer(np.array([[1.0, 1], [1, 1 + n % 5], [2, 2]]).T, "double") for n in range(20)]
        variable("testsets", tests)
    with path.open("r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Thu Mar 13 2014".ljust(124) + b"\x00\x02IM")


def put_cuhk03_config(path: Path, kind: str) -> None:
    """The new protocol's list, MATLAB v5: people of pair 1 are trained on but the first, all others are tested."""
    names = cuhk03_crops(kind)
    trained = [n for n, name in enumerate(names, start=1) if name[0] == "1" and not name.startswith("1_001")]
    tested = [n for n in range(1, len(names) + 1) if n not in trained]
    query = [n for n in tested if names[n - 1][8:10] in {"01", "06"}]
    filelist = np.empty((len(names), 1), dtype=object)
    filelist[:, 0] = names
    savemat(
        path,
        {
            "camId": np.array([[int(name[6])] for name in names]),
            "filelist": filelist,
            "labels": np.array([[int(name[0]) * 1000 + int(name[2:5])] for name in names]),
            "train_idx": np.array([[n] for n in trained], dtype=np.uint16),
            "query_idx": np.array([[n] for n in query], dtype=np.uint16),
            "gallery_idx": np.array([[n] for n in tested if n not in query], dtype=np.uint16),
        },
    )


def cuhk03(root: Path) -> None:
    put_cuhk03_mat(root / "cuhk03_release" / "cuhk-03.mat")
    (root / "cuhk03_release" / "README.md").write_text("CUHK03")
    for kind in ("detected", "labeled"):
        put_cuhk03_config(root / f"cuhk03_new_protocol_config_{kind}.mat", kind)


def cuhk03_images(root: Path) -> None:
    for kind in ("detected", "labeled"):
        names = cuhk03_crops(kind)
        put_images(root / f"images_{kind}", names)

        def entries(wanted: list[str], kind: str = kind) -> list[list[object]]:
            return [[f"/home/else/reid/cuhk03/images_{kind}/{name}", 3, int(name[6]) - 1] for name in wanted]

        train = [name for name in names if name[0] != "1"]
        query = [name for name in names if name[0] == "1" and name[8:10] in {"01", "06"}]
        gallery = [name for name in names if name not in {*train, *query}]
        new = {"train": entries(train), "query": entries(query), "gallery": entries(gallery), "num_train_pids": 8}
        (root / f"splits_new_{kind}.json").write_text(json.dumps([new]))
        both = entries([name for name in names if name[:5] in {"1_001", "2_002"}])
        classic = [{"train": entries(train), "query": both, "gallery": both}] * 20
        (root / f"splits_classic_{kind}.json").write_text(json.dumps(classic))
    put_thumbs(root / "images_detected")


def cuhk03_np(root: Path) -> None:
    for kind in ("detected", "labeled"):
        for folder, people in (("bounding_box_train", (1, 3)), ("query", (2, 4)), ("bounding_box_test", (2, 4))):
            n = 1 if folder == "query" else 7
            put_images(root / kind / folder, [f"{p:04d}_c{c}_{n}.png" for p in people for c in (1, 2)])


def cuhk_sysu(root: Path) -> None:
    put_images(root, [f"cropped_images/p{p}_s{p * 3}{n}_{n}.jpg" for p in (1, 77, 11422) for n in (1, 2)])


def cuhk_sysu_hard(root: Path) -> None:
    put_images(root, [f"cropped_image/p{p:05d}_n0{n}_s0{p}{n}_hard{n % 2}.png" for p in (1, 77, 934) for n in (1, 2)])


def cuhk_sysu_market(root: Path) -> None:
    put_images(root, [f"bounding_box_train/{p:04d}_c1_{p:04d}{n}.jpg" for p in (1, 77, 11422) for n in (1, 2)])


SYSU_BOXES = {
    1: [("s1.jpg", (3, 5, 20, 40)), ("s2.jpg", (1, 1, 20, 40))],
    77: [("s1.jpg", (30, 2, 15, 50)), ("s3.jpg", (10, 10, 90, 90)), ("s2.jpg", (25, 3, 18, 44))],
}


def put_person_mat(path: Path, boxes: dict[int, list[tuple[str, tuple[int, int, int, int]]]]) -> None:
    """`Person.mat`, MATLAB v5: a 1×N struct whose field `scene` is a 1×K struct."""
    path.parent.mkdir(parents=True, exist_ok=True)
    people = np.empty((1, len(boxes)), dtype=[("idname", object), ("nAppear", object), ("scene", object)])
    for place, (number, appearances) in enumerate(boxes.items()):
        scene = np.empty((1, len(appearances)), dtype=[("imname", object), ("idlocate", object), ("ishard", object)])
        for where, (name, box) in enumerate(appearances):
            scene[0, where] = (name, np.array([box], dtype=np.int32), np.array([[0]], dtype=np.uint8))
        people[0, place] = (f"p{number}", np.array([[len(appearances)]], dtype=np.uint8), scene)
    savemat(path, {"Person": people})


def cuhk_sysu_frames(root: Path) -> None:
    put_images(root, [f"Image/SSM/s{n}.jpg" for n in (1, 2, 3, 4)], width=64, height=60)
    put_person_mat(root / "annotation" / "Person.mat", SYSU_BOXES)


def prid2011(root: Path) -> None:
    put_images(root, [f"single_shot/cam_a/person_{p:04d}.png" for p in (*range(1, 201), 201, 385)], width=8, height=8)
    put_images(root, [f"single_shot/cam_b/person_{p:04d}.png" for p in (*range(1, 201), 201, 749)], width=8, height=8)
    put_images(root, ["multi_shot/cam_a/person_0001/0001.png", "multi_shot/cam_b/person_0001/0001.png"])
    (root / "readme.txt").write_text("PRID 2011")


def grid(root: Path) -> None:
    people = range(1, 11)
    put_images(root, [f"probe/{p:04d}_{p % 8 + 1}_25004_107_32_106_221.jpeg" for p in people])
    put_images(root, [f"gallery/{p:04d}_5_25013_{p}_68_71_175.jpeg" for p in people])
    put_images(root, [f"gallery/0000_{n}_24001_{n}_70_66_178.jpeg" for n in (1, 3, 5)])
    cells = np.empty((1, 10), dtype=object)
    for n in range(10):
        trained = np.array([(n + step) % 10 + 1 for step in range(5)], dtype=float)
        cells[0, n] = {"probe": np.arange(5.0), "gallery": np.arange(5.0), "idx": trained, "rest": np.zeros(2)}
    savemat(root / "features_and_partitions.mat", {"trainIdxAll": cells, "features": np.zeros((3, 4))})
    put_thumbs(root / "probe")


def viper(root: Path) -> None:
    put_images(root, [f"cam_a/{p:03d}_{angle}.bmp" for p, angle in zip(range(10), (0, 45, 90) * 4, strict=False)])
    put_images(root, [f"cam_b/{p:03d}_{angle}.bmp" for p, angle in zip(range(10), (90, 135, 180) * 4, strict=False)])
    put_thumbs(root / "cam_a", root / "cam_b")


def ilids(root: Path) -> None:
    put_images(root, [f"Persons/{p:04d}{n:03d}.jpg" for p in range(1, 8) for n in range(1, 3 + p % 3)])


def randperson(root: Path) -> None:
    names = [f"{p:06d}_s{s:02d}_c{c:02d}_f00{p}26{c}.jpg" for p in (0, 12) for s in (0, 10) for c in (0, 1)]
    put_images(root / "randperson_subset", names)


def randperson_scenes(root: Path) -> None:
    for scene in (0, 10):
        names = [f"{p:06d}_s{scene:02d}_c0{c}_f00026{p}.jpg" for p in (0, 3) for c in (0, 1)]
        put_images(root / f"scene{scene:02d}" / "camera0_1", names)


def clonedperson(root: Path) -> None:
    put_images(root, [f"train/{p}_s02_c0{c}_f02338{c}.jpg" for p in (700000, 700007) for c in (0, 1, 3)])
    put_images(root, [f"test/query/{p}_s02_c02_f001117.jpg" for p in (705227, 705624)])
    put_images(root, [f"test/gallery/{p}_s12_c0{c}_f002965.jpg" for p in (705227, 705624) for c in (2, 3)])


TREES: dict[str, tuple[str, Callable[[Path], None]]] = {
    tree.__name__: (reader, tree)
    for reader, trees in {
        "market1501": [market1501],
        "dukemtmc": [dukemtmc],
        "msmt17": [msmt17, msmt17_v2],
        "cuhk02": [cuhk02],
        "cuhk03": [cuhk03, cuhk03_images, cuhk03_np],
        "cuhk-sysu": [cuhk_sysu, cuhk_sysu_hard, cuhk_sysu_market, cuhk_sysu_frames],
        "prid2011": [prid2011],
        "grid": [grid],
        "viper": [viper],
        "ilids": [ilids],
        "randperson": [randperson, randperson_scenes],
        "clonedperson": [clonedperson],
    }.items()
    for tree in trees
}
