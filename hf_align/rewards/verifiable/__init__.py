"""Rewards that a program can check: each a function of answers and the columns of their rows.

They are named in ``reward_functions`` beside functions of the user; what they take is in ``reward_options``.
"""
