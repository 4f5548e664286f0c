"""NAdamW: AdamW with Nesterov momentum."""
