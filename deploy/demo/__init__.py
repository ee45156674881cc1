"""The demo station: its files, and how its bundles are made again."""
