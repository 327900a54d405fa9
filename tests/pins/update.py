"""Store anew what the program shows of itself: its help, settings, documents, losses and answers.

    python tests/pins/update.py              # all
    python tests/pins/update.py help schemas # these

Look at the difference before you keep it: each line of it is a change for users.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from pins.making import KINDS  # noqa: E402


def main() -> None:
    for kind in sys.argv[1:] or KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            pages = KINDS[kind](Path(scratch).resolve())
        shutil.rmtree(HERE / kind, ignore_errors=True)
        (HERE / kind).mkdir()
        for name, text in pages.items():
            (HERE / kind / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
