"""Replay: stored parts judged again from their stored pixels, and every difference told."""
