"""Predictions to verdicts, and verdicts to the gate."""
