"""What a cache of a frozen encoder's features requires of the other keys."""

from collections.abc import Iterator, Mapping
from typing import Any

from flaxseg.augment import is_off


def feature_cache_errors(values: Mapping[str, Any]) -> Iterator[str]:
    """Yields the errors of `data.cache` and `data.cache_views` with other keys.

    Args:
      values: the value of every key that is valid alone.
    """
    views, augment = values.get("data.cache_views", 0), _augmentation(values)
    if values.get("data.cache") != "features":
        if views and "data.cache" in values:
            yield f"config.data.cache_views = {views}: only data.cache = 'features' has views; use that, or 0 views"
        return
    key = "config.data.cache = 'features'"
    if values.get("data.resize") == "keep":
        yield (
            f"{key}: images that keep their sizes (data.resize = 'keep') are cropped at random; use data.cache = "
            "'host', or data.resize = 'stretch'"
        )
    if values.get("optimizer.freeze") == ():
        yield f"{key}: optimizer.freeze = () leaves the encoder learning, so its features change; freeze 'encoder'"
    if augment and not views and "data.cache_views" in values:
        yield (
            f"{key}: cached features do not change, but {', '.join(augment)} would change images at random; set "
            "data.cache_views to a number of augmented views of each image, or switch the augmentation off"
        )
    if views and not augment:
        yield f"config.data.cache_views = {views}: without augmentation, all views are the same; use 0, or augment"


def _augmentation(values: Mapping[str, Any]) -> list[str]:
    """Returns the keys of the augmentations that are on."""
    settings = {name: value for name, value in values.items() if name.startswith("augment.")}
    return [name for name, value in settings.items() if not is_off(name.removeprefix("augment."), value)]
