"""Measurements that README and docs quote; each module writes results/reference/NAME.md and NAME.json."""
