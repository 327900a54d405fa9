from __future__ import annotations

from pathlib import Path

from sil_cli.gallery.entry import GalleryEntry
from sil_cli.gallery.ingest.source_paths import SourcePaths


def test_a_file_is_named_by_the_innermost_source_that_knows_it():
    paths = SourcePaths(Path("/data/gallery"), ["../crops", "../crops/today"])

    def placed(folder: str, path: str) -> tuple[str, str]:
        (image,) = paths.place([GalleryEntry(path, "", folder)])
        return image.source, image.path

    assert placed("/data", "crops/today/x/a.jpg") == ("../crops/today", "x/a.jpg")
    assert placed("/data", "crops/b.jpg") == ("../crops", "b.jpg")
    assert placed("/data/crops/today", "c.jpg") == ("../crops/today", "c.jpg")
    assert placed("/data", "cropsy/d.jpg") == ("..", "cropsy/d.jpg")
    assert placed("/data/other", "e.jpg") == ("..", "other/e.jpg")
    assert paths.sources_around(Path("/data/crops")) == ["../crops", "../crops/today", ".."]


def test_what_a_link_leads_to_is_of_a_source_of_its_own(tmp_path):
    for folder in ("crops/day", "elsewhere/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "crops/there").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "crops/again").symlink_to(tmp_path / "crops/day")
    paths = SourcePaths(tmp_path / "gallery", [])
    names = ["day/a.jpg", "there/deep/b.jpg", "again/c.jpg"]
    placed = paths.place([GalleryEntry(name, "", str(tmp_path / "crops")) for name in names])
    assert [(each.source, each.path) for each in placed] == [
        ("../crops", "day/a.jpg"),
        ("../elsewhere", "deep/b.jpg"),
        ("../crops", "day/c.jpg"),
    ]
    assert paths.linked == {tmp_path / "crops": {tmp_path / "elsewhere"}}
