"""The `lab` command: `main.py` is the list of commands in the order of the loop, then one module per command."""
