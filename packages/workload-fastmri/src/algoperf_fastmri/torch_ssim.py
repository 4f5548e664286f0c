"""Structural similarity of images in PyTorch; see `metrics` for the source."""

import torch
from torch import Tensor

from algoperf_fastmri.metrics import SSIM_K1, SSIM_K2, SSIM_WINDOW


def ssim(outputs: Tensor, targets: Tensor, mean: Tensor, std: Tensor, volume_max: Tensor) -> Tensor:
    """The mean structural similarity of normalised images, float32 [B], between -1 and 1.

    It is that of `outputs * std + mean` and `targets * std + mean`, over all windows that lie within the image.

    Args:
        outputs: [B, H, W], at least a window high and wide.
        targets: [B, H, W].
        mean: [B].
        std: [B].
        volume_max: [B], the range of values; 0 stands for 1.
    """
    volume_max = torch.where(volume_max == 0, 1, volume_max)
    # As shares of the range of values, so that what stabilises the quotients is the same for all images.
    scale, shift = ((of / volume_max)[:, None, None] for of in (std, mean))
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    mean_x, mean_y = _window_means(outputs), _window_means(targets)
    mean_squares, mean_product = _window_means(outputs**2 + targets**2), _window_means(outputs * targets)
    # Variances are those of the normalised images, but for the scale; these lie closer to zero and lose fewer digits.
    unbiased = scale**2 * (SSIM_WINDOW**2 / (SSIM_WINDOW**2 - 1))
    variances = unbiased * (mean_squares - mean_x**2 - mean_y**2)
    covariance = unbiased * (mean_product - mean_x * mean_y)
    mean_x, mean_y = scale * mean_x + shift, scale * mean_y + shift
    luminance = (2 * mean_x * mean_y + SSIM_K1**2) / (mean_x**2 + mean_y**2 + SSIM_K1**2)
    structure = (2 * covariance + SSIM_K2**2) / (variances + SSIM_K2**2)
    return (luminance * structure).mean(dim=(1, 2)).clamp(-1, 1)


def _window_means(images: Tensor) -> Tensor:
    """[B, H, W] to [B, H - 6, W - 6]."""
    # Columns after rows take 14 additions for a window's 49.
    return images.unfold(1, SSIM_WINDOW, 1).mean(dim=-1).unfold(2, SSIM_WINDOW, 1).mean(dim=-1)
