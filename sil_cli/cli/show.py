"""`sil show`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sil_cli.cli.command import Option
from sil_cli.cli.terminal import escape, print_table
from sil_cli.errors import UsageError

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.preparation.croissant import CroissantResult
    from sil_cli.report.dataset_numbers import DuplicateReport, Quantiles, ShownDataset, StyleGap
    from sil_cli.report.show import ShowResult
    from sil_cli.settings import Settings

EXAMPLES = """
sil show
sil show data/market1501 --identities 12 --out market.jpg
sil show data/market1501 data/msmt17 data/cuhk03 --split train
sil show data/msmt17 --sample 20000 --json
sil show data/site --croissant --licence https://example.org/terms
"""
SHOWN_DUPLICATES = 10
WARNINGS = {
    "train-test": "in training and in the test: results will flatter",
    "data-sets": "in two data sets: a model trained on one has seen the other",
    "identities": "one image under two identities: a wrong label, or twins by their looks",
    "cameras": "one image under two cameras: a camera label is wrong",
    "query-gallery": "a query and in the gallery too, where evaluation compares them: it finds itself",
}


OPTIONS = (
    Option(
        "datasets",
        "show.datasets",
        "[DATASET]...",
        "Prepared data sets; several are compared side by side; default: all in the data folder.",
    ),
    Option("--split", "show.split", help="Only this split's images; default: all."),
    Option("--identities", "show.identities", "N"),
    Option("--sample", "show.sample", "N", "Images to open of each data set; default: 200,000 at most."),
    Option("--seed", "show.seed", "N", "Draws the people and the sample; default: 0."),
    Option("--out", "show.sheet", "FILE", "The sheet, or none; the chart goes to FILE-style.png; default: show.jpg."),
    Option("--croissant", help="Instead, describe one data set in its croissant.json, without its images."),
    Option("--licence", metavar="URL", help="With --croissant: of the data.", kind=str),
    Option("--citation", metavar="TEXT", help="With --croissant: how to cite it.", kind=str),
)


def run(current: Session) -> ShowResult | CroissantResult:
    """Look at prepared data: people × cameras, sizes, colours, the style gap, suspected duplicates."""
    settings = current.settings()
    if current.given["croissant"]:
        return _describe(current, settings)
    for flag in ("licence", "citation"):
        if current.given[flag] is not None:
            raise UsageError(f"--{flag} only works with --croissant.", "Leave it out, or add --croissant.")
    from sil_cli.report.canvas import is_wanted
    from sil_cli.report.gap_advice import in_words
    from sil_cli.report.show import show

    result = show(settings, current.reporter)
    for dataset in result.datasets:
        _show_dataset(current, dataset)
    if result.domain_gap is not None:
        _show_gap(current, "data sets", result.domain_gap)
    if result.advice is not None:
        current.say(escape(f"Styles: {in_words(result.advice)}"))
    _show_duplicates(current, result.duplicates)
    if result.sheet is not None:
        current.say(f"\nPeople × cameras: {escape(result.sheet)}")
        current.say(f"Styles: {escape(result.chart)}")
    current.is_complete = result.sheet is not None or not (
        is_wanted(settings.show.sheet) and settings.is_users_own("show.sheet")
    )
    return result


def _describe(current: Session, settings: Settings) -> CroissantResult:
    from sil_cli.preparation.croissant import write_croissant

    given, datasets = current.given, settings.show.datasets
    if len(datasets) != 1:
        raise UsageError("--croissant describes one data set.", "Name its folder.")
    for option in OPTIONS:
        if option.key not in (None, "show.datasets") and given[option.name] is not None:
            raise UsageError(f"--croissant takes no {option.flag}.", "Leave it out.")
    result = write_croissant(datasets[0], given["licence"], given["citation"])
    if given["licence"] is None:
        current.reporter.warn("Nobody can tell from it what may be done with the data: state that with --licence URL.")
    current.next_command(f"{escape(result.file)} describes {result.images:,} images; none of them is in it.")
    return result


def _show_dataset(current: Session, dataset: ShownDataset) -> None:
    current.say(f"\n[bold]{escape(dataset.name)}[/] ({escape(dataset.folder)})")
    if dataset.generated_gap is not None:
        parts = ", ".join(f"{part} {strength:g}" for part, strength in dataset.generated_gap.items())
        current.say(f"Generated; strengths of the gap: {parts}.")
    counts = dataset.splits.values()
    print_table(
        current.out,
        "",
        {
            "split": list(dataset.splits),
            "images": [f"{each.images:,}" for each in counts],
            "identities": [f"{each.identities:,}" for each in counts],
            "cameras": [f"{each.cameras:,}" if each.cameras or not each.images else "unknown" for each in counts],
        },
        left=("split",),
    )
    _show_spreads(current, dataset)
    _show_cameras(current, dataset)
    _show_gap(current, f"cameras of {dataset.name}", dataset.camera_gap, matrix=False)
    current.name_first([f"Unreadable: {dataset.name}/{each.path} ({each.reason})" for each in dataset.unreadable])


def _show_spreads(current: Session, dataset: ShownDataset) -> None:
    of = f"{dataset.opened:,} images opened" + (f", a sample of {dataset.images:,}" if dataset.sampled else "")
    rows: dict[str, Quantiles | None] = {
        "width, pixels": dataset.width,
        "height, pixels": dataset.height,
        "height ÷ width": dataset.aspect,
        **{f"images per identity, {split}": each for split, each in dataset.images_per_identity.items()},
        **{f"cameras per identity, {split}": each for split, each in dataset.cameras_per_identity.items()},
    }
    spreads = {label: spread for label, spread in rows.items() if spread is not None}
    names = {"least": "min", "5 %": "q05", "median": "median", "95 %": "q95", "most": "max", "mean": "mean"}
    columns = {"": list(spreads)}
    columns |= {name: [f"{getattr(each, field):.4g}" for each in spreads.values()] for name, field in names.items()}
    print_table(current.out, f"Sizes and counts ({of})", columns, left=("",))


def _show_cameras(current: Session, dataset: ShownDataset) -> None:
    columns: dict[str, list[str]] = {
        name: [] for name in ("camera", "images", "people", "brightness", "contrast", "red, green, blue", "colour")
    }
    for camera in dataset.cameras:
        cells = [escape(camera.camera or "unknown"), f"{camera.images:,}", f"{camera.identities:,}"]
        if camera.colour is None or camera.brightness is None or camera.brightness_spread is None:
            cells += ["", "", "", ""]
        else:
            red, green, blue = (round(level) for level in camera.colour)
            cells += [f"{camera.brightness:.0f} ± {camera.brightness_spread:.0f}", f"{camera.contrast:.0f}"]
            cells += [f"{red:3} {green:3} {blue:3}", f"[on rgb({red},{green},{blue})]    [/]"]
        for column, cell in zip(columns.values(), cells, strict=True):
            column.append(cell)
    print_table(current.out, "Cameras (levels 0 to 255)", columns, left=("camera",), optional=("colour",))


def _show_gap(current: Session, what: str, gap: StyleGap, *, matrix: bool = True) -> None:
    if gap.mean_distance is None:
        return
    if matrix:
        columns = {"": [escape(name) for name in gap.names]}
        for number, name in enumerate(gap.names):
            columns[escape(name)] = [f"{row[number]:.1f}" if row[number] else "" for row in gap.distances]
        print_table(current.out, "Style distance between data sets, grey levels", columns, left=("",))
    share = f" and explain {gap.explained:.0%} of the variance of style" if gap.explained is not None else ""
    current.say(escape(f"Style gap: the {what} lie {gap.mean_distance:.1f} grey levels apart on average{share}."))


def _show_duplicates(current: Session, report: DuplicateReport) -> None:
    current.say(
        f"\nDuplicates: {report.exact:,} groups of equal images, {report.near:,} pairs of similar ones; "
        f"{report.harmless:,} of both are one person by one camera."
    )
    if not report.complete:
        current.reporter.warn("So many images are similar that the search ended early.")
    for doubt, count in report.by_doubt.items():
        if count:
            current.reporter.warn(f"Suspected duplicates, {count:,} × {WARNINGS[doubt]}.")
    if not report.doubtful:
        return
    shown = report.doubtful[:SHOWN_DUPLICATES]
    print_table(
        current.out,
        "Suspected duplicates",
        {
            "kind": [each.kind for each in shown],
            "doubt": ["\n".join(each.doubts) for each in shown],
            "images": [
                "\n".join(escape(f"{one.dataset}/{one.path} ({one.identity}, {one.split})") for one in each.images)
                for each in shown
            ],
        },
        left=("kind", "doubt", "images"),
    )
    more = len(report.doubtful) - SHOWN_DUPLICATES
    if more > 0:
        current.say(f"… and {more:,} more: --json names all.")
