"""Digital inputs and outputs, one file for each way to reach them; see `decision/coupler.py`."""
