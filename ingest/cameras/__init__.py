"""Camera plug-ins: one file each, named by `type` in the station file."""
