"""Commands, one file a stage. Each wires the layers below and holds no mathematics."""
