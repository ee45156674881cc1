"""Fit, calibrate, export and evaluate: with the detectors, the only place that imports torch."""
