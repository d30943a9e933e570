"""`python -m dreibein` is the `dreibein` command."""

from dreibein.cli.main import main

if __name__ == "__main__":
    main()
