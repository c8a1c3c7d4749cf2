"""`python -m bslang` is the `bslang` program."""

from bslang.cli.main import main

if __name__ == "__main__":
    main()
