"""Detector plug-ins: one file each, named by `--detector`."""
