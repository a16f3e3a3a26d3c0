"""The image files in a folder, by their paths without extension."""

import os
import unicodedata

SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".npy")
_MAX_SHOWN = 10


def list_image_files(folder: str, suffix: str = "", exclude: str = "") -> list[str]:
    """Returns the paths below `folder` of all image files, without hidden ones.

    Args:
      folder: the folder to search, including its subfolders.
      suffix: the ending that a file name without its extension must have.
      exclude: a subfolder to omit; "" for none.
    """
    found, pending, seen = [], [""], {os.path.realpath(exclude)} if exclude else set()
    while pending:
        below = pending.pop()
        # Without this check, a link back to a parent folder would be followed forever.
        real_path = os.path.realpath(os.path.join(folder, below))
        if real_path in seen:
            continue
        seen.add(real_path)
        with os.scandir(os.path.join(folder, below)) as entries:
            for entry in entries:
                path = os.path.join(below, entry.name)
                stem, extension = os.path.splitext(entry.name)
                if entry.name.startswith("."):
                    continue
                if extension.lower() in SUFFIXES and stem.endswith(suffix):
                    found.append(path)
                elif entry.is_dir():
                    pending.append(path)
    return found


def files_by_stem(
    folder: str, suffix: str, problems: list[str], *, exclude_suffix: str = "", exclude: str = ""
) -> dict[str, str]:
    """Returns the path below `folder` of each image file, by its stem: the path without suffix and extension.

    Args:
      folder: the folder to search, including its subfolders.
      suffix: the ending that a file name without its extension must have.
      problems: a description of each problem is appended to this list.
      exclude_suffix: files whose name ends in this, before the extension, are omitted; "" for none.
      exclude: a subfolder to omit; "" for none.
    """
    if not os.path.isdir(folder):
        problems.append(f"the folder {folder} does not exist{nearest_content(folder)}")
        return {}
    by_stem: dict[str, str] = {}
    known = len(problems)
    for path in sorted(list_image_files(folder, suffix, exclude)):
        if any("\udc80" <= character <= "\udcff" for character in path):
            # Python stands these for the bytes; such a name could be written to no text file and no figure.
            problems.append(f"the name of {path!r} in {folder} is not UTF-8: rename it, for example with convmv")
            continue
        # Some systems store an accented letter as one character, others as two that look the same.
        name = unicodedata.normalize("NFC", os.path.splitext(path)[0])
        if exclude_suffix and name.endswith(exclude_suffix):
            continue
        stem = name.removesuffix(suffix).replace(os.sep, "/")
        if stem in by_stem:
            problems.append(f"{by_stem[stem]} and {path} in {folder} have the same stem: keep one of them")
        by_stem[stem] = path
    if not by_stem and len(problems) == known:
        problems.append(f"the folder {folder} contains no images" + (f" named *{suffix}.*" if suffix else ""))
    return by_stem


def is_same_folder(folder: str, other: str) -> bool:
    """Returns whether two paths lead to the same folder."""
    return os.path.realpath(folder) == os.path.realpath(other)


def nearest_content(folder: str) -> str:
    """Returns the content of the nearest existing parent of a missing folder, in parentheses."""
    parent = os.path.dirname(folder)
    while parent and not os.path.isdir(parent) and parent != os.path.dirname(parent):
        parent = os.path.dirname(parent)
    try:
        names = sorted(name for name in os.listdir(parent or ".") if not name.startswith("."))
    except OSError:
        return ""
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return f" ({parent or '.'} contains {', '.join(names[:_MAX_SHOWN]) or 'nothing'}{more})"
