"""What pictures are normalised by: mean and deviation of each colour over ImageNet's training pictures, of 0 … 255."""

MEAN = (123.675, 116.28, 103.53)
STANDARD_DEVIATION = (58.395, 57.12, 57.375)
