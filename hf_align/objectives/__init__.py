"""Objectives: (model, batch) to a summed loss, wiring losses to models."""
