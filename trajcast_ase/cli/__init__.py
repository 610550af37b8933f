"""The command ``trajcast``: thin functions around the package."""

from trajcast_ase.cli.app import app, main

__all__ = ["app", "main"]
