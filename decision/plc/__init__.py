"""PLC drivers: one file each, named by `plc.type` in the station file."""
