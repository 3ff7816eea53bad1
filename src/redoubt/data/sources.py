"""The datasets that exist: their files, digests, classes and mirrors.

Read while the workflow graph is built, so it imports neither torch nor NumPy and does not use the network.
"""

import hashlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from redoubt.errors import RedoubtError
from redoubt.files import file_digest

OFFICIAL = "official"
ENVIRONMENT = "REDOUBT_DATA_MIRROR"
_MEBIBYTE = 2**20
# A URL may hold the separator itself: after its scheme, inside an IPv6 host and before its port.
_URL = r"https?://(?:\[[^\]]*\]|[^/:;\[\]]*)(?::\d+)?(?:/[^{sep}]*)?"


@dataclass(frozen=True)
class SourceFile:
    """One file of a dataset.

    Attributes:
        path: place below a mirror's root, with forward slashes.
        urls: official https addresses, tried in order; empty when no official address serves it.
        sha256: digest of the file itself; None where copies differ byte by byte.
        md5: the published MD5 of the file itself, checked beside `sha256`.
        content_sha256: digest of the decompressed content of a gzip file.
        size: bytes of the file itself.
        content_size: bytes of the decompressed content.
    """

    path: str
    urls: tuple[str, ...] = ()
    sha256: str | None = None
    md5: str | None = None
    content_sha256: str | None = None
    size: int | None = None
    content_size: int | None = None

    @property
    def limit(self) -> int | None:
        """Bytes beyond which a file of this name cannot be right; None when nothing is known."""
        if self.size is not None:
            return self.size
        # gzip adds a header and at most a few bytes per block to content that does not shrink.
        return None if self.content_size is None else self.content_size + self.content_size // 64 + _MEBIBYTE


@dataclass(frozen=True)
class Source:
    """A dataset.

    Attributes:
        name: the id used in config files and paths.
        title: the name that readers know, used in artifacts.
        shape: (channels, height, width) of an image.
        classes: class names in label order; empty when they are read from the user's folder.
        counts: images per split, `train` and `test`; empty when they are counted in the user's folder.
        layout: which reader unpacks it: `digits`, `idx`, `cifar`, `jpeg`, `imagenet` or `folder`.
        files: what has to be fetched.
    """

    name: str
    title: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    layout: str
    files: tuple[SourceFile, ...] = field(default=())

    @property
    def embedded(self) -> bool:
        """Whether the dataset ships inside a dependency, so that nothing is fetched."""
        return self.layout == "digits"

    def entry(self) -> dict[str, Any]:
        """Return as JSON data what decides the published bytes: all but the addresses that files come from."""
        files = [{key: value for key, value in asdict(file).items() if key != "urls"} for file in self.files]
        return asdict(self) | {"files": files}


def _idx(folder: str, bases: tuple[str, ...], digests: Mapping[str, str]) -> tuple[SourceFile, ...]:
    sizes = {
        "train-images-idx3-ubyte": 16 + 60_000 * 784,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }
    return tuple(
        SourceFile(
            f"{folder}/{name}.gz",
            tuple(f"{base}{name}.gz" for base in bases),
            content_sha256=digests[name],
            content_size=size,
        )
        for name, size in sizes.items()
    )


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    str.split(
        "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
        "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab "
        "crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
        "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
        "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
        "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
        "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
        "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
    )
)
_FASHION = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_TORONTO = "https://www.cs.toronto.edu/~kriz/"
_THUMBNAILS = {"train": 50_000, "test": 10_000}
_GREY = {"train": 60_000, "test": 10_000}
# The digits are numbered 0 to 1796; every fourth, starting with the first, is a test image.
_EMBEDDED = {"train": 1347, "test": 450}

_ALL = (
    Source("digits", "Digits 8x8 (scikit-learn), 28x28", (1, 28, 28), _DIGITS, _EMBEDDED, "digits"),
    Source("digits-rgb", "Digits 8x8 (scikit-learn), coloured 32x32", (3, 32, 32), _DIGITS, _EMBEDDED, "digits"),
    Source(
        "mnist",
        "MNIST",
        (1, 28, 28),
        _DIGITS,
        _GREY,
        "idx",
        _idx(
            "mnist",
            (
                # The authors' own page no longer serves the files; these two hold what it served.
                "https://ossci-datasets.s3.amazonaws.com/mnist/",
                "https://storage.googleapis.com/cvdf-datasets/mnist/",
            ),
            {
                "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
        ),
    ),
    Source(
        "fashion-mnist",
        "Fashion-MNIST",
        (1, 28, 28),
        _FASHION,
        _GREY,
        "idx",
        _idx(
            "fashion-mnist",
            ("https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",),
            {
                "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
        ),
    ),
    Source(
        "cifar10",
        "CIFAR-10",
        (3, 32, 32),
        _CIFAR10,
        _THUMBNAILS,
        "cifar",
        (
            SourceFile(
                "cifar10/cifar-10-binary.tar.gz",
                (_TORONTO + "cifar-10-binary.tar.gz",),
                sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                md5="c32a1d4ab5d03f1284b67883e8d87530",
                size=170_052_171,
            ),
        ),
    ),
    Source(
        "cifar100",
        "CIFAR-100",
        (3, 32, 32),
        _CIFAR100,
        _THUMBNAILS,
        "cifar",
        (
            SourceFile(
                "cifar100/cifar-100-binary.tar.gz",
                (_TORONTO + "cifar-100-binary.tar.gz",),
                sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
                md5="03b5dce01913d631647c71ecec9e9cb8",
                size=168_513_733,
            ),
        ),
    ),
    Source(
        "cifar10-jpeg",
        "CIFAR-10 re-encoded as JPEG",
        (3, 32, 32),
        _CIFAR10,
        _THUMBNAILS,
        "jpeg",
        (
            SourceFile(
                "cifar10-jpeg/cifar10-jpeg.tar.xz",
                sha256="fbee1725ffcd06fd203c9d60bafc911f8c0d91ba44631ca2fdac134c6374799b",
                size=18_557_964,
            ),
        ),
    ),
    Source("imagenet", "ImageNet", (3, 224, 224), (), {}, "imagenet"),
)
SOURCES: dict[str, Source] = {source.name: source for source in _ALL}
PICTURES = (".jpeg", ".jpg", ".png", ".bmp")
MOST_PICTURES = 200_000
MOST_PIXELS = 4 * 2**30


def pictures(name: str, path: str, shape: tuple[int, int, int]) -> Source:
    """Return the dataset of a folder of the user's, known by the digest of all names and bytes in it.

    Raises:
        RedoubtError: there is no such folder, its layout is another, or it holds too much.
    """
    folder, where = local(path), f"data.folders.{name}"
    if all((folder / f"{split}.parquet").is_file() for split in ("train", "test")):
        files = [folder / "train.parquet", folder / "test.parquet"]
    elif all((folder / split).is_dir() for split in ("train", "test")):
        files = sorted(file for split in ("train", "test") for file in (folder / split).rglob("*") if file.is_file())
    else:
        raise RedoubtError(
            f"{where}: {path}: a folder with train/ and test/, or train.parquet and test.parquet, is expected"
        )
    size = sum(file.stat().st_size for file in files)
    if len(files) > MOST_PICTURES or size > MOST_PIXELS:
        raise RedoubtError(
            f"{where}: {path}: {len(files)} files, {size} bytes: at most {MOST_PICTURES} and 4 GiB are read"
        )
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file_digest(file)}\n".encode())
    return Source(name, name, shape, (), {}, "folder", (SourceFile(name, sha256=digest.hexdigest(), size=size),))


def source(name: str) -> Source:
    """Return the dataset called `name`.

    Raises:
        RedoubtError: there is none; the message lists those that exist.
    """
    if name not in SOURCES:
        raise RedoubtError(f"'{name}' is not a dataset; choose one of {', '.join(SOURCES)}")
    return SOURCES[name]


def is_url(mirror: str) -> bool:
    """Whether a mirror is an http(s) address rather than a directory."""
    return mirror.lower().startswith(("https://", "http://"))


def mirrors(configured: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the mirrors to try, in order and each once.

    Args:
        configured: `data.mirrors` of the config: directories, http(s) addresses or `official`.
        environ: the environment; `REDOUBT_DATA_MIRROR` holds more of the same, separated by `os.pathsep`, and
            comes first.

    Returns:
        The list; `['official']` when nothing is given. Without the word `official` in it, only mirrors are
        used.

    Raises:
        RedoubtError: the locale has no way to write one of them.
    """
    pattern = f"{_URL.format(sep=re.escape(os.pathsep))}|[^{re.escape(os.pathsep)}]+"
    given = re.findall(pattern, environ.get(ENVIRONMENT, ""), flags=re.IGNORECASE) + list(configured)
    found = list(dict.fromkeys(mirror.strip() for mirror in given if mirror.strip())) or [OFFICIAL]
    for mirror in found:
        _check_encoding("data.mirrors", mirror)
    return found


def _check_encoding(key: str, place: str) -> None:
    """Refuse a place that the file system's encoding cannot express: no command line could name it."""
    try:
        os.fsencode(place)
    except UnicodeEncodeError:
        lacks = f"{place!a} cannot be written in this locale's encoding ({sys.getfilesystemencoding()})"
        raise RedoubtError(f"config/config.yaml: {key}: {lacks}; set PYTHONUTF8=1, or a UTF-8 locale") from None


def unavailable(name: str, mirrors: Sequence[str], imagenet_folder: Path | str | None, published: Path) -> str | None:
    """Return in one line why a dataset is not available, or None when it is; the network is not used.

    Args:
        name: the dataset.
        mirrors: the resolved list, as `mirrors()` returns it.
        imagenet_folder: `data.imagenet` of the config.
        published: the folder that `download` fills; a dataset published there is available whatever the
            mirrors hold.

    Raises:
        RedoubtError: there is no such dataset, or the locale has no way to write the folder of ImageNet.
    """
    wanted = source(name)
    if wanted.embedded or wanted.layout == "folder" or (Path(published) / "meta.json").is_file():
        return None
    if wanted.layout == "imagenet":
        _check_encoding("data.imagenet", str(imagenet_folder))
        return imagenet_problem(imagenet_folder)
    missing = next((file for file in wanted.files if not _within_reach(file, mirrors)), None)
    if missing is None:
        return None
    remedy = f"add it there, or add '{OFFICIAL}' to data.mirrors" if missing.urls else "add it to one of them"
    if all(mirror == OFFICIAL for mirror in mirrors):
        return f"{name}: {missing.path} has no official source; name a mirror that holds it in data.mirrors"
    return f"{name}: {missing.path} is in none of the data mirrors; {remedy}"


def _within_reach(file: SourceFile, mirrors: Sequence[str]) -> bool:
    for mirror in mirrors:
        if mirror == OFFICIAL:
            found = bool(file.urls)
        else:
            found = is_url(mirror) or tells(Path.is_file, local(mirror) / file.path)
        if found:
            return True
    return False


def local(folder: Path | str) -> Path:
    """Return a folder of the user's with its ~ resolved; one of nobody's home stays as it is written."""
    try:
        return Path(folder).expanduser()
    except RuntimeError:
        return Path(folder)


def tells(kind: Callable[[Path], bool], path: Path) -> bool:
    """Return `kind(path)`, and no where a path cannot be looked at."""
    try:
        return kind(path)
    except OSError:  # not ours to look at, or longer than a path can be
        return False


def imagenet_problem(folder: Path | str | None) -> str | None:
    """Return in one line what is wrong with the user's ImageNet folder, or None."""
    needed = "a folder with train/ and val/, one sub-folder of images per class in each"
    if not folder:
        return f"imagenet: set data.imagenet in config/config.yaml to {needed}"
    absent = [part for part in ("train", "val") if not tells(Path.is_dir, local(folder) / part)]
    if absent:
        return f"imagenet: {folder} has no {absent[0]}/; set data.imagenet in config/config.yaml to {needed}"
    return None
