"""`python -m sil_cli` and the `sil` script."""

from sil_cli.cli.app import main

if __name__ == "__main__":
    main()
