"""How settings are written: as words of a command line, as keywords of Python, within ranges."""
