"""Rejection-sampling fine-tuning (RAFT): rounds of Best-of-N and fine-tuning."""
