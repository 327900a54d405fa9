"""Options that say which entries of a gallery are meant."""

from __future__ import annotations

from typing import Annotated, Any

import typer

FILTERS = "Which entries"

CameraOption = Annotated[
    list[str] | None,
    typer.Option("--camera", metavar="NAME", help="Only from this camera; may be repeated.", rich_help_panel=FILTERS),
]
ExcludeCameraOption = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-camera", metavar="NAME", help="Not from this camera; may be repeated.", rich_help_panel=FILTERS
    ),
]
AfterOption = Annotated[
    str | None,
    typer.Option(
        "--after",
        metavar="TIME",
        help="Taken then or later: 2024, 2024-05, 2024-05-01 or 2024-05-01T08:30.",
        rich_help_panel=FILTERS,
    ),
]
BeforeOption = Annotated[
    str | None, typer.Option("--before", metavar="TIME", help="Taken before then.", rich_help_panel=FILTERS)
]
IdentityOption = Annotated[
    list[str] | None,
    typer.Option("--identity", metavar="NAME", help="Only this person; may be repeated.", rich_help_panel=FILTERS),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only with this metadata, or this domain, source or path; may be repeated.",
        rich_help_panel=FILTERS,
    ),
]


def filter_flags(
    camera: list[str] | None,
    exclude_camera: list[str] | None,
    after: str | None,
    before: str | None,
    identity: list[str] | None,
    where: list[str] | None,
) -> dict[str, Any]:
    """The settings of `query.filter` that these options give; what wasn't given is None."""
    lists = {"camera": camera, "exclude_camera": exclude_camera, "identity": identity, "where": where}
    given: dict[str, Any] = {name: tuple(values) if values else None for name, values in lists.items()}
    return given | {"after": after, "before": before}
