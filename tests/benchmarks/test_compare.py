"""The comparison of rates and of memory with those of a peer."""

import argparse

from networks import CASES, Case, selected

from benchmarks import compare, cpu_settings, memory

CASE = Case("unet", "efficientnet_b0", "efficientnet-b0", 4, 256)


def test_both_sides_get_the_same_work():
    flags = argparse.Namespace(
        peer="torch/python", peer_script="peer.py", python=["a/python", "b/python"], devices=[1, 2], compile=True
    )
    sides = compare.sides(CASE, flags, ["--steps", "3", "--bf16"])
    same = ["--batch", "4", "--size", "256", "--encoder"]
    timing = ["--steps", "3", "--bf16"]
    assert sides["peer"] == [
        "torch/python", "peer.py", "--arch", "unet", *same, "efficientnet-b0", *timing, "--compile"
    ]  # fmt: skip
    for name, python, devices in (("0", "a/python", "1"), ("1", "b/python", "2")):
        command = sides[name]
        assert command[0] == python and command[1].endswith("benchmarks/step.py")
        assert command[2:] == ["--model", "unet", *same, "efficientnet_b0", *timing, "--devices", devices]


def test_a_rate_is_the_time_of_the_peer_divided_by_ours():
    def times(train, infer):
        return {"train": {"wall_min": train}, "infer": {"wall_min": infer}}

    sides = {"peer": [times(2.0, 1.0), times(3.0, 1.0)], "0": [times(1.0, 2.0), times(1.0, 4.0)]}
    name, work, train, infer = compare.rows({CASE: sides}, 1)[0]
    assert (name, work) == ("`unet-efficientnet_b0`", "4, 256")
    assert train == {"median": 2.5, "lowest": 2.0, "highest": 3.0}
    assert infer == {"median": 0.375, "lowest": 0.25, "highest": 0.5}


def test_memory_is_that_of_flaxseg_divided_by_that_of_the_peer():
    peaks = {"compiling": [1500], "cached": [900], "peer": [600]}
    runs = {name: [{"peak_rss_mib": peak} for peak in each] for name, each in peaks.items()}
    _, _, *sizes, compiling, cached = memory.row(CASE, runs)
    assert sizes == ["1500 MiB", "900 MiB", "600 MiB"]
    assert (compiling["median"], cached["median"]) == (2.5, 1.5)


def test_networks_are_selected_by_name_with_another_batch():
    flags = argparse.Namespace(case=["plain_unet", "unet-resnet34"], batch=1, size=None)
    assert [(case.name, case.batch, case.size) for case in selected(flags)] == [
        ("plain_unet", 1, 128),
        ("unet-resnet34", 1, 256),
    ]
    every = argparse.Namespace(case=None, batch=None, size=None)
    assert tuple(selected(every)) == CASES


def test_a_setting_of_the_cpu_changes_nothing_else():
    settings = cpu_settings.sides(CASE, "a/python", 3)
    usual = settings["usual"]
    assert usual[0] == "a/python" and usual[-2:] == ["--steps", "3"]
    assert settings["small pages"] == ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=0", *usual]
    assert settings["two devices"] == [*usual, "--devices", "2"]
    times = {"usual": (2.0, 1.0), "small pages": (3.0, 1.0), "two devices": (1.0, 0.5)}
    runs = {name: [{"train": {"wall_min": a}, "infer": {"wall_min": b}}] for name, (a, b) in times.items()}
    name, work, *found = cpu_settings.row(CASE, runs)
    assert (name, work) == ("`unet-efficientnet_b0`", "4, 256")
    assert [each["median"] for each in found] == [1.5, 1, 0.5, 0.5]
