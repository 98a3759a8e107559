"""Pre-training: recipe, command, data, new models, objectives, report, card."""
