"""Top floor: sweep, rungs, gate, climb, report and the command line."""
