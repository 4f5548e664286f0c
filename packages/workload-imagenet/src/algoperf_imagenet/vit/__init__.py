"""A vision transformer on ImageNet, and its variants."""
