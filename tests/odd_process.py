"""`sil` as torchrun starts it, committing often; one process of the launch differs from the others.

    python odd_process.py RANK WHAT ARGUMENTS...

WHAT: `kill:N` or `stop:N` sends itself that signal when it has embedded N batches in the first attempt; `package` has
another version of NumPy; `same` differs in nothing.
"""

from __future__ import annotations

import os
import signal
import sys

import numpy as np

from sil_cli.__main__ import main
from sil_cli.gallery import workers
from sil_cli.gallery.ingest import run

COMMIT = 8
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def failing(embed, number: int, after: int):
    """`embed_batches` that sends its own process a signal in the place of one more batch."""
    done = 0

    def embed_batches(*arguments, **options):
        nonlocal done
        for part in embed(*arguments, **options):
            if done == after:
                os.kill(os.getpid(), number)
            done += 1
            yield part

    return embed_batches


def be_odd(what: str) -> None:
    kind, _, after = what.partition(":")
    if kind in SIGNALS and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
        workers.embed_batches = failing(workers.embed_batches, SIGNALS[kind], int(after))
    elif kind == "package":
        np.__version__ = "2.0.9"  # some packages read it


if __name__ == "__main__":
    run.COMMIT_IMAGES, workers.BATCHES_EACH = COMMIT, 1
    rank, odd = int(sys.argv.pop(1)), sys.argv.pop(1)
    if os.environ.get("RANK", "0") == str(rank):
        be_odd(odd)
    main()
