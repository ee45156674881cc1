"""The formats of an export, one file each: `write(source, folder)`; `SUFFIX` where one file can be all of it."""
