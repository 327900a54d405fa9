"""What a gallery of up to 10^9 crops takes, extrapolated from what was measured on one machine (docs/scale.json).

    python tests/benchmarks/simulate_scale.py --out docs/images/scale.png

Every curve is a formula of docs/scale.md, whose letters stand in the functions below. Prices and rates that were not
measured are options; what they are by default is an assumption, not a finding.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parents[2] / "docs"
SHOWN = [10**power for power in (7, 8, 9)]
GIB = 2**30
DAY = 86_400


@dataclass(frozen=True)
class Measured:
    """What docs/scale.json comes to.

    Attributes:
        dimension: D, the values of a vector.
        code_bytes: b of each code.
        scan: s of each code: seconds in which one core compares a query with one vector.
        recall: recall@10 of each code alone.
        share: p, the share of the vectors in the cells that give recall@10 of 0.99; None where it was not measured.
        row_bytes: r, on disk beside the vector.
        fixed_seconds: t0 of a query.
        insert_rate: Vectors a second by one client.
        thumbnail_bytes: Of a JPEG.
        sizes: The numbers of vectors that were measured.
    """

    dimension: int
    code_bytes: dict[str, int]
    scan: dict[str, float]
    recall: dict[str, float]
    share: float | None
    row_bytes: float
    fixed_seconds: float
    insert_rate: float
    thumbnail_bytes: float
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here."""

    machine_memory: float
    machine_cores: int
    bandwidth: float
    machine_price: float
    store_price: float
    used_share: float
    replicas: int
    share: float
    core_rate: float
    gpu_rate: float


def read_measured(file: Path) -> Measured:
    """The constants that follow from what the benchmarks put into a file."""
    found = json.loads(file.read_text(encoding="utf-8"))
    codes, stores = found["codes"]["codes"], found["stores"]
    dimension, count, local, server = stores["dimension"], stores["size"], stores["local"], stores["store"]
    scan = {code: 1e-9 * one["scan_ns"] for code, one in codes.items()}
    return Measured(
        dimension=dimension,
        code_bytes={code: one["bytes"] for code, one in codes.items()},
        scan=scan,
        recall={code: one["recall"] for code, one in codes.items()},
        share=found["codes"].get("cells", {}).get("share"),
        row_bytes=local["bytes"] / count - 4 * dimension - 8,
        fixed_seconds=max(0.0, server["all"][0] / 1000 - scan["float32"] * count),
        insert_rate=count / server["add"],
        thumbnail_bytes=found["thumbnail_bytes"],
        sizes=(count, found["codes"]["size"]),
    )


def bytes_in_memory(n: float, code: str, m: Measured) -> float:
    """B(n) = n · b."""
    return n * m.code_bytes[code]


def bytes_stored(n: float, m: Measured) -> float:
    """S(n) = n · (4 D + 8 + r): float32 vectors, ids and rows; codes are built from them."""
    return n * (4 * m.dimension + 8 + m.row_bytes)


def shards(n: float, code: str, m: Measured, a: Assumed) -> int:
    """⌈B(n) / (u · memory)⌉: the machines of one replica."""
    return math.ceil(bytes_in_memory(n, code, m) / (a.used_share * a.machine_memory))


def machines(n: float, code: str, m: Measured, a: Assumed) -> int:
    """M(n) = R · ⌈B(n) / (u · memory)⌉."""
    return a.replicas * shards(n, code, m, a)


def query_seconds(n: float, code: str, m: Measured, a: Assumed, *, share: float = 1.0) -> float:
    """T(n) = t0 + p · n / shards · max(s / c, b / W): all cores of a replica at once; p = 1 looks at every vector."""
    each = max(m.scan[code] / a.machine_cores, m.code_bytes[code] / a.bandwidth)
    return m.fixed_seconds + share * n / shards(n, code, m, a) * each


def days(n: float, rate: float) -> float:
    """n / rate, in days."""
    return n / rate / DAY


def monthly_cost(n: float, code: str, m: Measured, a: Assumed) -> float:
    """C(n) = M(n) · P_machine + (S(n) + n · thumbnail) · P_store."""
    stored = bytes_stored(n, m) + n * m.thumbnail_bytes
    return machines(n, code, m, a) * a.machine_price + stored / 1e12 * a.store_price


def constants(m: Measured) -> list[str]:
    """What was measured, as docs/scale.md gives it."""
    scans = ", ".join(f"{code} {1e9 * seconds:.0f} ns" for code, seconds in m.scan.items())
    return [
        f"r = {m.row_bytes:.0f} bytes, t0 = {1000 * m.fixed_seconds:.1f} ms, p = {m.share}, "
        f"inserted {m.insert_rate:,.0f} a second",
        f"s: {scans}",
    ]


def table(m: Measured, a: Assumed) -> list[str]:
    """One line a size and code, as docs/scale.md shows them."""
    lines = [
        f"| 10^{round(math.log10(n))} | {code} | {bytes_in_memory(n, code, m) / GIB:,.0f} GiB"
        f" | {shards(n, code, m, a):,} | {machines(n, code, m, a):,} | {1000 * query_seconds(n, code, m, a):,.0f} ms"
        f" | {1000 * query_seconds(n, code, m, a, share=a.share):,.0f} ms"
        f" | {bytes_stored(n, m) / 1e12:,.2f} TB | {monthly_cost(n, code, m, a):,.0f} |"
        for n in SHOWN
        for code in m.code_bytes
    ]
    head = "| crops | code | in memory | shards | machines | every vector | some cells | stored | cost a month |"
    return [head, "|---|---|---|---|---|---|---|---|---|", *lines]


def draw(path: Path, m: Measured, a: Assumed) -> None:
    """The curves, one panel a question."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [10 ** (4 + step / 20) for step in range(101)]
    by_code = {
        "memory of the codes, GiB": lambda n, code: bytes_in_memory(n, code, m) / GIB,
        f"machines of {a.machine_memory / GIB:.0f} GiB, {a.replicas} replicas": lambda n, code: machines(n, code, m, a),
        "cost a month (assumed prices)": lambda n, code: monthly_cost(n, code, m, a),
        "a query of every vector, ms": lambda n, code: 1000 * query_seconds(n, code, m, a),
        f"a query of {100 * a.share:.1f} % of them, ms": lambda n, code: (
            1000 * query_seconds(n, code, m, a, share=a.share)
        ),
    }
    figure, axes = plt.subplots(2, 3, figsize=(14, 8), constrained_layout=True)
    for axis, (title, value) in zip(axes.flat, by_code.items(), strict=False):
        for style, code in zip(("-", "--", "-.", ":", "-"), m.code_bytes, strict=False):
            label = f"{code} (recall@10 {m.recall[code]:.3f})"
            axis.plot(sizes, [value(n, code) for n in sizes], style, label=label)
        axis.set(xscale="log", yscale="log", title=title, xlabel="crops")
    axes.flat[0].legend(fontsize=8)
    last = axes.flat[-1]
    for name, rate in (
        (f"embedded by a core ({a.core_rate:.0f} a second, assumed)", a.core_rate),
        (f"embedded by a GPU ({a.gpu_rate:,.0f}, assumed)", a.gpu_rate),
        (f"inserted by one client ({m.insert_rate:,.0f})", m.insert_rate),
    ):
        last.plot(sizes, [days(n, rate) for n in sizes], label=name)
    last.set(xscale="log", yscale="log", title="days of one worker", xlabel="crops")
    last.legend(fontsize=8)
    for axis in axes.flat:
        axis.axvspan(sizes[0], max(m.sizes), color="0.9")
        axis.grid(alpha=0.3)
    count, most = m.sizes
    figure.suptitle(
        f"Extrapolated from {count:,} entries and {most:,} vectors of {m.dimension} values on one machine of 2 cores "
        "(grey: no more than that)"
    )
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measured", type=Path, default=HERE / "scale.json")
    parser.add_argument("--out", type=Path, default=None, help="a .png for the curves")
    parser.add_argument("--memory", type=float, default=256.0, help="GiB of a machine (assumed)")
    parser.add_argument("--cores", type=int, default=32, help="cores of a machine (assumed)")
    parser.add_argument("--bandwidth", type=float, default=200.0, help="GB/s from a machine's memory (assumed)")
    parser.add_argument("--price", type=float, default=1000.0, help="of a machine a month (assumed)")
    parser.add_argument("--store-price", type=float, default=25.0, help="of a TB a month (assumed)")
    parser.add_argument("--used", type=float, default=0.7, help="share of memory that may hold codes (assumed)")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.05, help="p, where none was measured (assumed)")
    parser.add_argument("--core-rate", type=float, default=16.0, help="crops a second a core embeds (assumed)")
    parser.add_argument("--gpu-rate", type=float, default=1000.0, help="crops a second a GPU embeds (assumed)")
    chosen = parser.parse_args()
    m = read_measured(chosen.measured)
    a = Assumed(
        chosen.memory * GIB,
        chosen.cores,
        1e9 * chosen.bandwidth,
        chosen.price,
        chosen.store_price,
        chosen.used,
        chosen.replicas,
        chosen.share if m.share is None else m.share,
        chosen.core_rate,
        chosen.gpu_rate,
    )
    print("\n".join([*constants(m), "", *table(m, a), ""]))
    for n in SHOWN:
        print(
            f"10^{round(math.log10(n))} crops: embedded in {days(n, a.core_rate):,.0f} core days"
            f" or {days(n, a.gpu_rate):,.1f} GPU days; inserted by one client in {days(n, m.insert_rate):,.1f} days"
        )
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        draw(chosen.out, m, a)


if __name__ == "__main__":
    main()
