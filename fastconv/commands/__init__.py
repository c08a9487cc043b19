"""What the commands do, one file each: ``run(arguments, interrupts)`` returns the exit code.

The options are in ``fastconv/cli.py``, which imports a command's file when that command was asked for.
"""
