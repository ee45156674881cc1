"""Image stores, one file each; what one must have is in `storage/store.py`."""
