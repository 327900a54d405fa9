"""Report: pictures and pages, drawn from saved results alone."""
