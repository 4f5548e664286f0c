"""Distributed Shampoo; the rule is in `blocks`."""
