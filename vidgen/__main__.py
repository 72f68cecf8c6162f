"""``python -m vidgen`` and ``torchrun -m vidgen``: the command line."""

from vidgen.cli import main

if __name__ == "__main__":
    main()
