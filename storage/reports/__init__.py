"""Reporters, one file each: `storage/report.py` says what one is."""
