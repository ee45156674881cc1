"""The PLC of a simulated line, which judges the station's gate from outside.

It shares the register map and the clock with the station and nothing else.

belt.py       where each part is, what a gate at rest does, what the PLC counts: no I/O
memories/     the PLC's memory behind a real server, one file for each protocol
simulator.py  the process: `python -m deploy.plc`
"""
