"""Models in files: those that come with the package, the user's, published ones."""
