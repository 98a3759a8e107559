"""RL algorithms: what each makes of a rollout, and the loss that it trains on; one file each."""
