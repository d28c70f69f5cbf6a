"""The `codesign` command."""
