"""Other tasks on a timm backbone: torchvision's heads find and outline.

::

    backbone = timm.create_model("vig_h_tiny", features_only=True)
    losses = detector(backbone, classes=1, size=224)(images, targets)
    logits = segmenter(backbone, classes=2)(images)["out"]

Differs: the code of ViG's detectors and segmenters was not released, and we
had no settings for them; its results on COCO and ADE20K are not reproduced.
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.segmentation import FCN
from torchvision.models.segmentation.fcn import FCNHead
from torchvision.ops import FeaturePyramidNetwork


class Pyramid(nn.Module):
    """The features of a backbone, all with the same number of channels.

    Args:
        backbone: a timm model built with `features_only`.
        channels: of each map; a multiple of 32 for FCOS.
    """

    def __init__(self, backbone: Any, channels: int = 64):
        super().__init__()
        self.backbone = backbone
        widths = backbone.feature_info.channels()
        self.fpn = FeaturePyramidNetwork(widths, channels)
        self.out_channels = channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """[B, 3, H, W] -> maps, the finest first; it is called `out`."""
        maps = dict(enumerate(self.backbone(images)))
        return self.fpn({str(i) if i else "out": maps[i] for i in maps})


def detector(backbone: Any, classes: int, size: int) -> FCOS:
    """FCOS, a detector without anchor boxes (arXiv 1904.01355).

    It takes images in [0, 1] and labels from 0 to `classes` - 1.

    Args:
        size: every image is resized to this longest side.
    """
    strides = backbone.feature_info.reduction()
    points = AnchorGenerator(
        tuple((stride,) for stride in strides), ((1.0,),) * len(strides)
    )
    pyramid = Pyramid(backbone)
    return FCOS(pyramid, classes, size, size, anchor_generator=points)


def segmenter(backbone: Any, classes: int) -> FCN:
    """FCN (arXiv 1411.4038): logits of each pixel, [B, classes, H, W]."""
    pyramid = Pyramid(backbone)
    return FCN(pyramid, FCNHead(pyramid.out_channels, classes))
