"""What every custom adapter method shares: layers, model, files."""
