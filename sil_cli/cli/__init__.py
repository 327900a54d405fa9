"""The command line: one thin module a subcommand; the only place that knows typer and rich."""
