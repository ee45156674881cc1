"""Cameras to triggers and frames."""
