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

SIZES = [10**power for power in (5, 6, 7, 8, 9)]
GIB = 2**30


@dataclass(frozen=True)
class Measured:
    """Constants of docs/scale.json, all of embeddings of `dimension` values."""

    dimension: int
    code_bytes: dict[str, int]
    recall: dict[str, float]
    row_bytes: float
    memory_factor: float
    scan_seconds: float
    quick_of: int
    fixed_seconds: float
    insert_rate: float
    thumbnail_bytes: float


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here."""

    machine_memory: float
    machine_cores: int
    machine_price: float
    store_price: float
    used_share: float
    replicas: int
    core_rate: float
    gpu_rate: float


def bytes_in_memory(n: float, code: str, m: Measured) -> float:
    """B(n) = n · b · φ: the codes, times what the server holds beside them."""
    return n * m.code_bytes[code] * m.memory_factor


def bytes_stored(n: float, m: Measured) -> float:
    """S(n) = n · (4 D + r): vectors at float32 and rows; codes are built from them."""
    return n * (4 * m.dimension + m.row_bytes)


def machines(n: float, code: str, m: Measured, a: Assumed) -> int:
    """M(n) = R · ⌈B(n) / (u · memory)⌉."""
    return a.replicas * math.ceil(bytes_in_memory(n, code, m) / (a.used_share * a.machine_memory))


def exact_seconds(n: float, code: str, m: Measured, a: Assumed) -> float:
    """T_exact(n) = t0 + s · n · R / (M(n) · cores): every vector, all cores of one replica at once."""
    cores = machines(n, code, m, a) / a.replicas * a.machine_cores
    return m.fixed_seconds + m.scan_seconds * n / cores


def embedding_days(n: float, rate: float) -> float:
    """n / rate, in days."""
    return n / rate / 86_400


def monthly_cost(n: float, code: str, m: Measured, a: Assumed) -> float:
    """C(n) = M(n) · P_machine + S(n) · P_store + thumbnails · P_store."""
    stored = bytes_stored(n, m) + n * m.thumbnail_bytes
    return machines(n, code, m, a) * a.machine_price + stored / 1e12 * a.store_price


def table(m: Measured, a: Assumed) -> list[str]:
    """One line a size and code, as docs/scale.md shows them."""
    lines = [
        f"| 10^{round(math.log10(n))} | {code} | {bytes_in_memory(n, code, m) / GIB:,.0f} GiB"
        f" | {machines(n, code, m, a):,} | {1000 * exact_seconds(n, code, m, a):,.0f} ms"
        f" | {bytes_stored(n, m) / 1e12:,.2f} TB"
        f" | {monthly_cost(n, code, m, a):,.0f} |"
        for n in SIZES[2:]
        for code in m.code_bytes
    ]
    head = "| crops | code | in memory | machines | exact | stored | cost a month |"
    return [head, "|---|---|---|---|---|---|---|", *lines]


def draw(path: Path, m: Measured, a: Assumed) -> None:
    """The curves, one panel a question."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    sizes = [10 ** (5 + step / 20) for step in range(81)]
    panels = {
        "memory of the codes, GiB": lambda n, code: bytes_in_memory(n, code, m) / GIB,
        f"machines of {a.machine_memory / GIB:.0f} GiB, {a.replicas} replicas": lambda n, code: machines(n, code, m, a),
        "exact search, ms": lambda n, code: 1000 * exact_seconds(n, code, m, a),
        "cost a month (assumed prices)": lambda n, code: monthly_cost(n, code, m, a),
    }
    figure, axes = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for axis, (title, value) in zip(axes.flat, panels.items(), strict=True):
        for code in m.code_bytes:
            axis.plot(sizes, [value(n, code) for n in sizes], label=f"{code} (recall@10 {m.recall[code]:.3f})")
        axis.set(xscale="log", yscale="log", title=title, xlabel="crops")
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=8)
    figure.suptitle(f"Extrapolated from {m.quick_of:,} vectors of {m.dimension} values on one machine")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    here = Path(__file__).parents[2] / "docs"
    parser.add_argument("--measured", type=Path, default=here / "scale.json")
    parser.add_argument("--out", type=Path, default=None, help="a .png for the curves")
    parser.add_argument("--memory", type=float, default=256.0, help="GiB of a machine (assumed)")
    parser.add_argument("--cores", type=int, default=32, help="cores of a machine (assumed)")
    parser.add_argument("--price", type=float, default=1000.0, help="of a machine a month (assumed)")
    parser.add_argument("--store-price", type=float, default=25.0, help="of a TB a month (assumed)")
    parser.add_argument("--used", type=float, default=0.7, help="share of memory that may hold codes (assumed)")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--core-rate", type=float, default=38.0, help="crops a second a core embeds (assumed)")
    parser.add_argument("--gpu-rate", type=float, default=1000.0, help="crops a second a GPU embeds (assumed)")
    chosen = parser.parse_args()
    m = Measured(**{key: value for key, value in json.loads(chosen.measured.read_text()).items() if key[0] != "_"})
    a = Assumed(
        chosen.memory * GIB,
        chosen.cores,
        chosen.price,
        chosen.store_price,
        chosen.used,
        chosen.replicas,
        chosen.core_rate,
        chosen.gpu_rate,
    )
    print("\n".join(table(m, a)))
    for n in SIZES[2:]:
        print(
            f"10^{round(math.log10(n))} crops: embedded in {embedding_days(n, a.core_rate):,.0f} core days"
            f" or {embedding_days(n, a.gpu_rate):,.1f} GPU days; inserted by one client in"
            f" {embedding_days(n, m.insert_rate):,.1f} days"
        )
    if chosen.out:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        draw(chosen.out, m, a)


if __name__ == "__main__":
    main()
