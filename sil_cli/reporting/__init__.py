"""Reporting: contact sheets and tables, made from saved results alone."""
