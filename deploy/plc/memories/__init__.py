"""The PLC's memory behind a real server: `type = "foo"` loads `foo.py` from here."""
