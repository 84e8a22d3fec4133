"""One preprocessing for files and for tensors, checked against torchvision's pipeline on PIL images."""

import json
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from ltg_core.compat import ensure_torchvision
from ltg_core.data.images import encode_png, read_image, to_tensor
from ltg_core.errors import InputError, ParamError
from ltg_core.models.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocess

ensure_torchvision()
from torchvision import transforms  # noqa: E402
from torchvision.transforms import InterpolationMode  # noqa: E402


def picture(width: int = 75, height: int = 50, seed: int = 0) -> Image.Image:
    """Coarse colour patches with fine noise on top: both flat areas and edges."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray((np.asarray(coarse).astype(int) + noise).clip(0, 255).astype(np.uint8))


def torchvision_crop(size: int, resize: int, mode: InterpolationMode) -> transforms.Compose:
    steps = [transforms.Resize(resize, mode, antialias=True), transforms.CenterCrop(size)]
    return transforms.Compose(
        [*steps, transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    )


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(75, 50), (50, 75), (61, 61), (20, 24)])
def test_crop_agrees_with_torchvision_on_the_pil_image(mode: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    preprocess = Preprocess(height=28, width=28, resize="crop", interpolation=mode, crop_pct=0.875)
    ours = preprocess(to_tensor(image)[None])
    theirs = torchvision_crop(28, 32, InterpolationMode(mode))(image)[None]
    assert ours.shape == theirs.shape
    # PIL rounds to 8 bit after each of its two passes: at most about two grey levels, half a level on average
    difference = (ours - theirs).abs() * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1) * 255
    assert difference.max() < 2.1
    assert difference.mean() < 0.5


def test_squash_agrees_with_torchvision_on_the_pil_image() -> None:
    image = picture()
    ours = Preprocess(height=24, width=32, resize="squash", mean=(0, 0, 0), std=(1, 1, 1))(
        to_tensor(image)[None]
    )
    theirs = transforms.ToTensor()(transforms.Resize((24, 32), antialias=True)(image))[None]
    assert (ours - theirs).abs().max() * 255 < 2.1


def test_nearest_agrees_with_torchvision_on_the_pil_image() -> None:
    image = picture()
    ours = Preprocess(
        height=20, width=31, resize="squash", interpolation="nearest", mean=(0, 0, 0), std=(1, 1, 1)
    )(to_tensor(image)[None])
    theirs = transforms.ToTensor()(transforms.Resize((20, 31), InterpolationMode.NEAREST)(image))[None]
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_the_file_route_and_the_tensor_route_agree_exactly(resize: str) -> None:
    image = picture()
    preprocess = Preprocess(height=32, width=32, resize=resize)
    from_file = preprocess(preprocess.from_pil(read_image(encode_png(image)))[None])
    assert torch.equal(from_file, preprocess(to_tensor(image)[None]))


def test_a_batch_is_prepared_as_its_images_are_alone(images: torch.Tensor) -> None:
    preprocess = Preprocess(height=24, width=24)
    alone = torch.cat([preprocess(image[None]) for image in images])
    assert torch.allclose(preprocess(images), alone, atol=1e-6)


def test_images_of_the_right_size_are_only_normalised(images: torch.Tensor) -> None:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    for resize in ("squash", "none"):
        assert torch.equal(Preprocess(height=32, width=32, resize=resize)(images), (images - mean) / std)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_gradient_is_that_of_finite_differences(interpolation: str, channels: int) -> None:
    values = (0.4,) * channels
    preprocess = Preprocess(
        height=5,
        width=4,
        crop_pct=0.8,
        interpolation=interpolation,
        channels=channels,
        mean=values,
        std=values,
    )
    generator = torch.Generator().manual_seed(0)
    x = 0.3 + 0.4 * torch.rand(1, 3, 9, 8, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(preprocess, (x.requires_grad_(),))


def test_one_channel_is_brightness_as_in_pil() -> None:
    image = picture(40, 40)
    preprocess = Preprocess(height=40, width=40, resize="none", channels=1, mean=(0,), std=(1,))
    theirs = torch.from_numpy(np.array(image.convert("L"))).float() / 255
    assert (preprocess(to_tensor(image)[None])[0, 0] - theirs).abs().max() * 255 < 1.01


def test_none_refuses_another_size_and_names_both(images: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"32×32.*64×48"):
        Preprocess(height=48, width=64, resize="none")(images)


@pytest.mark.parametrize(
    "wrong", [torch.zeros(3, 8, 8), torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)]
)
def test_what_is_no_batch_of_images_is_refused(wrong: torch.Tensor) -> None:
    with pytest.raises(InputError, match="expected"):
        Preprocess(height=8, width=8)(wrong)


def test_half_precision_images_are_resized_in_full_precision(images: torch.Tensor) -> None:
    assert Preprocess(height=16, width=16)(images.half()).dtype == torch.float32


def test_settings_survive_json() -> None:
    preprocess = Preprocess(height=20, width=30, resize="none", mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    assert Preprocess.from_dict(json.loads(json.dumps(preprocess.to_dict()))) == preprocess


@pytest.mark.parametrize(
    "settings",
    [
        {"mean": (0.5,)},
        {"std": (0, 1, 1)},
        {"std": (float("nan"), 1, 1)},
        {"channels": 2},
        {"resize": "stretch"},
        {"mean": "abc"},
        {"crop_pct": 0},
        {"height": 0},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ParamError, match="Preprocess"):
        Preprocess(**settings)  # type: ignore[arg-type]


def test_the_description_is_in_plain_words() -> None:
    text = Preprocess(height=224, width=224).describe()
    assert "256×256" in text and "224×224" in text and "0.485" in text
    assert "as it is" in Preprocess(resize="none").describe()


def test_reading_a_picture_gives_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Preprocess().from_pil(picture().convert("P")).shape == (3, 50, 75)
