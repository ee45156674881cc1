"""The PLC of a simulated line, which judges the station's gate from outside; and the register map for a real one.

It shares the register map and the clock with the station and nothing else.

belt.py       where each part is, what a gate at rest does, what the PLC counts: no I/O
leader.py     the PLC's side of the handshake where it leads: no I/O
faults.py     what can be wrong with a PLC, on command: no I/O
memories/     the PLC's memory behind a real server, one file for each protocol (memory.py says what such a file is)
relay.py      the cable to it, which can be cut
program.py    the PLC's program, over memory and belt
line.py       the line it stands at: a simulated station's, or its own
simulator.py  the process: `python -m deploy.plc`, `andon plc simulate`
tags.py       the register map as text and as tag files: `andon plc map`
"""
