"""The command ``grpo``: group-relative policy optimisation and its kin."""
