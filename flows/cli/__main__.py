"""`python -m flows.cli`: the command line, for where `medallion` is not on the path."""

from flows.cli.app import main

main()
