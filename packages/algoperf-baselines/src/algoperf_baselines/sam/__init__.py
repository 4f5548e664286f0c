"""Sharpness-aware minimization, around NAdamW."""
