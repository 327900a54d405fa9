"""How the package is built: `python tests/structure.py` counts lines, modules, importers and circles."""

from __future__ import annotations

import ast
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Structure:
    """What was counted.

    Attributes:
        lines: Of all modules.
        docstrings: Lines of docstrings.
        blank: Empty lines outside of docstrings.
        importers: For each module those that import from it, also inside functions or for their types alone.
        folders: Modules of each folder, without `__init__`.
        classes: The class names that stand in more than one place.
        circles: Groups of modules that import each other.
    """

    lines: int
    docstrings: int
    blank: int
    importers: dict[str, set[str]]
    folders: Counter[str]
    classes: list[str]
    circles: list[list[str]]

    @property
    def with_one_importer(self) -> list[str]:
        """Modules that exactly one other imports."""
        return sorted(name for name, importers in self.importers.items() if len(importers) == 1)


def measure(root: Path = ROOT) -> Structure:
    """Count what `root/sil_cli` is made of, by reading it; nothing is imported."""
    files = {_name(path, root): path for path in sorted((root / "sil_cli").rglob("*.py"))}
    trees = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in files.items()}
    imports = {name: {each for each in _imported(tree, files) if each != name} for name, tree in trees.items()}
    classes = Counter(node.name for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    lines, docstrings, blank = (sum(each) for each in zip(*map(_lines, files.values()), strict=True))
    return Structure(
        lines=lines,
        docstrings=docstrings,
        blank=blank,
        importers={name: {other for other, those in imports.items() if name in those} for name in files},
        folders=Counter(str(path.parent.relative_to(root)) for path in files.values() if path.name != "__init__.py"),
        classes=sorted(name for name, count in classes.items() if count > 1),
        circles=_circles(imports),
    )


def _lines(path: Path) -> tuple[int, int, int]:
    """How many lines a file has, how many of them are docstrings, and how many others are empty."""
    lines = path.read_text(encoding="utf-8").splitlines()
    documented: set[int] = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented |= set(range(node.lineno - 1, node.end_lineno or node.lineno))
    blank = sum(not line.strip() for number, line in enumerate(lines) if number not in documented)
    return len(lines), len(documented), blank


def _name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.Module, files: dict[str, Path]) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in files else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & files.keys()


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Modules that reach themselves; those that reach each other stand together."""
    reached: dict[str, set[str]] = {}
    for name in imports:
        seen: set[str] = set()
        to_see = [name]
        while to_see:
            fresh = imports[to_see.pop()] - seen
            seen |= fresh
            to_see += fresh
        reached[name] = seen
    inside = {name for name, seen in reached.items() if name in seen}
    groups = {
        frozenset(other for other in inside if other in reached[name] and name in reached[other]) for name in inside
    }
    return sorted(sorted(group) for group in groups)


def main() -> None:
    """Print what was counted."""
    found = measure()
    folder, most = found.folders.most_common(1)[0]
    print(f"lines {found.lines:,}; modules {len(found.importers)}; largest folder {folder}, {most} modules")
    code = found.lines - found.docstrings - found.blank
    print(f"of the lines code {code:,}; docstrings {found.docstrings:,}; blank {found.blank:,}")
    print(f"modules with one importer: {len(found.with_one_importer)}")
    print(f"class names used twice: {', '.join(found.classes) or 'none'}; circles: {found.circles or 'none'}")


if __name__ == "__main__":
    main()
