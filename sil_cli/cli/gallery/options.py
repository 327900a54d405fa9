"""Options that the commands of `sil gallery` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

GalleryArgument = Annotated[Path | None, typer.Argument(metavar="[GALLERY]", help="The gallery; default: gallery.")]
GalleryOption = Annotated[Path | None, typer.Option("--gallery", metavar="DIR", help="The gallery; default: gallery.")]
