"""ResNet-50 on ImageNet, and its variants."""
