"""Reinforcement learning from rewards (PPO): recipe, command, rollout, advantages, update, report."""
