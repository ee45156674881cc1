"""Frames to predictions, in batches; detectors and their bundles."""
