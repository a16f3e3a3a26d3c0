"""Archives that datasets are prepared from: members outside the target folder are rejected before unpacking."""

import io
import pathlib
import stat
import tarfile
import zipfile

import numpy as np
import pytest

from flaxseg.data.datasets.cityscapes import cityscapes
from flaxseg.data.datasets.oxford_iiit_pet import oxford_iiit_pet
from flaxseg.data.datasets.tfds import tfds
from flaxseg.data.sources.archives import check_members
from flaxseg.errors import DataError

INSIDE = ("annotations/list.txt", "annotations/../..names/a..b.txt", "./annotations/..", "annotations/ /x")


def write_zip(path: pathlib.Path, member: str, link: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("leftImg8bit/", "")
        archive.writestr("leftImg8bit/train/a.png", b"1")
        info = zipfile.ZipInfo(member)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16 if link else 0
        archive.writestr(info, link or b"2")


def write_tar(path: pathlib.Path, member: str, link: str = "", *, kind: bytes = tarfile.SYMTYPE) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name in ("images/a.jpg", member):
            info = tarfile.TarInfo(name)
            if link and name == member:
                info.type, info.linkname = kind, link
                archive.addfile(info)
            else:
                info.size = 1
                archive.addfile(info, io.BytesIO(b"1"))


def write_hard_link(path: pathlib.Path, member: str, link: str) -> None:
    write_tar(path, member, link, kind=tarfile.LNKTYPE)


OUTSIDE = {
    "above": ("../evil.png", ""),
    "above, indirectly": ("images/../../evil.png", ""),
    "an absolute path": ("/evil.png", ""),
    "above, in Windows notation": ("..\\evil.png", ""),
    "another drive": ("C:/evil.png", ""),
    "a link above": ("images/evil", "../../outside"),
    "an absolute link": ("images/evil", "/etc/passwd"),
}


@pytest.mark.parametrize(("member", "link"), OUTSIDE.values(), ids=OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_members_outside_the_folder_are_rejected(tmp_path: pathlib.Path, kind: str, member: str, link: str) -> None:
    archives = tmp_path / "inner" / "archives"
    archives.mkdir(parents=True)
    data_dir = tmp_path / "inner" / "data"
    if kind == "zip":
        name, read = "gtFine_trainvaltest.zip", cityscapes
        write_zip(archives / "leftImg8bit_trainvaltest.zip", "leftImg8bit/train/b.png")
        write_zip(archives / name, member, link)
    else:
        name, read = "annotations.tar.gz", oxford_iiit_pet
        write_tar(archives / "images.tar.gz", "images/b.jpg")
        write_tar(archives / name, member, link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError) as caught:
        read("train", data_dir=str(data_dir), manual_dir=str(archives))
    message = str(caught.value)
    assert message.startswith(f"{archives / name}: its member {member} ")
    assert "points outside the folder that it is unpacked into" in message
    assert "Nothing was unpacked: download the archive again" in message
    assert f"(a link to {'images/' * (not link.startswith('/'))}{link})" in message or not link
    assert sorted(tmp_path.rglob("*")) == before


def test_a_hard_link_to_the_outside_is_rejected(tmp_path: pathlib.Path) -> None:
    write_hard_link(tmp_path / "a.tar.gz", "images/evil", "../outside")
    with pytest.raises(DataError, match=r"its member images/evil \(a link to \.\./outside\) points outside"):
        check_members(str(tmp_path / "a.tar.gz"))


@pytest.mark.parametrize("member", INSIDE)
def test_members_inside_the_folder_pass(tmp_path: pathlib.Path, member: str) -> None:
    write_zip(tmp_path / "a.zip", member)
    write_tar(tmp_path / "a.tar.gz", member)
    check_members(str(tmp_path / "a.zip"))
    check_members(str(tmp_path / "a.tar.gz"))


def test_links_inside_the_folder_pass(tmp_path: pathlib.Path) -> None:
    write_zip(tmp_path / "a.zip", "images/link", "../images/a.jpg")
    write_tar(tmp_path / "a.tar.gz", "images/link", "../images/a.jpg")
    write_hard_link(tmp_path / "b.tar.gz", "images/link", "images/a.jpg")
    for name in ("a.zip", "a.tar.gz", "b.tar.gz"):
        check_members(str(tmp_path / name))


def test_unknown_archives_of_a_dataset_are_checked_too(tmp_path: pathlib.Path) -> None:
    (tmp_path / "readme.txt").write_text("how to get the archives")
    write_zip(tmp_path / "gtFine_trainvaltest.zip", "../evil.png")
    features = {"image_key": "image_left", "mask_key": "segmentation_label", "values": (7, 8)}
    with pytest.raises(DataError, match=r"gtFine_trainvaltest\.zip: its member \.\./evil\.png points outside"):
        tfds("train", name="cityscapes", data_dir=str(tmp_path / "data"), manual_dir=str(tmp_path), **features)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_damaged_archive_is_named(tmp_path: pathlib.Path, mode: str) -> None:
    path = tmp_path / "images.tar.gz"
    with tarfile.open(path, mode) as archive:
        info = tarfile.TarInfo("images/a.jpg")
        info.size = 5000
        archive.addfile(info, io.BytesIO(np.random.default_rng(0).bytes(info.size)))
    check_members(str(path))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"images\.tar\.gz: cannot be read .* is truncated or damaged: download"):
        check_members(str(path))


def test_a_name_of_implausible_length_is_not_read(tmp_path: pathlib.Path) -> None:
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo("././@LongLink")
        info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**24
        archive.addfile(info, io.BytesIO(bytes(info.size)))
    assert (tmp_path / "a.tar.gz").stat().st_size < 2**15
    with pytest.raises(DataError, match=r"a\.tar\.gz: cannot be read \(a name of 16,777,216 bytes\); it is truncated"):
        check_members(str(tmp_path / "a.tar.gz"))


def test_a_zip_of_an_unknown_version_is_an_error(tmp_path: pathlib.Path) -> None:
    write_zip(tmp_path / "a.zip", "b")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index(b"PK\x01\x02") + 6] = 128
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.zip: cannot be read \(zip file version 12\.8\)"):
        check_members(str(tmp_path / "a.zip"))
