"""Objectives that several stages share: from model and batch to a summed loss."""
