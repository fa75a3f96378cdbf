"""`python -m batchembed`."""

from batchembed.cli import main

if __name__ == "__main__":
    main(prog_name="batchembed")
