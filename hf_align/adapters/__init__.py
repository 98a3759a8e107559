"""Parameter-efficient methods: which weights are added or trained."""
