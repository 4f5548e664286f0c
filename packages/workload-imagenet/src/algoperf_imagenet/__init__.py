"""AlgoPerf's ImageNet workloads: image classification by a ResNet-50 and by a vision transformer."""
