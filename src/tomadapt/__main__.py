"""``python -m tomadapt`` is the command line; so ``torchrun -m tomadapt train …`` works."""

from tomadapt.cli import main

if __name__ == "__main__":
    main()
