"""The teacher: what lessons need done beside the line, one thing after the other, at the lowest priority."""
