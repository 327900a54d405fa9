"""`python -m sil_cli` and the `sil` script."""

import codecs
import io
import os
import sys


def main() -> None:
    """Run the program; Ctrl-C is code 130 from the first moment on."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # else it reads all packages' metadata: 0.1 s
    if not os.environ.get("COLUMNS", "").strip("0 "):
        os.environ.pop("COLUMNS", None)  # as containers set it: rich would print nothing, and typer no help
    try:
        from sil_cli.errors import say_in_ascii

        codecs.register_error(say_in_ascii.__name__, say_in_ascii)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # None where it was closed
                stream.reconfigure(errors=say_in_ascii.__name__)

        from sil_cli.cli.app import make_app

        make_app(next(iter(sys.argv[1:]), None))()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
