"""Specs: presets and lists, their errors, and the order in which augmentations are applied."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

import workbench as wb
from workbench import augmentation
from workbench.errors import WorkbenchError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, 16, 16), generator=seeded(99), dtype=torch.uint8)


def former_mirroring(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """How batches were mirrored before there were other augmentations: runs go on bit for bit."""
    chosen = torch.rand(len(pictures), generator=generator) < 0.5
    return torch.where(chosen[:, None, None, None], pictures.flip(-1), pictures)


@pytest.mark.parametrize("spec", ["mirror", "flip", ["flip"], ["mirror"], [{"flip": None}]])
@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 128])
def test_mirroring_draws_as_it_always_did(spec: Any, count: int) -> None:
    batch = images(count)
    for seed in range(5):
        result = augmentation.create(spec)(batch, seeded(seed))
        assert torch.equal(result, former_mirroring(batch, seeded(seed)))


@pytest.mark.parametrize("spec", ["none", []])
def test_no_augmentation_returns_the_images(spec: Any) -> None:
    batch = images()
    generator = seeded()
    state = generator.get_state()
    assert augmentation.create(spec)(batch, generator) is batch
    assert torch.equal(generator.get_state(), state)


def test_the_names_are_those_of_the_registry() -> None:
    assert wb.augmentation.names() == [
        "affine",
        "blur",
        "colour",
        "crop",
        "erase",
        "flip",
        "jpeg",
        "low_resolution",
        "mixup",
        "noise",
        "random_convolution",
        "warp",
    ]
    assert wb.augmentation.presets() == [
        "none",
        "mirror",
        "mild",
        "adaface",
        "digiface",
        "strong",
    ]
    assert not {*augmentation.names()} & {*augmentation.presets()}


def test_a_preset_in_a_list_stands_for_its_entries() -> None:
    steps = augmentation.create(["adaface", {"erase": {"fill": "black"}}]).steps
    assert [step.name for step in steps] == ["flip", "crop", "low_resolution", "colour", "erase"]


def test_options_are_the_same_from_yaml_and_python() -> None:
    text = "[flip, {crop: }, {affine: {rotation: 20, scale: [0.8, 1.2]}}]"
    steps = augmentation.create(yaml.safe_load(text)).steps
    assert [step.name for step in steps] == ["flip", "crop", "affine"]
    affine = steps[2]
    assert isinstance(affine, augmentation.Affine)
    assert (affine.rotation, affine.scale, affine.shift) == (20.0, (0.8, 1.2), 0.0)


@pytest.mark.parametrize("preset", augmentation.presets())
def test_presets_are_plain_values_that_yaml_keeps(preset: str) -> None:
    entries = augmentation.PRESETS[preset]
    assert yaml.safe_load(yaml.safe_dump(entries)) == entries
    augmentation.create(entries)


def test_each_preset_cites_its_source_or_says_that_it_is_a_choice() -> None:
    lines = (
        Path(augmentation.__file__).with_name("presets.py").read_text(encoding="utf-8").splitlines()
    )
    first_lines = [
        number for number, line in enumerate(lines) if re.match(r'    "(\w+)": \[', line)
    ]
    assert len(first_lines) == len(augmentation.presets())
    assert all(lines[number - 1].startswith("    # ") for number in first_lines)


def test_digiface_has_the_published_probabilities() -> None:
    published = {
        "flip": 0.5,
        "affine": 1.0,
        "affine: aspect": 0.1,
        "warp": 1.0,
        "colour: brightness": 0.15,
        "colour: contrast": 0.3,
        "colour: hue": 0.1,
        "colour: saturation": 0.1,
        "colour: grey": 0.01,
        "blur: defocus": 0.05,
        "blur: motion": 0.05,
        "low_resolution": 0.01,
        "noise": 0.035,
        "jpeg": 0.05,
    }
    steps = augmentation.create("digiface").steps
    assert {step.label: step.probability for step in steps} == published


def test_adaface_has_the_published_values() -> None:
    flip, crop, low, colour = augmentation.create("adaface").steps
    assert flip.probability == 0.5
    assert {step.probability for step in (crop, low, colour)} == {0.2}
    assert vars(crop) == {"probability": 0.2, "area": (0.2, 1.0), "ratio": (0.75, 1.333)}
    assert isinstance(low, augmentation.LowResolution)
    assert low.side == (0.2, 1.0)
    assert isinstance(colour, augmentation.Colour)
    assert (colour.brightness, colour.contrast, colour.saturation, colour.hue) == (0.5, 0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "mirorr",
            "unknown augmentation or preset 'mirorr': did you mean 'mirror'? known: adaface",
        ),
        (["flip", "blurr"], "unknown augmentation or preset 'blurr': did you mean 'blur'?"),
        ([{"afine": {}}], "unknown augmentation 'afine': did you mean 'affine'?"),
        (
            [{"affine": {"rotate": 3}}],
            "unknown option of augmentation 'affine' 'rotate': did you mean 'rotation'?",
        ),
        ([{"affine": {"rotation": "10"}}], "option 'rotation' is '10', expected a finite number"),
        ([{"affine": {"rotation": -1}}], "affine: rotation must be a number from 0 to 180, got -1"),
        ([{"affine": {"scale": [1.2, 0.8]}}], "affine: scale must be [smallest, largest], got"),
        ([{"affine": {"scale": [0.9, 1, 1.1]}}], "affine: scale must be [smallest, largest], got"),
        ([{"affine": {"scale": 1.1}}], "option 'scale' is 1.1, expected"),
        ([{"affine": {"scale": [0, 1]}}], "affine: scale must be a number from 0.1 to 10, got 0"),
        ([{"affine": {"aspect": [1, 11]}}], "affine: aspect must be a number from 0.1 to 10"),
        ([{"affine": {"shift": float("nan")}}], "affine"),
        ([{"warp": {"distance": 0.25}}], "warp: distance must be a number from 0 to 0.24, got"),
        ([{"colour": {"brightness": 1.5}}], "colour: brightness must be a number from 0 to 1"),
        ([{"colour": {"hue": 0.6}}], "colour: hue must be a number from 0 to 0.5"),
        ([{"blur": {"kind": "motoin"}}], "unknown kind of augmentation 'blur' 'motoin': did you"),
        ([{"blur": {"size": [0.1, 0.6]}}], "blur: size must be a number from 0 to 0.5, got 0.6"),
        ([{"erase": {"fill": "gray"}}], "unknown fill of augmentation 'erase' 'gray'"),
        ([{"erase": {"area": [0, 0.1]}}], "erase: area must be a number from 0.001 to 1, got 0"),
        ([{"crop": {"ratio": [0, 1]}}], "crop: ratio must be a number of at least 0.001, got 0"),
        ([{"crop": {"resize": 1}}], "option 'resize' is 1, expected true or false"),
        ([{"jpeg": {"quality": [0, 50]}}], "jpeg: quality must be a number from 1 to 100, got 0"),
        ([{"noise": {"std": [0, 2]}}], "noise: std must be a number from 0 to 1, got 2"),
        ([{"low_resolution": {"side": [0.5, 2]}}], "low_resolution: side must be a number from"),
        ([{"mixup": {"alpha": 0}}], "mixup: alpha must be a number from 0.001 to 1000, got 0"),
        ([{"flip": {"probability": 1.1}}], "flip: probability must be a number from 0 to 1, got"),
        ([{"flip": {"probability": True}}], "expected a finite number"),
        (
            [{"flip": {}, "blur": {}}],
            "an entry of the list of augmentations is {'flip': {}, 'blur': {}}, expected",
        ),
        ([["flip"]], "an entry of the list of augmentations is ['flip'], expected one name"),
        ([{"flip": 0.3}], "the options of augmentation 'flip' are 0.3, expected {option: value}"),
        ([{"strong": {"probability": 0.5}}], "the augmentation preset 'strong' takes no options"),
        ([3], "an entry of the list of augmentations is 3, expected one name"),
        ({"flip": {}}, "the augmentation is {'flip': {}}, expected the name of a preset or a list"),
        (None, "the augmentation is None, expected the name of a preset or a list"),
        (True, "the augmentation is True, expected the name of a preset or a list"),
        (["mixup", "flip"], "'mixup' can be given once, as the last one of the list"),
        (["mixup", "mixup"], "'mixup' can be given once, as the last one of the list"),
    ],
)
def test_errors_are_one_line_and_say_what_is_right(spec: Any, message: str) -> None:
    with pytest.raises(WorkbenchError) as raised:
        augmentation.create(spec)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_order_of_the_list_is_the_order_of_application() -> None:
    batch = images(4)
    black_then_noisy = [
        {"erase": {"probability": 1.0, "area": [1, 1], "ratio": [1, 1], "fill": "black"}},
        {"noise": {"probability": 1.0, "std": [0.1, 0.1]}},
    ]
    assert augmentation.create(black_then_noisy)(batch, seeded()).any()
    assert not augmentation.create(black_then_noisy[::-1])(batch, seeded()).any()


def test_a_changed_option_does_not_change_what_others_draw() -> None:
    batch = images(6)
    rotated = [
        augmentation.create(
            [{"noise": {"probability": probability, "std": [0, 0]}}, {"affine": {"rotation": 30}}]
        )(batch, seeded())
        for probability in (0.1, 0.9)
    ]
    assert torch.equal(*rotated)


def test_augmentations_alone_are_applied_to_all_images_and_labelled() -> None:
    both = [{"noise": {"probability": 0.1}}, {"noise": {"probability": 0.2, "std": [0.1, 0.2]}}]
    augment = augmentation.create(both)
    alone = augment.alone()
    assert list(alone) == ["noise", "noise (2)"]
    for one in alone.values():
        assert (one(images(), seeded()) != images()).flatten(1).any(1).all()
    assert [step.probability for step in augment.steps] == [0.1, 0.2]


def test_own_augmentations_can_be_registered() -> None:
    @augmentation.register("negative")
    class Negative(augmentation.PixelStep):
        """Inverts an image."""

        name = "negative"

        def __init__(self, probability: float = 1.0) -> None:
            super().__init__(probability)

        def apply(self, chosen: Tensor, uniform: Tensor) -> Tensor:
            return 255 - chosen

    try:
        result = augmentation.create([{"negative": {"probability": 1.0}}])(images(), seeded())
        assert torch.equal(result, 255 - images())
    finally:
        del augmentation.AUGMENTATIONS._factories["negative"]


def test_the_guide_lists_every_option_with_its_default_and_every_preset() -> None:
    guide = Path(__file__).parents[2] / "docs/guide/augmentation.md"
    rows = {
        line.split("`")[1]: line
        for line in guide.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    }
    assert {*augmentation.presets()} <= set(rows)
    for name in augmentation.names():
        for option in inspect.signature(augmentation.AUGMENTATIONS.get(name)).parameters.values():
            default = option.default
            if isinstance(default, tuple):
                default = tuple(round(value, 3) for value in default)
            assert f"`{option.name}={default!r}`" in rows[name]
