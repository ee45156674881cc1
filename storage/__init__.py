"""Verdicts to the journal, Redis and PostgreSQL; queries and the console."""
