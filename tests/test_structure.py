"""What a newcomer meets: folders that can be surveyed, names that stand once, imports that lead downwards only."""

from __future__ import annotations

from structure import measure


def test_folders_are_small_names_stand_once_and_nothing_goes_in_circles() -> None:
    found = measure()
    assert max(found.folders.values()) <= 18, found.folders.most_common(3)
    assert not found.classes
    assert not found.circles
    assert len(found.with_one_importer) <= 60, found.with_one_importer


def test_circles_and_importers_are_seen(tmp_path) -> None:
    package = tmp_path / "sil_cli"
    package.mkdir()
    (package / "a.py").write_text("def f():\n    from sil_cli import b\n\nclass One: ...\n")
    (package / "b.py").write_text("from sil_cli.a import f\n\nclass One: ...\n")
    (package / "c.py").write_text("import sil_cli.b\n")
    found = measure(tmp_path)
    assert found.circles == [["sil_cli.a", "sil_cli.b"]]
    assert found.with_one_importer == ["sil_cli.a"]
    assert found.classes == ["One"]
