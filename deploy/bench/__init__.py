"""`andon bench NAME`: what the station reaches on this machine, as ratios to a bare reference in the same run."""
