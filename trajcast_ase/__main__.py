"""``python -m trajcast_ase`` (and ``torchrun -m trajcast_ase``): the command line."""

from trajcast_ase.cli import main

if __name__ == "__main__":
    main()
