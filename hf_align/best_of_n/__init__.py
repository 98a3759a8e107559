"""Best-of-N: recipe, command, sampling, files, report, card."""
