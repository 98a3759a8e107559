"""Classification: recipe, command, data, model, objective, report, card."""
