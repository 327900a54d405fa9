"""Boxes of people as COCO, CVAT and FiftyOne write them; the documents are written by hand from the formats' texts."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from commands import sil
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sil_cli.data.annotations import Annotation, is_annotations, read_annotations, write_annotations
from sil_cli.data.images import upright_size
from sil_cli.data.readers import READERS
from sil_cli.errors import DataError
from sil_cli.footage.detectors import AnnotatedPeople, make_detector
from sil_cli.footage.frames import Frame
from sil_cli.runtime import SilentReporter
from sil_cli.settings import load_settings

COCO = {
    "info": {"year": 2024},
    "images": [
        {"id": 7, "file_name": "a/frame_000001.png", "width": 100, "height": 200},
        {"id": 9, "file_name": "a/frame_000004.png", "width": 100, "height": 200},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [10, 20.5, 30, 40], "area": 1200, "iscrowd": 0,
         "attributes": {"identity": 5.0, "camera": "c1", "occluded": False}, "track_id": 12},
        {"id": 2, "image_id": 7, "category_id": 3, "bbox": [1, 1, 5, 5], "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [1, 1, 99, 99], "iscrowd": 1},
        {"id": 4, "image_id": 9, "category_id": 1, "bbox": [0, 0, 100, 200], "score": 0.25},
    ],
}  # fmt: skip
CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>person</name><attributes><attribute><name>identity</name></attribute></attributes>
  </label></labels></task></meta>
  <image id="1" name="a/frame_000001.png" width="100" height="200">
    <box label="Person" source="manual" occluded="0" xtl="10.00" ytl="20.50" xbr="40.00" ybr="60.50" z_order="0">
      <attribute name="identity">5</attribute>
      <attribute name="camera">c1</attribute>
    </box>
    <box label="car" xtl="1" ytl="1" xbr="6" ybr="6"><attribute name="identity">x</attribute></box>
    <polygon label="person" points="1,1;2,2;3,1"><attribute name="identity">y</attribute></polygon>
  </image>
  <image id="4" name="a/frame_000004.png" width="100" height="200">
    <tag label="person" source="manual"><attribute name="identity">R&amp;D</attribute></tag>
  </image>
</annotations>
"""
CVAT_VIDEO = """<annotations>
  <version>1.1</version>
  <track id="3" label="person" source="manual">
    <box frame="0" keyframe="1" outside="0" occluded="0" xtl="10.00" ytl="20.00" xbr="40.00" ybr="60.00" z_order="0">
      <attribute name="identity">5</attribute>
    </box>
    <box frame="2" keyframe="1" outside="0" occluded="0" xtl="12.00" ytl="20.00" xbr="42.00" ybr="60.00"/>
    <box frame="3" keyframe="1" outside="1" occluded="0" xtl="12.00" ytl="20.00" xbr="42.00" ybr="60.00"/>
  </track>
</annotations>
"""
FIFTYONE = {
    "samples": [
        {
            "_id": {"$oid": "64a000000000000000000001"}, "filepath": "a/frame_000001.png", "tags": ["train"],
            "metadata": {"_cls": "ImageMetadata", "width": 100, "height": 200}, "camera": "c1",
            "ground_truth": {"_cls": "Detections", "detections": [
                {"_cls": "Detection", "label": "person", "bounding_box": [0.1, 0.25, 0.3, 0.2], "identity": "5",
                 "index": 12},
                {"_cls": "Detection", "label": "car", "bounding_box": [0, 0, 0.1, 0.1]},
            ]},
        },
        {"filepath": "a/frame_000004.png", "identity": {"_cls": "Classification", "label": "6"},
         "time": {"$date": "2024-05-31T08:00:00Z"}, "metadata": None},
    ]
}  # fmt: skip


def put(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_people_of_coco_are_read_and_nothing_else(tmp_path) -> None:
    assert read_annotations(put(tmp_path, "a.json", COCO)) == [
        Annotation("a/frame_000001.png", (100, 200), (10, 20.5, 30, 40), None, None,
                   {"identity": "5", "camera": "c1", "tracklet": "12"}),
        Annotation("a/frame_000004.png", (100, 200), None, None, 0.25, {}),
    ]  # fmt: skip


def test_boxes_and_tags_of_cvat_for_images_are_read(tmp_path) -> None:
    assert read_annotations(put(tmp_path, "a.xml", CVAT_IMAGES)) == [
        Annotation("a/frame_000001.png", (100, 200), (10, 20.5, 30, 40), 1, None, {"identity": "5", "camera": "c1"}),
        Annotation("a/frame_000004.png", (100, 200), None, 4, None, {"identity": "R&D"}),
    ]


def test_tracks_of_cvat_for_video_are_read_while_they_are_in_the_picture(tmp_path) -> None:
    assert read_annotations(put(tmp_path, "a.xml", CVAT_VIDEO)) == [
        Annotation("", None, (10, 20, 30, 40), 0, None, {"tracklet": "3", "identity": "5"}),
        Annotation("", None, (12, 20, 30, 40), 2, None, {"tracklet": "3"}),
    ]


def test_detections_and_labels_of_fiftyone_are_read(tmp_path) -> None:
    first, second = read_annotations(put(tmp_path, "samples.json", FIFTYONE))
    assert first.box == pytest.approx((10, 50, 30, 40))
    assert first.attributes == {"identity": "5", "camera": "c1", "tracklet": "12"}
    assert second == Annotation("a/frame_000004.png", attributes={"identity": "6", "time": "2024-05-31T08:00:00Z"})


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip).filter(bool)
EDGE = st.integers(0, 90)


@given(
    st.lists(
        st.builds(
            Annotation,
            file=st.sampled_from(["a.jpg", "b & c/ü <1>.jpg"]),
            size=st.just((100, 200)),
            box=st.tuples(EDGE, EDGE, st.integers(1, 9), st.integers(1, 9)),
            attributes=st.fixed_dictionaries({"identity": TEXT}, optional={"camera": TEXT}),
        )
    )
)
@pytest.mark.parametrize("name", ["a.json", "a.xml", "samples.json"])
def test_what_is_written_is_read_again(tmp_path_factory, name, some) -> None:
    path = tmp_path_factory.mktemp("written") / name
    write_annotations(path, some)
    if name == "a.xml" and not some:
        return  # CVAT's document of nobody is refused, as one of another kind would be
    found = read_annotations(path)
    in_order = sorted(some, key=lambda each: [one.file for one in some].index(each.file))
    assert [(each.file, each.size, each.attributes) for each in found] == [
        (each.file, each.size, each.attributes) for each in in_order
    ]
    np.testing.assert_allclose(
        [each.box for each in found] or np.empty((0, 4)), [each.box for each in in_order] or np.empty((0, 4)), atol=1e-9
    )


def test_the_written_documents_are_as_the_formats_say(tmp_path) -> None:
    people = [
        Annotation("a.jpg", (100, 200), (10, 20, 30, 40), attributes={"identity": "5"}),
        Annotation("b.jpg", (50, 60), None, attributes={"identity": "6\x01", "camera": "c1"}),
    ]
    (coco,) = write_annotations(tmp_path / "a.json", people)
    document = json.loads(coco.read_text())
    assert document["categories"] == [{"id": 1, "name": "person", "supercategory": "person"}]
    assert document["images"][1] == {"id": 2, "file_name": "b.jpg", "width": 50, "height": 60}
    assert document["annotations"][0] == {
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0,
        "segmentation": [], "attributes": {"identity": "5"},
    }  # fmt: skip
    assert document["annotations"][1]["bbox"] == [0, 0, 50, 60]
    (cvat,) = write_annotations(tmp_path / "a.xml", people)
    root = ElementTree.parse(cvat).getroot()
    label = root.find("meta/task/labels/label")
    assert label.findtext("name") == "person"
    assert {one.findtext("input_type") for one in label.findall("attributes/attribute")} == {"text"}
    box, tag = root.find("image/box"), root.find("image[@id='1']/tag")
    assert (root.findtext("version"), root.find("image").attrib) == (
        "1.1", {"id": "0", "name": "a.jpg", "width": "100", "height": "200"},
    )  # fmt: skip
    assert {key: box.get(key) for key in ("xtl", "ytl", "xbr", "ybr", "occluded", "label")} == {
        "xtl": "10.00", "ytl": "20.00", "xbr": "40.00", "ybr": "60.00", "occluded": "0", "label": "person",
    }  # fmt: skip
    assert [one.text for one in tag.findall("attribute")] == ["6�", "c1"]
    samples, about = write_annotations(tmp_path / "samples.json", people)
    assert "version" not in json.loads(about.read_text())  # by which FiftyOne knows that no schema is given
    first, second = json.loads(samples.read_text())["samples"]
    assert first["people"]["detections"] == [
        {"_cls": "Detection", "label": "person", "bounding_box": [0.1, 0.1, 0.3, 0.2], "identity": "5"}
    ]
    assert (second["identity"], second["camera"]) == ({"_cls": "Classification", "label": "6\x01"}, "c1")


ENTITIES = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotations><image id="0" name="&b;"/></annotations>'
NOT_SO = "is not as its format"
HOSTILE = {
    "entities.xml": (ENTITIES, "document type"),
    "cut.xml": (CVAT_IMAGES[:600], "can't be read"),
    "nobody.xml": ("<annotations></annotations>", "has nobody"),
    "size.xml": ('<annotations><image id="0" name="a" width="1e9" height="5"/></annotations>', "width"),
    "edge.xml": (CVAT_VIDEO.replace('xtl="10.00"', 'xtl="nan"'), "not a number of pixels"),
    "deep.json": ("[" * 100_000, "nested too deeply"),
    "other.json": ("[]", "neither COCO"),
    "nan.json": (json.dumps(COCO).replace("20.5", "NaN"), "finite"),
    "list.json": ({**COCO, "annotations": 5}, "annotations"),
    "lost.json": ({**COCO, "images": []}, "isn't listed"),
    "three.json": (json.dumps(COCO).replace("[10, 20.5, 30, 40]", "[1, 2, 3]"), "bbox"),
    "path.json": ({"samples": [{"filepath": 5}]}, "it must be text"),
    "sizeless.json": (json.dumps(FIFTYONE).replace('"width": 100', '"width": null'), "compute_metadata"),
    "boxes.json": ({"samples": [{"filepath": "a", "x": {"_cls": "Detections", "detections": [5]}}]}, NOT_SO),
    "field.json": ({"samples": [{"filepath": "a", "x": {"_cls": "Detections", "detections": 5}}]}, NOT_SO),
    "about.json": ({"samples": [{"filepath": "a", "metadata": 5}]}, NOT_SO),
}  # fmt: skip


def test_a_document_that_is_not_there_is_not_called_damaged(tmp_path) -> None:
    with pytest.raises(DataError, match=r"There is no .*gone\.json"):
        read_annotations(tmp_path / "gone.json")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_refused(tmp_path, name) -> None:
    content, why = HOSTILE[name]
    with pytest.raises(DataError, match=why):
        read_annotations(put(tmp_path, name, content))


def test_a_network_is_not_taken_for_annotations(tmp_path) -> None:
    assert is_annotations(put(tmp_path, "a.xml", CVAT_IMAGES))
    assert not is_annotations(put(tmp_path, "b.xml", '<?xml version="1.0"?><net name="n" version="11"></net>'))
    assert is_annotations(put(tmp_path, "a.json", COCO))
    # An expression that looks for the first element tries as many ways through these as they can be grouped.
    assert not is_annotations(put(tmp_path, "c.xml", "<?xml version='1.0'?>" + 500 * "<!---->"))
    assert is_annotations(put(tmp_path, "d.xml", "<!-- a -->\n<!-- b --><annotations><version>1.1</version>"))
    assert not is_annotations(put(tmp_path, "e.xml", "\x00\x01"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_an_image_is_that_of_its_upright_pixels(tmp_path, orientation) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    Image.new("RGB", (20, 30)).save(tmp_path / "a.jpg", exif=tags)
    assert upright_size(tmp_path / "a.jpg") == ((20, 30) if orientation < 5 else (30, 20))


def frame(index: int, name: str = "") -> Frame:
    return Frame(index, None, 0.0, np.zeros((200, 100, 3), dtype=np.uint8), name=name)


def test_annotated_people_are_found_by_a_frames_name_or_number(tmp_path) -> None:
    settings = load_settings(flags={"crop": {"detector": str(put(tmp_path, "a.json", COCO))}})
    detector = make_detector(settings, "a", SilentReporter())
    by_name = detector.detect([frame(0, "frame_000001.png"), frame(1, "frame_000004.png"), frame(2, "other.png")])
    assert [[each.box for each in some] for some in by_name] == [[(10, 20, 30, 40)], [(0, 0, 100, 200)], []]
    assert detector.detect([frame(1), frame(2)]) == [by_name[0], []]
    video = AnnotatedPeople(put(tmp_path, "v.xml", CVAT_VIDEO), least=0.1)
    assert [[each.box for each in some] for some in video.detect([frame(0), frame(1), frame(2)])] == [
        [(10, 20, 30, 40)], [], [(12, 20, 30, 40)],
    ]  # fmt: skip


def test_two_frames_of_one_name_are_refused(tmp_path) -> None:
    path = put(tmp_path, "a.json", json.dumps(COCO).replace("a/frame_000004", "b/frame_000001"))
    with pytest.raises(DataError, match="two images called"):
        AnnotatedPeople(path, least=0.1)


@pytest.mark.parametrize(("name", "content"), [("a.json", COCO), ("a.xml", CVAT_IMAGES), ("samples.json", FIFTYONE)])
def test_annotated_frames_become_records(tmp_path, make_image, name, content) -> None:
    for number in (1, 4):
        make_image(tmp_path / "a" / f"frame_00000{number}.png", (100, 200))
    reading = READERS["annotations"].read(put(tmp_path, name, content))
    first, *rest = reading.records
    assert (first.path, first.identity, first.camera) == ("a/frame_000001.png", "5", "c1")
    assert first.box == (10, 20 if name != "samples.json" else 50, 30, 40)
    if name == "a.json":
        (left_out,) = reading.skipped
        assert (rest, left_out.path, left_out.reason) == ([], "a/frame_000004.png", "person 2 has no identity")
    else:
        assert (rest[0].path, rest[0].box) == ("a/frame_000004.png", None)
    elsewhere = tmp_path / "tables"
    elsewhere.mkdir()
    moved = READERS["annotations"].read(put(elsewhere, name, content), images=tmp_path, name=reading.name)
    assert moved.records == reading.records


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "a/../../secret.png"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path) -> None:
    document = put(tmp_path, "a.json", json.dumps(COCO).replace("a/frame_000001.png", path))
    with pytest.raises(DataError, match="lies outside"):
        READERS["annotations"].read(document)


def test_videos_hold_no_images_to_prepare(tmp_path) -> None:
    reading = READERS["annotations"].read(put(tmp_path, "v.xml", CVAT_VIDEO))
    assert (list(reading.records), {each.reason for each in reading.skipped}) == (
        [], {"person 1 has no path", "person 2 has no path"},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["people.json", "people.xml", "samples.json"])
def test_a_gallery_goes_out_and_comes_back_as_a_data_set(in_world, name, tmp_path) -> None:
    out = tmp_path / name
    exported = sil("gallery", "export", out, "--json").document
    assert exported["files"][0] == str(out)
    assert len(read_annotations(out)) == exported["entries"]
    prepared = sil("prepare-data", "annotations", out, "--root", in_world, "--out", tmp_path / "back", "--json")
    assert prepared.code == 0, prepared.err
    back = [json.loads(line) for line in (tmp_path / "back/manifest.jsonl").read_text().splitlines()]
    with np.load(_npz(tmp_path), allow_pickle=False) as archive:
        known = zip(archive["gallery_identities"], archive["gallery_cameras"], archive["gallery_paths"], strict=True)
        expected = sorted((str(identity), str(camera), Path(str(path)).name) for identity, camera, path in known)
    assert sorted((one["identity"], one["camera"], Path(one["path"]).name) for one in back) == expected


def _npz(folder: Path) -> Path:
    assert sil("gallery", "export", folder / "a.npz").code == 0
    return folder / "a.npz"


def test_entries_without_images_are_left_out_and_counted(tmp_path, monkeypatch, make_image, in_world) -> None:
    (tmp_path / "crops").mkdir()
    for number in (1, 2):
        make_image(tmp_path / "crops" / f"{number}_c1.jpg", (32, 64))
    model = in_world / "runs/001-dbs"
    monkeypatch.chdir(tmp_path)
    assert sil("index-gallery", "crops", "--model", model).code == 0
    Path("crops/1_c1.jpg").unlink()
    outcome = sil("gallery", "export", "a.json")
    assert "1 entries are left out" in outcome.error
    assert [each.file for each in read_annotations(Path("a.json"))] == ["crops/2_c1.jpg"]


def test_people_of_coco_are_cropped_as_those_of_motchallenge(tmp_path, monkeypatch, make_image) -> None:
    monkeypatch.chdir(tmp_path)
    people, rows = [], []
    for number in range(1, 8):
        make_image(Path("frames") / f"{number:06d}.png", (200, 150))
        box = (10.0 + 4 * number, 20.0, 40.0, 90.0)
        people.append(Annotation(f"{number:06d}.png", (200, 150), box, score=0.9))
        rows.append(f"{number},-1,{box[0] + 1},{box[1] + 1},{box[2]},{box[3]},0.9\n")
    Path("det.txt").write_text("".join(rows))
    write_annotations(Path("people.json"), people)
    for name in ("det.txt", "people.json"):
        outcome = sil("crop", "frames", "--detector", name, "--model", "none", "--every", 0, "--out", f"out-{name}")
        assert outcome.code == 0, outcome.err
    table = Path("out-people.json/crops.csv").read_text()
    assert table == Path("out-det.txt/crops.csv").read_text()
    assert len(table.splitlines()) > 1
