"""``python -m flows`` is ``heptune``."""

from flows.commands.command_line import main

main()
