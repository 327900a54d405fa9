"""Benchmark: a whole protocol of trainings and evaluations in one table."""
