"""Conversations: templates, turns, rendering, and the spans that are trained."""
