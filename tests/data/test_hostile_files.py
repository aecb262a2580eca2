"""10,000 mutated files of all formats: each is read correctly, or is one line of error.

What a mutated file still yields is checked: images are (H, W, 3) uint8. Where the mutated file
holds no images, or holds their checksums, every image equals one of the originals pixel by pixel.
A mutated JPEG has the pixels that Pillow decodes. Identities and pairs are within range.
`make test` reads a fifth of the files, `make test-all` reads all of them.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import random
import re
import struct
import tarfile
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Complaint, in_proportion
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tfrecord import TFRecordWriter

from workbench import data, images
from workbench.data.io import indexes
from workbench.data.io.shards import look_through
from workbench.data.sources import pack
from workbench.data.sources.pack import ABOUT, INDEX, PICTURES
from workbench.data.writers.pack import write_pack
from workbench.errors import WorkbenchError

NAMES = ("ann/ann_0001.jpg", "ann/ann_0002.jpg", "bob/bob_0001.jpg", "bob/bob_0002.jpg")
MOST_MEMORY = 400e6
"""Bytes that reading may take at once; the largest of the files has 20 kB."""
MOST_SECONDS = 5.0


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8))


JPEGS = [encoded(picture(seed)) for seed in range(len(NAMES))]
ORIGINALS = {images.decode(jpeg).tobytes() for jpeg in JPEGS}


# Mutations

EXTREMES = (0, 1, -1, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**62, 2**63 - 1, -(2**63))
WORDS = (
    *(
        b"../../x",
        b"../a.jpg",
        b"/etc/passwd",
        b"C:\\x",
        b"C:\\x.jpg",
        b"a\0b.jpg",
        b"\0",
        b"~",
        b"a\nb",
        b"\x1b[2J.jpg",
    ),
    *(
        b"x" * 300,
        b"y/" * 3000 + b"z.jpg",
        b"\xff\xfe",
        b"\\ud800",
        b"\xed\xa0\x80",
        "\u2028é\u202e".encode(),
        b"",
        b'"',
        b"{}",
        b"[]",
    ),
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"1e309",
        b"-1",
        b"0",
        b"1.5",
        b"9" * 30,
        b"9" * 5000,
        str(2**63).encode(),
        str(2**63 - 1).encode(),
    ),
)
WORD = re.compile(rb"[^\s,:\"\[\]{}\0]+")


def mutated(whole: bytes, rng: random.Random, text: bool) -> bytes:
    """A few changes of bytes, runs of them, numbers and words."""
    changed = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 2, 4, 8, 30, rng.randrange(1, 600)))
        match rng.choice((*range(8), *[8] * (12 if text else 2))):
            case 0:
                changed[at : at + 1] = bytes(
                    [rng.choice((0x00, 0x7F, 0x80, 0xFF, rng.randrange(256)))]
                )
            case 1 if at < len(changed):
                changed[at] ^= 1 << rng.randrange(8)
            case 2:
                changed[at:at] = rng.randbytes(length)
            case 3:
                del changed[at : at + length]
            case 4:
                del changed[at:]
            case 5:  # twice
                changed[at:at] = changed[at : at + length]
            case 6:  # swapped
                changed[at : at + 2 * length] = (
                    changed[at + length : at + 2 * length] + changed[at : at + length]
                )
            case 7:
                number, size = rng.choice(EXTREMES), rng.choice((2, 4, 8))
                order: Any = rng.choice(("little", "big"))
                changed[at : at + size] = (number % 2 ** (8 * size)).to_bytes(size, order)
            case 8:
                words = list(WORD.finditer(changed))
                if words:
                    word = rng.choice(words)
                    changed[word.start() : word.end()] = rng.choice(WORDS)
    return bytes(changed)


def of_records(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A TFRecord file whose first record is changed, under the right checksums."""
    (length,) = struct.unpack_from("<Q", whole)
    return sealed_record(change(whole[12 : 12 + length])) + whole[16 + length :]


def sealed_record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    sealed: bytes = (
        length + TFRecordWriter.masked_crc(length) + payload + TFRecordWriter.masked_crc(payload)
    )
    return sealed


def of_headers(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A tar whose first header is changed, under the right checksum."""
    header = bytearray(change(whole[:512])[:512].ljust(512, b"\0"))
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + whole[512:]


def of_arrays(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """An .npz of which an array is changed, under the right checksum."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    chosen = sorted(members)[zlib.crc32(change(whole)) % len(members)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name == chosen else content)
    return buffer.getvalue()


def of_chunks(whole: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """A PNG whose header is changed, under the right checksum."""
    header = b"IHDR" + change(whole[16:29])[:13].ljust(13, b"\0")
    return whole[:12] + header + struct.pack(">I", zlib.crc32(header)) + whole[33:]


# The formats


@dataclass(frozen=True)
class Format:
    """Files in a folder, of which one is mutated at a time.

    Attributes:
        files: name and content of those that are.
        spec: what opens them, with {} for the folder.
        beside: files that stay as they are.
        exact: nothing but the originals may be read.
        text: words are what is mutated most.
        sealed: mutates within the checksums; every second time.
        examples: how many mutated files.
    """

    files: Mapping[str, bytes]
    spec: str
    beside: Mapping[str, bytes]
    exact: bool = False
    text: bool = False
    sealed: Callable[[bytes, Callable[[bytes], bytes]], bytes] | None = None
    examples: int = 400


PEOPLE = {f"people/{name}": jpeg for name, jpeg in zip(NAMES, JPEGS, strict=True)}


def verification_packs() -> Iterator[tuple[str, Format]]:
    arrays = [np.frombuffer(jpeg, np.uint8) for jpeg in JPEGS]
    for name, content in (
        ("bin", pickle.dumps((JPEGS, [True, False]), protocol=4)),
        ("bin of arrays", pickle.dumps((arrays, [np.bool_(True), np.bool_(False)]), protocol=2)),
    ):
        yield name, Format({"a.bin": content}, "bin:{}/a.bin", {})


def record_files() -> Iterator[tuple[str, Format]]:
    def record(key: int, labels: tuple[float, ...], content: bytes = b"") -> bytes:
        payload = struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels) + content
        return struct.pack("<II", 0xCED7230A, len(payload)) + payload + bytes(-len(payload) % 4)

    shown = [record(key, (float(key > 2),), jpeg) for key, jpeg in enumerate(JPEGS, 1)]
    records = [record(0, (5, 7)), *shown, record(5, (1, 3)), record(6, (3, 5))]
    offsets = np.cumsum([0, *map(len, records)])
    rec = b"".join(records)
    idx = "".join(f"{key}\t{offset}\n" for key, offset in enumerate(offsets[:-1])).encode()
    plain = "".join(
        f"{key}\t{offset - offsets[1]}\n" for key, offset in enumerate(offsets[1:5])
    ).encode()
    yield "recordio", Format({"a.rec": rec}, "recordio:{}/a.rec", {"a.idx": idx}, examples=500)
    yield (
        "recordio without ranges",
        Format({"a.rec": b"".join(shown)}, "recordio:{}/a.rec", {"a.idx": plain}),
    )
    yield (
        "recordio's index",
        Format(
            {"a.idx": idx}, "recordio:{}/a.rec", {"a.rec": rec}, exact=True, text=True, examples=500
        ),
    )


def other_files(folder: Path) -> Iterator[tuple[str, Format]]:
    writer = TFRecordWriter(str(folder / "a.tfrecord"))
    for number, jpeg in enumerate(JPEGS):
        row = {
            "image/encoded": (jpeg, "byte"),
            "image/source_id": (number // 2, "int"),
            "image/filename": (b"1.jpg", "byte"),
        }
        writer.write(
            row
            if number
            else {
                "image/img_path": (b"people/" + NAMES[0].encode(), "byte"),
                "image/source_id": (0, "int"),
            }
        )
    writer.close()
    tfrecord = (folder / "a.tfrecord").read_bytes()
    yield (
        "tfrecord",
        Format({"a.tfrecord": tfrecord}, "tfrecord:{}/a.tfrecord", PEOPLE, sealed=of_records),
    )

    ends = np.cumsum([0, *map(len, JPEGS)])
    lines = "".join(
        f"{name}\t{i // 2}\t{ends[i]}\t{ends[i + 1]}\n" for i, name in enumerate(NAMES)
    ).encode()
    held = {"a.bin": b"".join(JPEGS)}
    yield "packed", Format(held, "packed:{}/a", {"a.idx": lines})
    yield "packed's index", Format({"a.idx": lines}, "packed:{}/a", held, text=True)

    for name, content in PEOPLE.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    people = data.open(f"folder:{folder / 'people'}")
    columns: dict[str, Any] = {
        **people.attributes,
        "age": [1.5, None, 3, 4],
        "landmarks": np.zeros((4, 5, 2), dtype=np.float32),
    }
    write_pack(
        data.Dataset("people", people.images, people.identities, people.identity_names, columns),
        folder / "pack",
        progress=False,
    )
    parts = {name: (folder / "pack" / name).read_bytes() for name in (PICTURES, INDEX, ABOUT)}
    for name, content in parts.items():
        beside = {other: parts[other] for other in parts if other != name}
        yield (
            f"pack's {name}",
            Format(
                {name: content}, "pack:{}", beside, exact=True, text=name == ABOUT, examples=250
            ),
        )
    yield (
        "pack's index, sealed",
        Format({INDEX: parts[INDEX]}, "pack:{}", parts, sealed=of_arrays, examples=400),
    )

    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for number, jpeg in enumerate(JPEGS):
            label = (
                ("json", b'{"identity": "ann"}') if number == 1 else ("cls", b"%d" % (number // 2))
            )
            for suffix, content in (("jpg", jpeg), label):
                member = tarfile.TarInfo(f"{number}{'é' * (number == 2)}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    shard = {"a.tar": tar.getvalue().rstrip(b"\0") + bytes(2048)}
    (folder / "a.tar").write_bytes(shard["a.tar"])
    indexes.save(folder / "a.npz", look_through(["a.tar"], lambda _: folder / "a.tar").arrays)
    yield "webdataset", Format(shard, "webdataset:{}/a.tar", {}, sealed=of_headers, examples=600)
    index = {"a.npz": (folder / "a.npz").read_bytes()}
    yield (
        "webdataset's index",
        Format(index, "webdataset:{}/a.tar,index={}/a.npz", shard, sealed=of_arrays),
    )


def zips_and_lists() -> Iterator[tuple[str, Format]]:
    def zipped(names: tuple[str, ...]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, jpeg in zip(names, JPEGS, strict=True):
                archive.writestr(zipfile.ZipInfo(name), jpeg, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    ann, ann2, bob, bob2 = NAMES
    pairs = f"{ann} {ann2} 1\n{bob}\t{bob2}\t1\n{ann},{bob},0\n{ann2} {bob2} 0\n".encode()
    lfw = b"1 2\nann 1 2\nbob 1 2\nann 1 bob 1\nann 2 bob 2\n"
    files = {"faces.zip": zipped(NAMES)}
    yield (
        "zip",
        Format(
            files, "pairs:{}/pairs.txt@{}/faces.zip", {"pairs.txt": pairs}, exact=True, examples=500
        ),
    )
    utk = {
        "utk.zip": zipped(
            ("20_0_1_2017.jpg", "a/30_1_0_2017.jpg", "40_1_4_2017.jpg.chip.jpg", "116_0_2_2017.jpg")
        )
    }
    yield "utkface", Format(utk, "utkface:{}/utk.zip", {}, exact=True)
    yield (
        "pairs",
        Format({"pairs.txt": pairs}, "pairs:{}/pairs.txt@{}/people", PEOPLE, exact=True, text=True),
    )
    yield (
        "pairs in a zip",
        Format(
            {"pairs.txt": pairs}, "pairs:{}/pairs.txt@{}/faces.zip", files, exact=True, text=True
        ),
    )
    yield (
        "pairs of lfw",
        Format({"pairs.txt": lfw}, "pairs:{}/pairs.txt@{}/people", PEOPLE, exact=True, text=True),
    )
    listed = f'path,age,identity\n{ann},3,ann\n"{ann2}",4,ann\n{bob},5,bob\n{bob2},6,bob\n'.encode()
    yield (
        "list",
        Format(
            {"list.csv": listed}, "folder:{}/people,list={}/list.csv", PEOPLE, exact=True, text=True
        ),
    )
    names = b"# strangers\nann\ncid, the third\n"
    yield (
        "exclude",
        Format(
            {"names.txt": names},
            "folder:{}/people@exclude={}/names.txt",
            PEOPLE,
            exact=True,
            text=True,
            examples=200,
        ),
    )
    probes = json.dumps({"path": NAMES, "id": ["ann", "ann", "bob", 7]}).encode()
    others = {**PEOPLE, "others/cid.jpg": JPEGS[0]}
    megaface = "megaface:{}/probes.json:{}/people@{}/others"
    yield "megaface", Format({"probes.json": probes}, megaface, others, exact=True, text=True)


def layouts() -> Iterator[tuple[str, Format]]:
    photos = [
        f"Data/Images/{person}/{view}/1.jpg" for view in ("frontal", "profile") for person in "12"
    ]
    lists = {
        f"Protocol/Pair_list_{kind}.txt": "".join(
            f"{i} ../{photo}\n" for i, photo in enumerate(part, 1)
        ).encode()
        for kind, part in (("F", photos[:2]), ("P", photos[2:]))
    }
    for fold in "12":
        lists[f"Protocol/Split/FP/{fold}/same.txt"] = f"{fold},{fold}\n".encode()
        lists[f"Protocol/Split/FP/{fold}/diff.txt"] = f"{fold},{3 - int(fold)}\n".encode()
    held = dict(zip(photos, JPEGS, strict=True))
    yield "cfp", Format(lists, "cfp:{}", held, exact=True, text=True)

    crops = [f"{number}.jpg" for number in range(4)]
    points = "1.5 2 6 2 4 4 2 6 6 6.5"
    meta = {
        "meta/ijbb_face_tid_mid.txt": "".join(
            f"{crop} {i // 2} {i}\n" for i, crop in enumerate(crops)
        ),
        "meta/ijbb_name_5pts_score.txt": "".join(
            f"{crop} {points} 0.{i}\n" for i, crop in enumerate(crops)
        ),
        "meta/ijbb_template_pair_label.txt": "0 1 1\n1 0 1\n",
    }
    files = {name: text.encode() for name, text in meta.items()}
    yield (
        "ijb",
        Format(
            files,
            "ijb:{}",
            {f"loose_crop/{crop}": jpeg for crop, jpeg in zip(crops, JPEGS, strict=True)},
            exact=True,
            text=True,
            examples=150,
        ),
    )


@pytest.fixture(scope="module")
def formats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    made = other_files(tmp_path_factory.mktemp("made"))
    return dict([*verification_packs(), *record_files(), *made, *zips_and_lists(), *layouts()])


FORMATS = (
    *(
        "bin",
        "bin of arrays",
        "recordio",
        "recordio without ranges",
        "recordio's index",
        "tfrecord",
        "packed",
        "packed's index",
    ),
    *(
        "pack's images.bin",
        "pack's index.npz",
        "pack's about.json",
        "pack's index, sealed",
        "webdataset",
        "webdataset's index",
    ),
    *(
        "zip",
        "utkface",
        "pairs",
        "pairs in a zip",
        "pairs of lfw",
        "list",
        "exclude",
        "megaface",
        "cfp",
        "ijb",
    ),
)


# The checks


def held_memory(what: str) -> float:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1e3


@contextmanager
def little_memory(most: float = MOST_MEMORY) -> Iterator[None]:
    """Fails where the process comes to hold so many bytes more than at the begin, be it for a
    moment. Linux keeps the peak.
    """
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")
    before = held_memory("VmRSS")
    yield
    assert held_memory("VmHWM") - before < most


@contextmanager
def at_worst_one_line() -> Iterator[None]:
    """Lets a WorkbenchError of one short line pass, and nothing else."""
    try:
        yield
    except WorkbenchError as error:
        message = str(error)
        assert message.isprintable()  # nor a line feed
        assert 0 < len(message) <= 600


@contextmanager
def files_closed() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", ResourceWarning)
        yield
    assert not [warning.message for warning in caught]


def fuzz(check: Callable[[int], None], examples: int) -> None:
    """Calls `check` with seeds that are the same each time; fails if one call takes long."""

    @settings(
        max_examples=in_proportion(examples),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**48))
    def run(seed: int) -> None:
        begun = time.process_time()
        check(seed)
        assert time.process_time() - begun < MOST_SECONDS

    with little_memory(), files_closed():
        run()


def opened(spec: str) -> Any:
    benchmarks = ("bin:", "pairs:", "cfp:", "ijb:", "megaface:")
    return data.benchmark(spec) if spec.startswith(benchmarks) else data.open(spec)


def check_all(made: Any, exact: bool) -> None:
    """Whatever can be read of a set or a benchmark is sound."""
    assert len(made.fingerprint()) == 16
    count = len(made.images)
    assert 1 <= count <= 16
    if isinstance(made, data.Benchmark):
        assert len(made.pairs) == len(made.same) >= 1
        assert made.pairs.min() >= 0
        assert made.pairs.max() < count
    if made.identities is not None:
        assert made.identities.shape == (count,)
        assert made.identities.min() >= -isinstance(made, data.Identification)
        assert made.identities.max() < max(len(made.identity_names), 1)
        assert all(isinstance(name, str) for name in made.identity_names)
    if isinstance(made, data.Dataset):
        assert {len(column) for column in made.attributes.values()} <= {count}
        assert all(
            len([column[i] for i in range(count)]) == count for column in made.attributes.values()
        )
    for i in range(count):
        with at_worst_one_line():
            image = made.images[i]
            assert image.dtype == np.uint8
            assert image.ndim == image.shape[2] == 3
            assert image.size > 0
            assert not exact or image.tobytes() in ORIGINALS
        if isinstance(made, data.Templates):
            assert made.faces[i].dtype == np.uint8


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(indexes, "KEPT_SECONDS", float("inf"))
        yield


@pytest.mark.timeout(200)
@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", FORMATS)
def test_a_mutated_file_is_read_right_or_one_line_of_error(
    name: str, formats: dict[str, Format], tmp_path: Path
) -> None:
    assert set(formats) == set(FORMATS)
    made = formats[name]
    for file, content in {**made.beside, **made.files}.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(content)
    spec = made.spec.replace("{}", str(tmp_path))
    check_all(opened(spec), True)

    def check(seed: int) -> None:
        rng = random.Random(seed)
        file = rng.choice(list(made.files))
        whole = made.files[file]
        change = partial(mutated, rng=rng, text=made.text)
        changed = made.sealed(whole, change) if made.sealed and seed % 2 else change(whole)
        try:
            (tmp_path / file).write_bytes(changed)
            if name == "pack's index, sealed":
                about = json.loads(made.beside[ABOUT])
                about["index_sha256"] = hashlib.sha256(changed).hexdigest()
                (tmp_path / ABOUT).write_text(json.dumps(about))
            with at_worst_one_line():
                check_all(opened(spec), made.exact)
        finally:
            (tmp_path / file).write_bytes(whole)

    fuzz(check, made.examples)


def with_turn() -> dict[str, Any]:
    exif: Any = Image.Exif()
    exif[0x0112] = 6
    return {"exif": exif}


LARGER = Image.fromarray(
    np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
).resize((40, 48))
PICTURE_FILES: dict[str, tuple[bytes, ...]] = {
    "JPEG": (
        encoded(LARGER),
        encoded(LARGER, progressive=True, quality=95, subsampling=0),
        encoded(LARGER.convert("L"), optimize=True, restart_marker_blocks=2),
        encoded(LARGER, **with_turn()),
        encoded(LARGER.convert("CMYK")),
    ),
    "PNG": (
        encoded(LARGER, "PNG"),
        encoded(LARGER.convert("P"), "PNG", transparency=3),
        encoded(LARGER.convert("RGBA"), "PNG", **with_turn()),
    ),
    "WEBP": (
        encoded(LARGER, "WEBP"),
        encoded(LARGER.convert("RGBA"), "WEBP", lossless=True, **with_turn()),
    ),
    "GIF": (
        encoded(LARGER, "GIF"),
        encoded(LARGER, "GIF", save_all=True, append_images=[picture(1), picture(2)], loop=3),
    ),
    "BMP": (
        encoded(LARGER, "BMP"),
        encoded(LARGER.convert("P"), "BMP"),
        encoded(LARGER.convert("1"), "BMP"),
    ),
    "TIFF": (
        encoded(LARGER, "TIFF"),
        encoded(LARGER, "TIFF", compression="tiff_lzw", **with_turn()),
        encoded(LARGER.convert("I;16"), "TIFF"),
        encoded(LARGER, "TIFF", compression="jpeg"),
    ),
    "PPM": (encoded(LARGER, "PPM"), b"P3 2 1 255 1 2 3 4 5 6\n"),
}

PICTURE_EXAMPLES = {"JPEG": 1200}


def by_pillow(content: bytes) -> Any:
    """The pixels, without the fast path; None where Pillow has an error."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images, "_plain_jpeg", lambda *_: None)
        try:
            return images.decode(content)
        except WorkbenchError:
            return None


@pytest.mark.timeout(100)
@pytest.mark.parametrize("kind", PICTURE_FILES)
def test_a_mutated_picture_is_decoded_as_by_pillow_or_one_line_of_error(kind: str) -> None:
    def check(seed: int) -> None:
        rng = random.Random(seed)
        whole = rng.choice(PICTURE_FILES[kind])
        change = partial(mutated, rng=rng, text=False)
        changed = of_chunks(whole, change) if kind == "PNG" and seed % 2 else change(whole)
        with at_worst_one_line():
            decoded = images.decode(changed, "odd.jpg", max_pixels=1_000_000)
            assert decoded.dtype == np.uint8
            assert decoded.ndim == decoded.shape[2] == 3
            assert 0 < decoded.size <= 3_000_000
            if kind == "JPEG":
                assert np.array_equal(decoded, by_pillow(changed))

    fuzz(check, PICTURE_EXAMPLES.get(kind, 300))


def test_these_are_ten_thousand_files(formats: dict[str, Format]) -> None:
    assert (
        sum(made.examples for made in formats.values())
        + sum(PICTURE_EXAMPLES.get(kind, 300) for kind in PICTURE_FILES)
        > 10_000
    )


# Bombs and traps, one by one


def header_only(kind: str, side: int) -> bytes:
    """A picture of 2 x 2 whose header claims `side` x `side`."""
    whole = bytearray(encoded(Image.new("RGB", (2, 2)), kind))
    match kind:
        case "GIF":
            whole[6:10] = struct.pack("<HH", side, side)
        case "BMP":
            whole[18:26] = struct.pack("<ii", side, side)
        case "TIFF":
            for tag in (256, 257):
                at = re.search(
                    struct.pack("<HHI", tag, 4, 1) + b"|" + struct.pack("<HHI", tag, 3, 1), whole
                )
                assert at
                whole[at.start() : at.start() + 12] = struct.pack("<HHII", tag, 4, 1, side)
        case "JPEG":
            at = re.search(rb"\xff\xc0\x00\x11\x08", whole)
            assert at
            whole[at.end() : at.end() + 4] = struct.pack(">HH", side, side)
        case "PPM":
            whole[:] = whole.replace(b"2 2", b"%d %d" % (side, side))
        case "JPEG2000":
            at = re.search(rb"ihdr", whole)
            assert at
            whole[at.end() : at.end() + 8] = struct.pack(">II", side, side)
        case "AVIF":
            at = re.search(rb"ispe", whole)
            assert at
            whole[at.end() + 4 : at.end() + 12] = struct.pack(">II", side, side)
        case (
            "WEBP"
        ):  # an extended one, which keeps the size of its canvas in two times 24 bits, less one
            canvas = b"VP8X" + struct.pack("<II", 10, 0) + (side - 1).to_bytes(3, "little") * 2
            whole[8:] = b"WEBP" + canvas + whole[12:]
            whole[4:8] = struct.pack("<I", len(whole) - 8)
    return bytes(whole)


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "JPEG", "PPM", "WEBP", "JPEG2000", "AVIF"])
def test_a_picture_that_claims_to_be_huge_is_refused_unread(
    kind: str, complaint: Complaint
) -> None:
    with little_memory(100e6), complaint("bomb.img"):
        images.decode(header_only(kind, 60_000), "bomb.img")


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        pytest.param("RGBA", "WEBP", marks=pytest.mark.slow),
        ("I;16", "PNG"),
        pytest.param("I;16", "TIFF", marks=pytest.mark.slow),
    ],
)
def test_the_largest_pictures_take_less_than_a_gigabyte(mode: str, kind: str) -> None:
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"method": 0},
        "PNG": {"compress_level": 1},
        "TIFF": {"compression": "tiff_lzw"},
    }
    bomb = encoded(Image.new(mode, (16_000, 3_100)), kind, **options[kind])
    assert len(bomb) < 2e6
    with little_memory(900e6):
        assert images.decode(bomb).shape == (3_100, 16_000, 3)


def test_a_jpeg_of_a_thousand_scans_is_refused_unread(complaint: Complaint) -> None:
    whole = encoded(Image.new("L", (4_000, 4_000)), progressive=True)
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    begun = time.process_time()
    with complaint("bomb.jpg", "scans"):
        images.decode(whole[:-2] + 1_000 * scan + whole[-2:], "bomb.jpg")
    assert time.process_time() - begun < 1
    assert images.decode(whole).shape == (4_000, 4_000, 3)


def npz(**arrays: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in arrays.items():
            archive.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def npy(shape: tuple[int, ...], content: bytes, kind: str = "<i8") -> bytes:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"shape": shape, "fortran_order": False, "descr": kind}
    )
    return header.getvalue() + content


def plain(values: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=True)
    return buffer.getvalue()


ONE = JPEGS[0]
SOUND = {
    "offsets": plain(np.array([0, len(ONE)])),
    "checksums": plain(np.array([zlib.crc32(ONE)], dtype=np.uint32)),
    "identities": plain(np.array([0], dtype=np.int32)),
    "identity_names": plain(np.frombuffer(b'["ann"]', dtype=np.uint8)),
}
INDEXES: dict[str, Callable[[], dict[str, bytes]]] = {
    "a claim of 10^12 numbers": lambda: {"offsets": npy((10**12,), bytes(100))},
    "a claim of 10^9 numbers": lambda: {"identities": npy((10**9,), bytes(100))},
    "a claim of more than 64 bits": lambda: {"identities": npy((2**40, 2**40), bytes(100))},
    "numbers of no bytes": lambda: {"identities": npy((10**12,), b"", "|V0")},
    "a bomb": lambda: {"identities": npy((4 * 10**7,), bytes(32 * 10**7))},
    "objects": lambda: {"identities": plain(np.array([{}], dtype=object))},
    "an image that ends behind the file": lambda: {
        "offsets": plain(np.array([0, 10**15, len(ONE)])),
        "checksums": plain(np.zeros(2, dtype=np.uint32)),
        "identities": plain(np.array([0, 0])),
    },
    "an image that begins before the file": lambda: {
        "offsets": plain(np.array([-(2**62), len(ONE)]))
    },
    "fractions": lambda: {"offsets": plain(np.array([0.0, len(ONE)]))},
    "identities of NaN": lambda: {"identities": plain(np.array([np.nan]))},
    "names that are none": lambda: {
        "identity_names": plain(np.frombuffer(b"[[]]", dtype=np.uint8))
    },
    "a name that is no text": lambda: {
        "identity_names": plain(np.frombuffer(rb'["\ud800"]', dtype=np.uint8))
    },
}


def write_index(folder: Path, arrays: Mapping[str, bytes]) -> None:
    index = npz(**arrays)
    about = {
        "format": pack.FORMAT,
        "version": pack.VERSION,
        "bytes": len(ONE),
        "index_sha256": hashlib.sha256(index).hexdigest(),
    }
    for name, content in ((PICTURES, ONE), (INDEX, index), (ABOUT, json.dumps(about).encode())):
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("changed", INDEXES.values(), ids=INDEXES)
def test_a_packs_index_with_the_right_checksum_is_not_trusted(
    changed: Callable[[], dict[str, bytes]], tmp_path: Path, complaint: Complaint
) -> None:
    write_index(tmp_path, SOUND)
    assert data.open(f"pack:{tmp_path}").images[0].tobytes() in ORIGINALS
    write_index(tmp_path, {**SOUND, **changed()})
    with little_memory(100e6), complaint("damaged", "write the pack again"):
        data.open(f"pack:{tmp_path}")


NUMPY = b"\x80\x02cnumpy\n_frombuffer\nq\x00cnumpy\ndtype\nU\x02u1\x85Rq\x01"
"""What makes an array of bytes, and its type; both are remembered."""
PICKLES: dict[str, tuple[str, bytes]] = {
    # An array's shape is multiplied up: ([None], 10^9) would become a list of a billion.
    "a shape of a list": (
        "whole numbers",
        b"\x80\x02](cnumpy.core.multiarray\n_reconstruct\n)R(K\x01]Na\x8a\x04\x00\xca\x9a\x3b\x86"
        + b"cnumpy\ndtype\nU\x02u1\x85R\x89U\x01xtbe]\x88a\x86.",
    ),
    "arrays in arrays": (
        "image 0",
        NUMPY
        + b"]"
        + b"h\x00" * 5_000
        + b"U\x01x"
        + b"h\x01\x86R" * 5_000
        + b"aU\x01xa]\x88a\x86.",
    ),
    "millions of lists": ("opcodes", b"\x80\x02(" + b"]" * 2_100_000 + b"l]\x88a\x86."),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("told", "content"), PICKLES.values(), ids=PICKLES)
def test_pickles_that_make_much_of_little_are_refused(
    told: str, content: bytes, tmp_path: Path, complaint: Complaint
) -> None:
    (tmp_path / "odd.bin").write_bytes(content)
    with little_memory(), complaint("odd.bin", told):
        data.benchmark(f"bin:{tmp_path / 'odd.bin'}")


@pytest.mark.timeout(60)
def test_a_record_of_endless_parts_is_refused(tmp_path: Path, complaint: Complaint) -> None:
    (tmp_path / "a.rec").write_bytes(struct.pack("<II", 0xCED7230A, 1 << 29) * 200_000)
    (tmp_path / "a.idx").write_text("".join(f"{key}\t{8 * key}\n" for key in range(100_000)))
    with complaint("a.rec, record 0", "parts"):
        data.open(f"recordio:{tmp_path / 'a.rec'}")


@pytest.mark.parametrize("offset", [10**18, 2**63 - 1, 2**63, 10**30])
def test_an_idx_that_leads_far_behind_the_end_is_refused(
    offset: int, tmp_path: Path, complaint: Complaint
) -> None:
    (tmp_path / "a.rec").write_bytes(bytes(100))
    (tmp_path / "a.idx").write_text(f"0\t0\n1\t{offset}\n")
    with little_memory(100e6), complaint("a.idx"):
        data.open(f"recordio:{tmp_path / 'a.rec'}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_SPARSE])
@pytest.mark.parametrize("size", [-512, -1024, -(2**62)])
def test_a_member_of_negative_size_does_not_come_again_for_ever(
    size: int, kind: bytes, tmp_path: Path, complaint: Complaint
) -> None:
    header = tarfile.TarInfo("1.txt").tobuf(tarfile.GNU_FORMAT)
    negative = (
        header[:124] + (2**96 + size).to_bytes(12, "big") + header[136:156] + kind + header[157:]
    )
    label = tarfile.TarInfo("1.cls")
    (tmp_path / "a.tar").write_bytes(
        label.tobuf(tarfile.GNU_FORMAT) + of_headers(negative, bytes) + bytes(2048)
    )
    with complaint("a.tar"):
        data.open(f"webdataset:{tmp_path / 'a.tar'}")


def test_zips_in_zips_and_members_over_each_other(tmp_path: Path, complaint: Complaint) -> None:
    names = [f"20_{number % 2}_0_{number}.jpg" for number in range(2_000)]
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(names[0], bytes(10_000_000))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(names[0], inner.getvalue())
        archive.writestr(names[1], bytes(40_000_000))
        where = {info.filename: info for info in archive.infolist()}[names[1]]
        for name in names[2:]:  # all are the same bytes
            again = zipfile.ZipInfo(name)
            again.CRC, again.compress_size, again.file_size = (
                where.CRC,
                where.compress_size,
                where.file_size,
            )
            again.compress_type, again.header_offset = where.compress_type, where.header_offset
            archive.filelist.append(again)
            archive.NameToInfo[name] = again
    dataset = data.open(f"utkface:{tmp_path / 'a.zip'}")
    with little_memory(200e6):
        for number in (0, 1, 2, 1_999):
            with complaint("a.zip", "_0_"):
                dataset.images[number]


def test_links_that_lead_outside_are_not_followed_by_lists(
    tmp_path: Path, complaint: Complaint
) -> None:
    for name in ("others/1.jpg", "secret.jpg", "secrets/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(ONE)
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "1.jpg").symlink_to(tmp_path / "secret.jpg")
    (tmp_path / "people" / "ann").symlink_to(tmp_path / "secrets")
    for name in (
        "1.jpg",
        "ann/1.jpg",
        "../secret.jpg",
        str(tmp_path / "secret.jpg"),
        "a\0.jpg",
        "\ud800.jpg",
    ):
        (tmp_path / "a.json").write_text(json.dumps({"path": [name, name + "x"], "id": [1, 1]}))
        with complaint("a.json", "leads out"):
            data.benchmark(f"megaface:{tmp_path}/a.json:{tmp_path}/people@{tmp_path}/others")


@pytest.mark.parametrize("label", [r'"\ud800"', "[[]]", "1.5", "true"])
def test_labels_that_are_no_text_are_refused(
    label: str, tmp_path: Path, complaint: Complaint
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("1.jpg", ONE), ("1.json", b'{"label": %s}' % label.encode())):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    with complaint("a.tar, '1.json'"):
        data.open(f"webdataset:{tmp_path / 'a.tar'}")
    (tmp_path / "1.jpg").write_bytes(ONE)
    (tmp_path / "a.json").write_text(
        f'{{"path": ["1.jpg"], "id": [{label.replace("true", "null")}]}}'
    )
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "1.jpg").write_bytes(ONE)
    with at_worst_one_line():
        data.benchmark(f"megaface:{tmp_path}/a.json:{tmp_path}@{tmp_path}/others")


def test_a_files_name_cannot_give_orders_to_the_terminal(
    tmp_path: Path, complaint: Complaint
) -> None:
    name = "a\nb\x1b]0;x\x07\u202e" + 40 * "\udc80"
    (tmp_path / name).mkdir()
    (tmp_path / name / "1.jpg").write_bytes(b"no picture")
    dataset = data.open(f"folder:{tmp_path}")
    with complaint(r"a\nb\x1b]0;x\x07\u202e\udc80", "not an image"):
        dataset.images[0]
    with complaint("...", "not an image"):
        images.decode(b"no picture", "x" * 100_000)
