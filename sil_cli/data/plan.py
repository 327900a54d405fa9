"""Protocol files: the field's protocols, and a user's own, as one .toml file each that pins all of it.

    name = "P3"
    about = "Learn from all labelled images of three sets, and test on the fourth."
    source_splits = "train+test"

    [settings.model]              # pinned above the recipe's values
    height = 256
    width = 128

    [datasets.market1501]         # how each is prepared: a reader and its options
    reader = "market1501"

    [datasets.viper]
    reader = "viper"
    splits = 10                   # random splits 1 to 10, drawn by this seed
    seed = 0

    [cases.market1501]            # an experiment each
    sources = ["msmt17", "cuhk-sysu", "cuhk03"]
    targets = ["market1501"]

`leave_one_out = true` stands for one case a data set: that one is tested on, all others are learnt from.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from sil_cli.data.manifest import StrictModel, first_problem
from sil_cli.data.protocol import Protocol, SourceSplits
from sil_cli.data.reading import SYNTHETIC
from sil_cli.errors import UsageError, did_you_mean, one_line
from sil_cli.files import parse_toml, read_text
from sil_cli.settings import Name

if TYPE_CHECKING:
    from collections.abc import Sequence


class DatasetPlan(StrictModel):
    """How one data set of a protocol is prepared.

    Attributes:
        reader: A reader's name.
        root: Where it lies below ROOT; None: it is looked for by its layout.
        splits: How many random splits (or of its authors' partitions) are tested on; the result is their mean.
        seed: Draws the splits.
        labelled: For CUHK03: hand-cut crops (true) or the detector's (false).
        partition: One of several splits, where `splits` is 1.
        version: For MSMT17: 1 or 2; None takes either.
        pattern: For the reader `regex`.
        split: For readers of data without splits: train, test or half.
    """

    reader: str
    root: str | None = None
    splits: int = Field(1, ge=1, le=1000)
    seed: int = Field(0, ge=0)
    labelled: bool | None = None
    partition: int | None = Field(None, ge=1)
    version: int | None = None
    pattern: str | None = None
    split: str | None = None

    @field_validator("root")
    @classmethod
    def _stays_below(cls, root: str | None) -> str | None:
        if root is not None and (Path(root).is_absolute() or ".." in Path(root).parts):
            raise ValueError("must lie below ROOT: relative and without '..'")
        return root


class CasePlan(StrictModel):
    """One experiment of a protocol: names in its table of data sets."""

    sources: tuple[str, ...] = Field(min_length=1)
    targets: tuple[str, ...] = Field(min_length=1)


class ProtocolPlan(StrictModel):
    """A protocol file.

    Attributes:
        name: What the field calls it.
        about: What it is, in a sentence.
        source_splits: What of the sources is learnt from.
        settings: Settings that it pins, by section.
        datasets: Those that it is about, by the names that their folders get.
        cases: Its experiments by name.
        leave_one_out: Every data set is the target of one case.
        generated: The data sets are the generated networks, as many as `data.synthetic` draws.
        methods: Named settings to compare with one another, by section; empty: one method, the recipe's.
    """

    name: str = Field(min_length=1)
    about: str = ""
    source_splits: SourceSplits = "train"
    settings: dict[str, dict[str, Any]] = Field({})
    datasets: dict[Name, DatasetPlan] = Field({})
    generated: bool = False
    cases: dict[Name, CasePlan] = Field({})
    leave_one_out: bool = False
    methods: dict[Name, dict[str, dict[str, Any]]] = Field({})

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.leave_one_out == bool(self.cases):
            raise ValueError("give either cases or leave_one_out = true")
        if self.generated:
            if self.datasets or not self.leave_one_out:
                raise ValueError("generated networks have no table of data sets, and are left out one by one")
        elif len(self.datasets) < 2:
            raise ValueError("it takes at least two data sets")
        for name, case in self.cases.items():
            for dataset in (*case.sources, *case.targets):
                if dataset not in self.datasets:
                    raise ValueError(f"case {name} names {dataset}, which is not among the data sets")
            both = set(case.sources) & set(case.targets)
            if both:
                raise ValueError(f"case {name} learns from its target {sorted(both)[0]}")
        return self

    @property
    def all_cases(self) -> dict[str, CasePlan]:
        """Its experiments, those of `leave_one_out` written out."""
        if not self.leave_one_out:
            return self.cases
        names = tuple(self.datasets)
        return {
            target: CasePlan(sources=tuple(name for name in names if name != target), targets=(target,))
            for target in names
        }

    def protocol(self, case: str) -> Protocol:
        """One of its experiments, as it is written beside the prepared data sets."""
        plan = self.all_cases[case]
        return Protocol(
            name=f"{self.name} {case}" if len(self.all_cases) > 1 else self.name,
            sources=plan.sources,
            source_splits=self.source_splits,
            targets=plan.targets,
            settings=self.settings,
        )


def protocol_names() -> list[str]:
    """The names of the protocol files that come with this program."""
    folder = resources.files("sil_cli") / "protocols"
    return sorted(Path(file.name).stem for file in folder.iterdir() if file.name.endswith(".toml"))


def read_plan(name: str, networks: Sequence[str]) -> tuple[ProtocolPlan, list[str]]:
    """A protocol and the cases that are meant, by a name such as `p3` or `p3-market1501`, or by a .toml file.

    Args:
        name: The protocol.
        networks: The names of the generated networks, should it be about those.

    Returns:
        The protocol; and the names of its cases: the one that the name ends in, or all.

    Raises:
        UsageError: There is no such protocol or case, or the file is not a protocol.
    """
    if name.endswith(".toml"):
        plan = _parse(_read_file(Path(name)), name, networks)
        return plan, list(plan.all_cases)
    known = protocol_names()
    stem = max((each for each in known if name == each or name.startswith(f"{each}-")), key=len, default=None)
    if stem is None:
        raise UsageError(f"There is no protocol '{name}'.", did_you_mean(name, known))
    text = (resources.files("sil_cli") / "protocols" / f"{stem}.toml").read_text(encoding="utf-8")
    plan = _parse(text, stem, networks)
    case = name.removeprefix(stem).removeprefix("-")
    if not case:
        return plan, list(plan.all_cases)
    if case not in plan.all_cases:
        near = [each for each in plan.all_cases if each.startswith(case)]
        if len(near) == 1:
            return plan, near
        fix = did_you_mean(name, [f"{stem}-{each}" for each in plan.all_cases])
        raise UsageError(f"The protocol {plan.name} has no case '{case}'.", fix)
    return plan, [case]


def _read_file(path: Path) -> str:
    try:
        return read_text(path)
    except FileNotFoundError:
        raise UsageError(
            f"There is no file {path}.", f"Check the path, or name one of {', '.join(protocol_names())}."
        ) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {one_line(error)}.", "Correct the file.") from error


def _parse(text: str, where: str, networks: Sequence[str]) -> ProtocolPlan:
    try:
        plan = ProtocolPlan.model_validate(parse_toml(text))
    except ValidationError as error:
        raise UsageError(
            f"{where} is not a protocol: {first_problem(error)}.", "docs/protocols.md shows how one is written."
        ) from error
    except ValueError as error:
        raise UsageError(f"{where} is not TOML: {one_line(error)}.", "Correct the file.") from error
    if not plan.generated:
        return plan
    return plan.model_copy(update={"datasets": {name: DatasetPlan(reader=SYNTHETIC) for name in networks}})
