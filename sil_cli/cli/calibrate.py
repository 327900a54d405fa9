"""`sil calibrate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from sil_cli.cli.command import GALLERY, STORE, Option
from sil_cli.cli.terminal import escape, print_facts, print_table
from sil_cli.errors import UsageError, quoted

if TYPE_CHECKING:
    from sil_cli.cli.session import Session
    from sil_cli.evaluation.calibrate import CalibrateResult
    from sil_cli.gallery.people import Answer
    from sil_cli.people.accept_rates import AcceptRates, Estimate
    from sil_cli.people.asking import AnswersRead, CalibrateGalleryResult, Question
    from sil_cli.settings import Settings

PAIRS = {
    "cameras": "of different cameras",
    "times": "ten minutes apart, since cameras aren't known",
    "all": "of any two, since neither cameras nor times are known",
}
EXAMPLES = """
sil calibrate
sil calibrate --model runs/001-dbs --on data/office
sil calibrate --set calibrate.match=1e-4
sil calibrate --gallery station
sil calibrate --gallery station --ask 50
sil calibrate --gallery station --answers questions.csv
"""
ASKING = "Asking a person about pairs of a gallery"
KEYS: dict[str, Answer] = {"y": "same", "n": "different", "?": "unsure", "u": "unsure"}
OPTIONS = (
    Option("--model", "calibrate.model", "RUN"),
    Option("--on", "calibrate.on", "DIR"),
    GALLERY,
    STORE,
    Option("--ask", "calibrate.ask", "N", "Draw N pairs to ask about: is each one person?", panel=ASKING),
    Option("--sheet", "calibrate.sheet", "FILE", panel=ASKING),
    Option("--answers", "calibrate.answers", "FILE.csv", "Keep the answers of that table.", panel=ASKING),
    Option("--by", metavar="NAME", help="Who answers; default: whoever is logged in.", panel=ASKING, kind=str),
)


def run(current: Session) -> CalibrateResult | CalibrateGalleryResult:
    """Measure the score above which images count as one person: on labelled people, or by chance in a gallery."""
    settings = current.settings()
    asking = settings.calibrate.ask is not None or settings.calibrate.answers is not None
    if current.given["gallery"] is not None or current.given["store"] is not None or asking:
        return _by_gallery(current, settings)
    from sil_cli.evaluation.calibrate import calibrate

    result = calibrate(settings, current.reporter)
    meanings = {result.match: "match", result.possible: "possible"}
    print_table(
        current.out,
        f"Thresholds of {escape(result.model)}",
        {
            "false accept rate": list(result.thresholds),
            "score from": [f"{each:.4f}" for each in result.thresholds.values()],
            "true accept rate": [f"{result.true_accept_rates[name]:.3f}" for name in result.thresholds],
            "": [meanings.get(each, "") for each in result.thresholds.values()],
        },
    )
    current.say(
        f"From {result.same_pairs:,} pairs of one person and {result.different_pairs:,} of different people: "
        f"{escape(result.made_on)}."
    )
    current.next_command(f"Thresholds in {result.calibration}.")
    return result


def _by_gallery(current: Session, settings: Settings) -> CalibrateGalleryResult:
    from sil_cli.people.asking import calibrate_gallery

    if current.given["model"] is not None or current.given["on"] is not None:
        raise UsageError(
            "--gallery takes neither --model nor --on.", "A gallery is calibrated by its own entries, without labels."
        )
    by = current.given["by"]
    result = calibrate_gallery(settings, current.reporter, by=by)
    chance = result.chance
    low, high = chance.factor
    facts = {
        "entries": f"{chance.entries:,}",
        "pairs": f"{chance.pairs:,}, {PAIRS[chance.pairs_from]}",
        "mates of each, left out": f"{chance.mates:.1f}",
        "off by the sample alone": f"{low:.2g} to {high:.2g} times, in 90 % of samples",
        **({} if result.read is None else {"answers read": _read(result.read)}),
    }
    print_facts(current.out, "What comes up by chance", facts)
    if result.rates is not None:
        _show_rates(current, result.rates)
    if not result.questions:
        current.next_command(f"Queries of {result.gallery} say how many false matches are expected.", "sil query IMAGE")
        return result
    current.next_command(f"{len(result.questions):,} pairs in {result.sheet}: is each one person?")
    if _is_interactive(current):
        _ask(current, settings, result, by)
        return result
    then = f"sil calibrate{_named(result)} --answers {quoted(result.table or 'FILE')}"
    current.say(
        f"  Write yes, no or can't tell into {escape(result.table)}. Then: [bold cyan]{escape(then)}[/bold cyan]"
    )
    return result


def _is_interactive(current: Session) -> bool:
    """Whether somebody sits at the terminal and can be asked."""
    return not current.common.as_json and current.out.is_terminal and sys.stdin is not None and sys.stdin.isatty()


def _named(result: CalibrateGalleryResult) -> str:
    """The option that names the gallery, without which thresholds would be measured."""
    return result.option or f" --gallery {quoted(result.gallery)}"


def _read(read: AnswersRead) -> str:
    counts = {"one person": read.same, "two": read.different, "can't tell": read.unsure, "read before": read.known}
    left_out = {"gone": read.gone, "contradicting": read.contradicting}
    told = [f"{count:,} {name}" for name, count in counts.items()]
    return ", ".join(told + [f"{count:,} {name}" for name, count in left_out.items() if count])


def _show_rates(current: Session, rates: AcceptRates) -> None:
    from sil_cli.people.accept_rates import ENOUGH

    if not rates.decisions:
        current.say(f"{rates.answers:,} answers so far; it takes {ENOUGH} to measure the rates of decisions.")
        return
    print_table(
        current.out,
        f"By {rates.answers:,} answers, with 95 % intervals",
        {
            "decision": [each.decision for each in rates.decisions],
            "expected": [f"{each.expected:g}" for each in rates.decisions],
            "found": [_number(each.false_matches) for each in rates.decisions],
            "right": [_percent(each.right) for each in rates.decisions],
            "true accepts": [_percent(each.true_accept_rate) for each in rates.decisions],
            "false accepts": [_rate(each.false_accept_rate) for each in rates.decisions],
        },
        left=("decision",),
    )
    current.say(
        "Expected, found: false matches of a query. Right: pairs so decided that are one person. True accepts: of the "
        f"pairs of one person\nof which up to {rates.reach:g} false matches are expected; others aren't asked about."
    )


def _number(estimate: Estimate) -> str:
    return f"{estimate.low:.2g} to {estimate.high:.2g}"


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.low:.0f} to {100 * estimate.high:.0f} %"


def _rate(estimate: Estimate) -> str:
    return f"{estimate.low:.1e} to {estimate.high:.1e}"


def _ask(current: Session, settings: Settings, asked: CalibrateGalleryResult, by: str | None) -> None:
    """Take answers one by one at the terminal, keeping each at once, until all are given or somebody has enough."""
    import typer

    from sil_cli.people.asking import answer_question

    current.say("y: one person, n: two, ?: can't tell, b: back, q: no more now. Each answer is kept at once.")
    place = answered = 0
    while place < len(asked.questions):
        current.stop.check()
        question = asked.questions[place]
        current.out.print(f"{question.number:>4} of {len(asked.questions)}  {_described(question)} ", end="")
        key = typer.getchar().lower()
        if key in ("q", "\x04", ""):
            current.say("")
            break
        if key == "b":
            place = max(place - 1, 0)
            current.say("back")
        elif key in KEYS:
            answer_question(settings, asked, question, KEYS[key], by=by)
            current.say(KEYS[key])
            place, answered = place + 1, answered + 1
        else:
            current.say("y, n, ?, b or q")
    again = f"sil calibrate{escape(_named(asked))}"
    current.say(f"{answered:,} answers kept. `{again}` shows what they say.")


def _described(question: Question) -> str:
    """Where and when the two were seen."""
    return " | ".join(escape(each.camera or each.path) for each in (question.first, question.second))
