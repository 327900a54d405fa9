"""Evaluation: pure metric functions and the rules of the field's protocols."""
