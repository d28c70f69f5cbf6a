"""Looking at studies: tables, plots, report."""
