"""The operator's web page and its API."""
