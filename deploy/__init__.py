"""The andon command, the supervisor, the servers, doctor and bench."""
