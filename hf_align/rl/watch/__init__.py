"""The reward-hacking watch: rules, what they do, and what they show."""
