"""The run folder: record, metrics, processes, signals, checkpoints."""
