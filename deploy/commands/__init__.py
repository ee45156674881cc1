"""The `andon` commands, one file for each group: `add` names the arguments, what they run is imported when it runs."""
