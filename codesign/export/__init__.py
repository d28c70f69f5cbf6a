"""Handing a design over: its configuration and its integer weights."""
