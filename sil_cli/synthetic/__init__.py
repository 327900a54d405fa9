"""Drawn people in invented camera networks: a data set that needs no download and shows nobody real."""
