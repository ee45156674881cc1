"""`andon export`: stored parts as files, for spreadsheets, for analysis, and to train from."""
