"""`python -m flows.cli`: the command line, if `medallion` is not on the path."""

from flows.cli.app import main

if __name__ == "__main__":
    main()
