"""`python -m sil_cli` and the `sil` script."""

import sys


def main() -> None:
    """Run the program; Ctrl-C is code 130 from the first moment on."""
    try:
        from sil_cli.cli.app import make_app

        make_app()()
    except KeyboardInterrupt:
        sys.stderr.write("Stopped.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
